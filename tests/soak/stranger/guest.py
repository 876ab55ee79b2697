"""A session of the stranger's own: a real peer that can send what no peer should."""

import asyncio
import contextlib
import re
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import httpx
from aiortc import MediaStreamTrack, RTCConfiguration, RTCPeerConnection, RTCSessionDescription

from tests.soak.client import EncodedCamera, kept_clip, ports
from tests.soak.stranger.send import at_rate
from tests.waiting import PATIENCE

if TYPE_CHECKING:
    from tests.soak.stranger.world import World

SDP = {"Content-Type": "application/sdp"}


class Guest:
    """``role`` is ``both``, ``publish`` or ``view``. A ``camera`` that is None is the sample clip; with "" nothing is
    sent, so that an attempt alone is counted: following a face costs a neighbour more than most packets do.
    """

    def __init__(
        self,
        world: "World",
        role: str = "publish",
        *,
        name: str = "mallory",
        camera: MediaStreamTrack | str | None = None,
        sound: MediaStreamTrack | None = None,
        change: Callable[[str], str] = lambda sdp: sdp,
        session: str = "",
    ) -> None:
        self.world, self.role, self.name, self.change, self.session = world, role, name, change, session
        self.pc = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        self.seen = 0  # pictures that came
        self.answer = self.location = ""
        self.status = 0
        if role == "view":
            self.pc.addTransceiver("video", direction="recvonly")
            return
        direction = "sendrecv" if role == "both" else "sendonly"
        track: Any = EncodedCamera(kept_clip(world._clip)) if camera is None else camera or "video"
        self.camera = track
        self.pc.addTransceiver(track, direction=direction)
        self.pc.addTransceiver(sound or "audio", direction="sendonly")

    async def connect(self, *, wait: bool = True) -> httpx.Response:
        """Offer, take the answer, and wait until the connection is there; raises AssertionError if it never is."""
        path = {"both": "/session", "publish": "/whip", "view": f"/whep/{self.session or 'bystander'}"}[self.role]
        await self.pc.setLocalDescription(await self.pc.createOffer())
        offer = self.change(self.pc.localDescription.sdp)
        query = {"session": self.session} if self.session and self.role != "view" else {}
        async with self.world.http(self.name) as client:
            response = await client.post(path, params=query, content=offer, headers=SDP)
        self.status = response.status_code
        if response.status_code == 201:
            self.answer, self.location = response.text, response.headers["location"]
            for receiver in self.pc.getReceivers():
                self._count(receiver)
            await self.pc.setRemoteDescription(RTCSessionDescription(response.text, "answer"))
            if wait:
                until = asyncio.get_running_loop().time() + PATIENCE
                while self.pc.connectionState in ("new", "connecting") and asyncio.get_running_loop().time() < until:
                    await asyncio.sleep(0.05)
                assert self.pc.connectionState == "connected", f"the guest is {self.pc.connectionState}"
        return response

    @asynccontextmanager
    async def joined(self) -> AsyncIterator["Guest"]:
        """Connected; leaves at the end."""
        response = await self.connect()
        try:
            assert response.status_code == 201, f"the guest got {response.status_code}: {response.text[:200]}"
            yield self
        finally:
            await self.leave()

    async def pictures(self, count: int) -> None:
        """Wait for so many that were sent here."""
        until = asyncio.get_running_loop().time() + PATIENCE
        while self.seen < count and self.live and asyncio.get_running_loop().time() < until:
            await asyncio.sleep(0.05)

    @property
    def live(self) -> bool:
        """Still connected, as seen from here."""
        return bool(self.pc.connectionState == "connected")

    @property
    def port(self) -> tuple[str, int]:
        """Where the server listens for it."""
        return ports(self.answer)[0]

    @property
    def dtls(self) -> Any:
        """aiortc's DTLS transport."""
        return (self.pc.getSenders() or self.pc.getReceivers())[0].transport

    def payload(self, codec: str) -> int:
        """The payload type that was agreed on for ``VP8``, ``H264``, ``opus``, ``PCMU``, ``rtx``."""
        found = re.search(rf"^a=rtpmap:(\d+) {codec}/", self.answer, re.MULTILINE)
        if not found:
            raise LookupError(f"the server did not agree to {codec}")
        return int(found[1])

    def ssrc(self, kind: str = "video") -> int:
        """The source that its offer named."""
        return next(int(s._ssrc) for s in self.pc.getSenders() if s.kind == kind)

    def peers_ssrc(self) -> int:
        """The source of what the server sends here."""
        found = re.search(r"^a=ssrc:(\d+)", self.answer, re.MULTILINE)
        return int(found[1]) if found else 0

    async def protected(self, packets: list[bytes], rate: float, seconds: float) -> int:
        """Send RTP or RTCP packets, encrypted as they should be, around and around at a rate; how many were sent."""
        return await at_rate(self.sender(), packets, rate, seconds)

    def sender(self) -> Callable[[bytes], None]:
        """Sends one RTP or RTCP packet, encrypted."""
        session, connection = self.dtls._tx_srtp, self._socket()

        def one(packet: bytes) -> None:
            secret = session.protect_rtcp if 192 <= packet[1] <= 223 else session.protect
            with contextlib.suppress(Exception):  # libsrtp itself refuses what it cannot encrypt
                connection(secret(packet))

        return one

    async def raw(self, packets: list[bytes], rate: float, seconds: float) -> int:
        """Send datagrams as they are, over the pair that ICE validated."""
        return await at_rate(self._socket(), packets, rate, seconds)

    def _count(self, receiver: Any) -> None:
        """In place of decoding, which would load the machine: the last packet of a picture is marked."""

        async def listen(packet: Any, arrival_time_ms: int) -> None:
            self.seen += bool(packet.marker)

        receiver._handle_rtp_packet = listen

    def _socket(self) -> Callable[[bytes], None]:
        ice = self.dtls.transport._connection
        pair = next(iter(ice._nominated.values()))
        transport, address = pair.protocol.transport, pair.remote_addr
        return lambda data: None if transport.is_closing() else transport.sendto(data, address)

    async def leave(self, how: str = "delete") -> None:
        """``delete``: by HTTP; ``dtls``: by closing the connection only; ``vanish``: without a word."""
        if how == "delete" and self.location:
            with contextlib.suppress(httpx.HTTPError):
                async with self.world.http(self.name) as client:
                    await client.delete(self.location)
        if how == "vanish":
            with contextlib.suppress(Exception):
                for protocol in self.dtls.transport._connection._protocols:
                    protocol.transport.sendto = lambda *_: None
        with contextlib.suppress(Exception):
            await asyncio.wait_for(self.pc.close(), 5)


@asynccontextmanager
async def quiet_guest(world: "World", role: str = "publish") -> AsyncIterator[Guest]:
    """A guest who sends nothing, beside whom the bystander has been counted."""
    async with Guest(world, role, camera="").joined() as guest:
        await world.count_beside()
        yield guest


def rtp(
    payload_type: int,
    number: int,
    stamp: int,
    ssrc: int,
    payload: bytes = b"",
    *,
    marker: bool = False,
    extension: bytes = b"",
    first: int = 0x80,
) -> bytes:
    """An RTP packet (RFC 3550, 5.1); ``extension`` is all of it, profile and length included."""
    head = first | (0x10 if extension else 0)
    fields = (head, payload_type | marker << 7, number & 0xFFFF, stamp & 0xFFFFFFFF, ssrc & 0xFFFFFFFF)
    return struct.pack("!BBHII", *fields) + extension + payload
