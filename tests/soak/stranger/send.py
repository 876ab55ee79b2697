"""Sending at a rate, and datagrams of whoever knows a port."""

import asyncio
import contextlib
import random
import socket
import time
from collections.abc import Callable, Sequence

STEP = 0.005  # seconds between two bursts


async def at_rate(send: Callable[[bytes], object], packets: Sequence[bytes], rate: float, seconds: float) -> int:
    """Send ``packets`` around and around, ``rate`` of them a second; how many were sent."""
    began, sent = time.monotonic(), 0
    while (passed := time.monotonic() - began) < seconds:
        due = min(int(rate * passed) + 1, sent + int(rate * 0.1) + 1)  # never more than a tenth of a second at once
        while sent < due:
            send(packets[sent % len(packets)])
            sent += 1
        await asyncio.sleep(STEP)
    return sent


class Stranger:
    """A UDP socket that nobody has told the server of. What comes back is counted."""

    def __init__(self, to: tuple[str, int]) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._to = to

    def send(self, data: bytes) -> None:
        """One datagram; nothing where the socket is full."""
        with contextlib.suppress(OSError):
            self._socket.sendto(data, self._to)

    async def send_all(self, packets: Sequence[bytes], rate: float, seconds: float) -> int:
        """See :func:`at_rate`."""
        return await at_rate(self.send, packets, rate, seconds)

    def heard(self) -> list[bytes]:
        """What has come back."""
        found = []
        with contextlib.suppress(OSError):
            while True:
                found.append(self._socket.recv(4096))
        return found

    def close(self) -> None:
        """End."""
        self._socket.close()


def noise(chance: random.Random, length: int, first: int | None = None) -> bytes:
    """Random bytes, the first of them as said."""
    data = bytearray(chance.randbytes(length))
    if first is not None and data:
        data[0] = first
    return bytes(data)
