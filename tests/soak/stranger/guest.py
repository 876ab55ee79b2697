"""A peer with a real session, which can also send invalid packets."""

import asyncio
import contextlib
import re
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import httpx
from aiortc import MediaStreamTrack, RTCConfiguration, RTCPeerConnection, RTCSessionDescription

from tests.soak.client import EncodedCamera, cached_clip, ports
from tests.soak.stranger.send import send_at_rate
from tests.waiting import TEST_TIMEOUT

if TYPE_CHECKING:
    from tests.soak.stranger.environment import Environment

SDP_HEADERS = {"Content-Type": "application/sdp"}


class Guest:
    """``role`` is ``both``, ``publish`` or ``view``. Without a ``camera`` (None) it sends the sample clip. With ""
    it sends no video, so that only the attempt's load is measured: face tracking costs more than most packets do.
    """

    def __init__(
        self,
        env: "Environment",
        role: str = "publish",
        *,
        name: str = "mallory",
        camera: MediaStreamTrack | str | None = None,
        sound: MediaStreamTrack | None = None,
        change: Callable[[str], str] = lambda sdp: sdp,
        session: str = "",
    ) -> None:
        self.env, self.role, self.name, self.change, self.session = env, role, name, change, session
        self.pc = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        self.seen = 0  # pictures received
        self.answer = self.location = ""
        self.status = 0
        if role == "view":
            self.pc.addTransceiver("video", direction="recvonly")
            return
        direction = "sendrecv" if role == "both" else "sendonly"
        track: Any = EncodedCamera(cached_clip(env.clip)) if camera is None else camera or "video"
        self.camera = track
        self.pc.addTransceiver(track, direction=direction)
        self.pc.addTransceiver(sound or "audio", direction="sendonly")

    async def connect(self, *, wait: bool = True) -> httpx.Response:
        """Send the offer, apply the answer and wait for the connection; raises AssertionError if there is none."""
        path = {"both": "/session", "publish": "/whip", "view": f"/whep/{self.session or 'bystander'}"}[self.role]
        await self.pc.setLocalDescription(await self.pc.createOffer())
        offer = self.change(self.pc.localDescription.sdp)
        query = {"session": self.session} if self.session and self.role != "view" else {}
        async with self.env.http(self.name) as client:
            response = await client.post(path, params=query, content=offer, headers=SDP_HEADERS)
        self.status = response.status_code
        if response.status_code == 201:
            self.answer, self.location = response.text, response.headers["location"]
            for receiver in self.pc.getReceivers():
                self._count(receiver)
            await self.pc.setRemoteDescription(RTCSessionDescription(response.text, "answer"))
            if wait:
                until = asyncio.get_running_loop().time() + TEST_TIMEOUT
                while self.pc.connectionState in ("new", "connecting") and asyncio.get_running_loop().time() < until:
                    await asyncio.sleep(0.05)
                assert self.pc.connectionState == "connected", f"the guest is {self.pc.connectionState}"
        return response

    @asynccontextmanager
    async def connected(self) -> AsyncIterator["Guest"]:
        """A context manager that connects and at the end leaves."""
        response = await self.connect()
        try:
            assert response.status_code == 201, f"the guest got {response.status_code}: {response.text[:200]}"
            yield self
        finally:
            await self.leave()

    async def wait_for_pictures(self, count: int) -> None:
        """Wait until ``count`` pictures have come, the guest is disconnected, or the patience is over."""
        until = asyncio.get_running_loop().time() + TEST_TIMEOUT
        while self.seen < count and self.live and asyncio.get_running_loop().time() < until:
            await asyncio.sleep(0.05)

    @property
    def live(self) -> bool:
        """Whether the guest's side is connected."""
        return bool(self.pc.connectionState == "connected")

    @property
    def port(self) -> tuple[str, int]:
        """The address and UDP port at which the server receives the guest's media."""
        return ports(self.answer)[0]

    @property
    def dtls(self) -> Any:
        """aiortc's DTLS transport."""
        return (self.pc.getSenders() or self.pc.getReceivers())[0].transport

    def payload(self, codec: str) -> int:
        """The negotiated payload type of ``VP8``, ``H264``, ``opus``, ``PCMU``, ``rtx``; else raises LookupError."""
        found = re.search(rf"^a=rtpmap:(\d+) {codec}/", self.answer, re.MULTILINE)
        if not found:
            raise LookupError(f"the server did not agree to {codec}")
        return int(found[1])

    def ssrc(self, kind: str = "video") -> int:
        """The SSRC of its offer."""
        return next(int(s._ssrc) for s in self.pc.getSenders() if s.kind == kind)

    def peers_ssrc(self) -> int:
        """The SSRC of the server's stream; 0 if the answer names none."""
        found = re.search(r"^a=ssrc:(\d+)", self.answer, re.MULTILINE)
        return int(found[1]) if found else 0

    async def send_encrypted(self, packets: list[bytes], rate: float, seconds: float) -> int:
        """Send RTP or RTCP packets in a cycle, encrypted (SRTP); returns how many were sent."""
        return await send_at_rate(self.encrypting_sender(), packets, rate, seconds)

    def encrypting_sender(self) -> Callable[[bytes], None]:
        """A function that encrypts and sends one RTP or RTCP packet."""
        session, connection = self.dtls._tx_srtp, self._socket()

        def one(packet: bytes) -> None:
            secret = session.protect_rtcp if 192 <= packet[1] <= 223 else session.protect
            with contextlib.suppress(Exception):  # libsrtp itself refuses what it cannot encrypt
                connection(secret(packet))

        return one

    async def send_datagrams(self, packets: list[bytes], rate: float, seconds: float) -> int:
        """Send datagrams in a cycle, unencrypted, over the validated candidate pair; returns how many were sent."""
        return await send_at_rate(self._socket(), packets, rate, seconds)

    def _count(self, receiver: Any) -> None:
        """Count pictures by RTP's marker bit instead of decoding them, which would load the machine."""

        async def listen(packet: Any, arrival_time_ms: int) -> None:
            self.seen += bool(packet.marker)

        receiver._handle_rtp_packet = listen

    def _socket(self) -> Callable[[bytes], None]:
        ice = self.dtls.transport._connection
        pair = next(iter(ice._nominated.values()))
        transport, address = pair.protocol.transport, pair.remote_addr
        return lambda data: None if transport.is_closing() else transport.sendto(data, address)

    async def leave(self, how: str = "delete") -> None:
        """``delete``: DELETE the session; ``dtls``: only close the connection; ``vanish``: stop sending."""
        if how == "delete" and self.location:
            with contextlib.suppress(httpx.HTTPError):
                async with self.env.http(self.name) as client:
                    await client.delete(self.location)
        if how == "vanish":
            with contextlib.suppress(Exception):
                for protocol in self.dtls.transport._connection._protocols:
                    protocol.transport.sendto = lambda *_: None
        with contextlib.suppress(Exception):
            await asyncio.wait_for(self.pc.close(), 5)


@asynccontextmanager
async def idle_guest(env: "Environment", role: str = "publish") -> AsyncIterator[Guest]:
    """A guest that sends nothing; the baseline has been measured beside it."""
    async with Guest(env, role, camera="").connected() as guest:
        await env.count_beside_idle_guest()
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
    """An RTP packet (RFC 3550, 5.1); ``extension`` is the whole header extension, with profile and length."""
    head = first | (0x10 if extension else 0)
    fields = (head, payload_type | marker << 7, number & 0xFFFF, stamp & 0xFFFFFFFF, ssrc & 0xFFFFFFFF)
    return struct.pack("!BBHII", *fields) + extension + payload
