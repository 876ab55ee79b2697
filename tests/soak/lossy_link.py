"""A UDP link that loses, delays and reorders packets, both ways. ``tc netem`` would need root."""

import asyncio
import random
import re
from typing import Any

Address = tuple[str, int]


class LossyLink:
    """Forwards datagrams between one client and the server. The same seed gives the same losses and delays."""

    def __init__(self, loss: float, delay: float, jitter: float, seed: int = 7) -> None:
        """``loss`` is a share; ``delay`` and ``jitter`` are seconds, each way."""
        self.loss, self.delay, self.jitter = loss, delay, jitter
        self.passed = self.lost = 0
        self._chance = random.Random(seed)
        self._sides: list[asyncio.DatagramTransport] = []

    async def redirect(self, answer: str) -> str:
        """The server's SDP answer with this link's addresses instead of its IPv4 UDP candidates."""
        out = []
        for line in answer.splitlines(keepends=True):
            words = line.split()
            if line.startswith("a=candidate:"):
                if words[2].lower() != "udp" or ":" in words[4]:
                    continue
                host, port = await self._open((words[4], int(words[5])))
                line = re.sub(r"( \d+ )\S+ \d+ typ", rf"\g<1>{host} {port} typ", line)
            out.append(line)
        return "".join(out)

    def close(self) -> None:
        """Close the sockets."""
        for side in self._sides:
            side.close()

    async def _open(self, server: Address) -> Address:
        loop = asyncio.get_running_loop()
        near, far = _Side(self), _Side(self)
        local = ("127.0.0.1", 0) if server[0].startswith("127.") else ("0.0.0.0", 0)
        one, _ = await loop.create_datagram_endpoint(lambda: near, local_addr=local)
        two, _ = await loop.create_datagram_endpoint(lambda: far, remote_addr=server)
        near.other, far.other = far, near
        self._sides += [one, two]
        host = server[0]
        return (host, one.get_extra_info("sockname")[1])

    def forward(self, data: bytes, to: "_Side") -> None:
        """Send a datagram later, or lose it."""
        if self._chance.random() < self.loss:
            self.lost += 1
            return
        self.passed += 1
        wait = self.delay + self._chance.random() * self.jitter
        asyncio.get_running_loop().call_later(wait, to.send, data)


class _Side(asyncio.DatagramProtocol):
    def __init__(self, link: LossyLink) -> None:
        self._link = link
        self._transport: Any = None
        self._peer: Address | None = None
        self.other: _Side | None = None

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self._peer = addr
        if self.other is not None:
            self._link.forward(data, self.other)

    def send(self, data: bytes) -> None:
        """Send to the server, or to the client address that last sent here."""
        if self._transport.is_closing():
            return
        if self._transport.get_extra_info("peername"):
            self._transport.sendto(data)
        elif self._peer is not None:
            self._transport.sendto(data, self._peer)
