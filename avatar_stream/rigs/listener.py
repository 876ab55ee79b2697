"""Listens for motion on a UDP port, whichever of the known protocols it comes in."""

import contextlib
import socket
import threading
import time
from typing import Any, Final

from pythonosc.osc_packet import OscPacket, ParseError

from avatar_stream.errors import BadInput
from avatar_stream.face.arkit import ArkitFrame
from avatar_stream.rigs.phone import HELLO, PHONE_PORT, parse_phone
from avatar_stream.rigs.vmc import VmcDecoder

KNOCK: Final = 1.0  # seconds between greetings to a phone that does not send yet
LARGEST: Final = 65536


class Decoder:
    """Datagrams of VMC or of a phone, told apart by themselves."""

    def __init__(self) -> None:
        self._vmc = VmcDecoder()

    def __call__(self, packet: bytes) -> ArkitFrame | None:
        """The frame that this datagram completes."""
        if packet[:1] in (b"/", b"#"):
            try:
                return self._vmc.add(_messages(packet))
            except (ParseError, ValueError, IndexError, UnicodeDecodeError, RecursionError):
                return None
        return parse_phone(packet)


class RigListener:
    """The newest frame that came to ``port``; older ones give way.

    ``phone`` is the address of a phone whose app waits to be asked. Raises ``BadInput`` where the port is taken.
    """

    def __init__(self, port: int, host: str = "127.0.0.1", *, phone: str = "") -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            self._socket.bind((host, port))
        except OSError as error:
            self._socket.close()
            reason = error.strerror or error
            raise BadInput(f"cannot listen on UDP port {port} ({reason}): is another program using it?") from None
        self._socket.settimeout(KNOCK)
        self.port = int(self._socket.getsockname()[1])
        self._phone, self._decode = phone, Decoder()
        self._news = threading.Condition()
        self._frame: ArkitFrame | None = None
        self._closed = False
        self._thread = threading.Thread(target=self._listen, name="rig", daemon=True)
        self._thread.start()

    def take(self, timeout: float) -> ArkitFrame | None:
        """Wait for a frame that was not taken yet; None after ``timeout`` seconds without one."""
        with self._news:
            self._news.wait_for(lambda: self._frame is not None or self._closed, timeout)
            frame, self._frame = self._frame, None
            return frame

    def close(self) -> None:
        """Stop listening."""
        with self._news:
            self._closed = True
            self._news.notify_all()
        self._thread.join()
        self._socket.close()

    def _listen(self) -> None:
        asked = 0.0
        while not self._closed:
            if self._phone and time.monotonic() - asked > KNOCK:
                asked = time.monotonic()
                self._ask()
            try:
                packet, _ = self._socket.recvfrom(LARGEST)
            except TimeoutError:
                continue
            except OSError:
                continue  # an answer that nobody listens there
            asked = time.monotonic()
            frame = self._decode(packet)
            if frame is not None:
                with self._news:
                    self._frame = frame
                    self._news.notify_all()

    def _ask(self) -> None:
        with contextlib.suppress(OSError):  # not on the network yet: asked again
            self._socket.sendto(HELLO, (self._phone, PHONE_PORT))


def _messages(packet: bytes) -> list[tuple[str, list[Any]]]:
    return [(timed.message.address, list(timed.message.params)) for timed in OscPacket(packet).messages]
