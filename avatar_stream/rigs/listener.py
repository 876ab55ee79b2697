"""Listens for motion on a UDP port, whichever of the known protocols it comes in."""

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

GREETING_SECONDS: Final = 1.0  # seconds between greetings to a phone that does not send yet
MAX_DATAGRAM_BYTES: Final = 65536
SILENCE_SECONDS: Final = 5.0  # seconds without motion after which a person is told
SENDER_PRESENT_SECONDS: Final = 1.0  # seconds since a datagram in which its sender is taken to be still there
_FADE_FRAME_SECONDS: Final = 1 / 30  # seconds between frames that let go


class MotionDecoder:
    """Datagrams of VMC or of a phone, told apart by themselves; ``clock`` gives seconds.

    When no frame comes any more, the last one's blend shapes go to 0 within a second, in frames that :meth:`poll`
    gives. Its head stays: where rest is, only who is moved knows.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._vmc = clock, VmcDecoder(clock)
        self._last: ArkitFrame | None = None
        self.last_frame_time = -math.inf
        """When a frame last came, by the clock."""
        self._next_fade_frame = -math.inf  # when one that lets go is due

    def __call__(self, packet: bytes) -> ArkitFrame | None:
        """The frame that this datagram completes."""
        if packet[:1] in (b"/", b"#"):
            try:
                return self._keep(self._vmc.add(messages(packet)))
            except (ParseError, ValueError, IndexError, UnicodeDecodeError, RecursionError):
                return None
        return self._keep(parse_phone(packet))

    def wait_seconds(self) -> float:
        """Seconds until :meth:`poll` has a frame if nothing comes; infinite if it will not."""
        letting_go = math.inf if self._last is None else max(self._next_fade_frame - self._clock(), 0.0)
        return min(self._vmc.wait_seconds(), letting_go)

    def poll(self) -> ArkitFrame | None:
        """The frame that is due without a datagram: one that a pause has ended, or one that lets go."""
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
    """The newest frame that came to ``port``; older ones give way.

    A sender that stops lets go: its blend shapes go to 0 within a second. ``phone`` is the address of a phone whose
    app waits to be greeted. ``clock`` gives seconds. Raises ``BadInput`` where the port is taken.
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
        """Datagrams, of whatever kind."""
        self._opened, self._reported_silence = (
            clock(),
            -math.inf,
        )  # when; and the beginning of the last silence that was told of
        self._unknown, self._unknown_at = b"", -math.inf  # the last datagram that made no frame, and when it came
        self._closed = False
        self._thread = threading.Thread(target=self._listen, name="rig", daemon=True)
        self._thread.start()

    def take(self, timeout: float) -> ArkitFrame | None:
        """Wait for a frame that was not taken yet; None after ``timeout`` seconds without one."""
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
        """A line for a person, once each time that no motion came for ``SILENCE_SECONDS`` seconds; otherwise None."""
        now, moved = self._clock(), self._decode.last_frame_time
        began = max(moved, self._opened)
        if began == self._reported_silence or now - began < SILENCE_SECONDS:
            return None
        self._reported_silence = began
        other = self._unknown if now - self._unknown_at < SENDER_PRESENT_SECONDS else b""
        where = f"{SILENCE_SECONDS:.0f} seconds without motion at UDP port {self.port}"
        if b"/VMC/Ext/" in other:
            return f"{where}: a VMC sender is there and sends no motion: load a model there, and start its tracking"
        if other:
            return f"{where}: what comes there is neither VMC nor iFacialMocap nor Facemotion3d"
        if moved > -math.inf:
            return f"{where}: the sender has stopped, or sends elsewhere now"
        if self._phone:
            return f"{where}: open the app on the phone, in this network, and see that {self._phone} is its address"
        local = "; other machines are heard with 0.0.0.0: before the port" if self.host == "127.0.0.1" else ""
        return f"{where}: switch the program's VMC sender on, to this machine and this port{local}"

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
                continue  # an answer that nobody listens there
            frame = frame or self._decode.poll()
            if frame is not None:
                with self._changed:
                    self._frame = frame
                    self._changed.notify_all()

    def _greet_phone(self) -> None:
        with contextlib.suppress(OSError):  # not on the network yet: greeted again
            self._socket.sendto(GREETING, (self._phone, PHONE_PORT))
