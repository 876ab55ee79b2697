"""Receives motion on a UDP port, in any of the supported protocols."""

import contextlib
import math
import socket
import threading
import time
from collections.abc import Callable
from typing import Final

from pythonosc.osc_packet import ParseError

from avatar_stream.errors import BadInput
from avatar_stream.face.arkit import ArkitFrame
from avatar_stream.rigs.clips import FADE_SECONDS, HOLD_SECONDS
from avatar_stream.rigs.osc import messages
from avatar_stream.rigs.phone import GREETING, PHONE_PORT, parse_phone
from avatar_stream.rigs.vmc import VmcDecoder

GREETING_SECONDS: Final = 1.0  # between greetings to a phone that does not send yet
MAX_DATAGRAM_BYTES: Final = 65536
SILENCE_SECONDS: Final = 5.0  # without motion, until silence() reports it
SENDER_PRESENT_SECONDS: Final = 1.0  # after a datagram, in which its sender counts as present
_FADE_FRAME_SECONDS: Final = 1 / 30  # between frames of a fade


class MotionDecoder:
    """Decodes datagrams of VMC and of phones, and recognizes which they are; ``clock`` returns seconds.

    When frames stop, :meth:`poll` returns frames in which the last frame's blend shapes fade to 0 within a second.
    The head pose stays, because only the receiver of the frames knows the pose at rest.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._vmc = clock, VmcDecoder(clock)
        self._last: ArkitFrame | None = None
        self.last_frame_time = -math.inf
        """When the last frame was received, in seconds of the clock."""
        self._next_fade_frame = -math.inf  # when the next frame of a fade is due

    def __call__(self, packet: bytes) -> ArkitFrame | None:
        """Decode a datagram; returns the frame that it completes, or None."""
        if packet[:1] in (b"/", b"#"):
            try:
                return self._keep(self._vmc.add(messages(packet)))
            except (ParseError, ValueError, IndexError, UnicodeDecodeError, RecursionError):
                return None
        return self._keep(parse_phone(packet))

    def wait_seconds(self) -> float:
        """Seconds until :meth:`poll` returns a frame if no datagram comes; infinity if it will not."""
        fade = math.inf if self._last is None else max(self._next_fade_frame - self._clock(), 0.0)
        return min(self._vmc.wait_seconds(), fade)

    def poll(self) -> ArkitFrame | None:
        """The frame that is due without a datagram: one completed by a pause, or one of a fade."""
        if (frame := self._keep(self._vmc.poll())) is not None:
            return frame
        now, last = self._clock(), self._last
        if last is None or now < self._next_fade_frame:
            return None
        share = min(max((self.last_frame_time + HOLD_SECONDS + FADE_SECONDS - now) / FADE_SECONDS, 0.0), 1.0)
        self._next_fade_frame = now + _FADE_FRAME_SECONDS
        if share == 0:
            self._last = None
        return ArkitFrame({name: share * value for name, value in last.shapes.items()}, last.rotation, last.position)

    def _keep(self, frame: ArkitFrame | None) -> ArkitFrame | None:
        if frame is not None:
            self.last_frame_time = self._clock()
            self._next_fade_frame = self.last_frame_time + HOLD_SECONDS + _FADE_FRAME_SECONDS
            self._last = frame if any(frame.shapes.values()) else None
        return frame


class RigListener:
    """Receives motion on UDP ``port`` and keeps the newest frame.

    When a sender stops, its blend shapes fade to 0 within a second. ``phone`` is the address of a phone whose app
    sends only after a greeting. ``clock`` returns seconds. Raises ``BadInput`` if the port is in use.
    """

    def __init__(
        self,
        port: int,
        host: str = "127.0.0.1",
        *,
        phone: str = "",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            self._socket.bind((host, port))
        except OSError as error:
            self._socket.close()
            reason = error.strerror or error
            raise BadInput(f"cannot listen on UDP port {port} ({reason}): is another program using it?") from None
        self.host, self.port = (str(self._socket.getsockname()[0]), int(self._socket.getsockname()[1]))
        self._phone, self._clock, self._decode = phone, clock, MotionDecoder(clock)
        self._changed = threading.Condition()
        self._frame: ArkitFrame | None = None
        self.received = 0
        """Number of datagrams received, of any kind."""
        self._opened_at = clock()
        self._reported_silence = -math.inf  # when the silence began that was reported last
        self._unknown, self._unknown_at = b"", -math.inf  # the last datagram without a frame, and its time
        self._closed = False
        self._thread = threading.Thread(target=self._listen, name="rig", daemon=True)
        self._thread.start()

    def take(self, timeout: float) -> ArkitFrame | None:
        """Wait for a new frame; None if none comes within ``timeout`` seconds."""
        with self._changed:
            self._changed.wait_for(lambda: self._frame is not None or self._closed, timeout)
            frame, self._frame = self._frame, None
            return frame

    def close(self) -> None:
        """Stop listening."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join()
        self._socket.close()

    def silence(self) -> str | None:
        """A message for the user if no motion came for ``SILENCE_SECONDS``, once per silence; otherwise None."""
        now, moved = self._clock(), self._decode.last_frame_time
        began = max(moved, self._opened_at)
        if began == self._reported_silence or now - began < SILENCE_SECONDS:
            return None
        self._reported_silence = began
        other = self._unknown if now - self._unknown_at < SENDER_PRESENT_SECONDS else b""
        where = f"{SILENCE_SECONDS:.0f} seconds without motion at UDP port {self.port}"
        if b"/VMC/Ext/" in other:
            return f"{where}: a VMC sender is there but sends no motion: load a model there and start its tracking"
        if other:
            return f"{where}: the datagrams there are neither VMC nor iFacialMocap nor Facemotion3d"
        if moved > -math.inf:
            return f"{where}: the sender has stopped, or sends to another address"
        if self._phone:
            return f"{where}: open the app on the phone, in this network, and check that {self._phone} is its address"
        local = "; to receive from other machines, put 0.0.0.0: before the port" if self.host == "127.0.0.1" else ""
        return f"{where}: switch on the program's VMC sender, with this machine and this port as receiver{local}"

    def _listen(self) -> None:
        greeted = -math.inf
        while not self._closed:
            if self._phone and time.monotonic() - greeted > GREETING_SECONDS:
                greeted = time.monotonic()
                self._greet_phone()
            frame = None
            self._socket.settimeout(min(max(self._decode.wait_seconds(), 0.001), GREETING_SECONDS))
            try:
                packet, _ = self._socket.recvfrom(MAX_DATAGRAM_BYTES)
                greeted = time.monotonic()
                frame = self._decode(packet)
                if frame is None:
                    self._unknown, self._unknown_at = packet, self._clock()
                self.received += 1
            except TimeoutError:
                pass
            except OSError:
                continue  # an ICMP error: nobody listens on the phone's port
            frame = frame or self._decode.poll()
            if frame is not None:
                with self._changed:
                    self._frame = frame
                    self._changed.notify_all()

    def _greet_phone(self) -> None:
        with contextlib.suppress(OSError):  # not in the network yet: the next greeting may get through
            self._socket.sendto(GREETING, (self._phone, PHONE_PORT))
