"""Sends packets at a rate, and datagrams from an unknown address."""

import asyncio
import contextlib
import random
import socket
import time
from collections.abc import Callable, Sequence

BURST_INTERVAL = 0.005  # seconds


async def send_at_rate(send: Callable[[bytes], object], packets: Sequence[bytes], rate: float, seconds: float) -> int:
    """Send ``packets`` in a cycle, ``rate`` of them a second, for ``seconds``; returns how many were sent."""
    began, sent = time.monotonic(), 0
    while (passed := time.monotonic() - began) < seconds:
        due = min(int(rate * passed) + 1, sent + int(rate * 0.1) + 1)  # never more than a tenth of a second at once
        while sent < due:
            send(packets[sent % len(packets)])
            sent += 1
        await asyncio.sleep(BURST_INTERVAL)
    return sent


class StrangerSocket:
    """A UDP socket whose address the server does not know. Counts answers."""

    def __init__(self, to: tuple[str, int]) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._to = to

    def send(self, data: bytes) -> None:
        """Send one datagram; drop it if the socket's buffer is full."""
        with contextlib.suppress(OSError):
            self._socket.sendto(data, self._to)

    async def send_all(self, packets: Sequence[bytes], rate: float, seconds: float) -> int:
        """See :func:`send_at_rate`."""
        return await send_at_rate(self.send, packets, rate, seconds)

    def received(self) -> list[bytes]:
        """The datagrams that came back since the last call."""
        found = []
        with contextlib.suppress(OSError):
            while True:
                found.append(self._socket.recv(4096))
        return found

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()


def noise(chance: random.Random, length: int, first: int | None = None) -> bytes:
    """Random bytes; ``first`` sets the first of them."""
    data = bytearray(chance.randbytes(length))
    if first is not None and data:
        data[0] = first
    return bytes(data)
