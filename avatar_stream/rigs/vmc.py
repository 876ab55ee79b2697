"""The VMC protocol (https://protocol.vmc.info, version 2.7): motion over OSC, which VSeeFace and Warudo support.

Blend shapes are sent under their "perfect sync" names (ARKit's, capitalized), and as plain VRM clips;
:mod:`avatar_stream.rigs.clips` mixes what is received. Axes are Unity's (x to the person's right, y up, z ahead), so
x changes sign. A bone's rotation is relative to its parent's.
"""

import math
import socket
import time
from collections.abc import Callable, Iterable
from typing import Any, Final

from pythonosc.osc_bundle_builder import IMMEDIATELY, OscBundleBuilder
from pythonosc.osc_message_builder import OscMessageBuilder
from scipy.spatial.transform import Rotation

from avatar_stream.errors import BadInput
from avatar_stream.face.arkit import BLEND_SHAPES, EYE_TURN_RADIANS, MAX_ABSOLUTE_VALUE, ArkitFrame
from avatar_stream.rigs.clips import HOLD_SECONDS, BlendShapeMixer, FadingValue

VMC_PORT: Final = 39539  # a receiver's usual port (the protocol calls it Marionette)
_PERFECT_SYNC_NAMES: Final = {name: name[0].upper() + name[1:] for name in BLEND_SHAPES}
_SPINE_BONES: Final = ("spine", "chest", "upperchest", "neck", "head")  # root first; together they rotate the head
_EYE_BONES: Final = {"lefteye": "Left", "righteye": "Right"}
_READ_BONES: Final = frozenset(_SPINE_BONES) | frozenset(_EYE_BONES)
_MAX_EYE_TURN_RADIANS: Final = 1.0  # an eye bone turned further rests that way: its rotation is not gaze
# For senders that do not mark the end of a frame: a pause without messages that ends it, the longest time from its
# first message to its end, and the shortest time between frames (SlimeVR sends several hundred bundles a second).
_FRAME_END_PAUSE_SECONDS: Final = 0.01
_MAX_FRAME_SECONDS: Final = 0.05
_MIN_FRAME_PERIOD_SECONDS: Final = 0.01
_NECK_SHARE: Final = 0.5  # of the head's rotation


class VmcSender:
    """Sends frames to ``host`` and ``port`` by UDP, whether or not anyone listens there.

    Raises ``BadInput`` if ``host`` cannot be resolved.
    """

    def __init__(self, host: str = "127.0.0.1", port: int = VMC_PORT) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            self._address = (socket.gethostbyname(host), port)
        except OSError:
            self._socket.close()
            raise BadInput(f"no machine is called {host}: check the name, or use an IP address") from None

    def send(self, frame: ArkitFrame, time: float) -> None:
        """Send a frame, with its ``time`` in seconds."""
        for packet in encode(frame, time):
            self._socket.sendto(packet, self._address)

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()


def encode(frame: ArkitFrame, time: float) -> list[bytes]:
    """Encode a frame as datagrams, each under 1,400 bytes so that no network fragments it."""
    head = Rotation.from_quat(frame.rotation)
    neck = Rotation.from_rotvec(head.as_rotvec() * _NECK_SHARE)
    messages: list[tuple[str, list[Any]]] = [("/VMC/Ext/OK", [1]), ("/VMC/Ext/T", [float(time)])]
    bones = {
        "Neck": neck,
        "Head": neck.inv() * head,
        "RightEye": _eye_rotation(frame, "Right", 1),
        "LeftEye": _eye_rotation(frame, "Left", -1),
    }
    for name, turn in bones.items():
        x, y, z, w = (float(v) for v in turn.as_quat())
        messages.append(("/VMC/Ext/Bone/Pos", [name, 0.0, 0.0, 0.0, x, -y, -z, w]))
    shapes = {_PERFECT_SYNC_NAMES[name]: frame.shapes.get(name, 0.0) for name in BLEND_SHAPES} | _plain_vrm_clips(
        frame
    )
    messages += [("/VMC/Ext/Blend/Val", [name, float(value)]) for name, value in shapes.items()]
    messages.append(("/VMC/Ext/Blend/Apply", []))
    return [_bundle(messages[k : k + 24]) for k in range(0, len(messages), 24)]


class VmcDecoder:
    """Assembles frames from the protocol's messages.

    ``/VMC/Ext/Blend/Apply`` ends a frame. Senders of bones alone do not send it; their frames end with
    ``/VMC/Ext/OK``, with a bone that comes again, or with a short pause, after which :meth:`poll` returns the frame.
    Values that are no longer sent fade to 0 (see :class:`~avatar_stream.rigs.clips.FadingValue`). ``clock`` returns
    seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._face = clock, BlendShapeMixer()
        self._bone_rotations = {name: FadingValue(3) for name in _SPINE_BONES}  # rotation vectors, in ARKit's axes
        self._new_bones: set[str] = set()  # received since the last frame
        self._new_values = 0  # number of blend shape values received since
        self._first_arrival = self._last_arrival = -math.inf  # times of the first and the last of them
        self._last_apply = self._last_frame_made = -math.inf  # times of the last Apply and frame

    def add(self, messages: Iterable[tuple[str, list[Any]]]) -> ArkitFrame | None:
        """Add messages (address, arguments); returns the last frame that they complete, or None.

        Messages that do not follow the protocol are ignored.
        """
        now, frame, ended = self._clock(), None, False
        for address, arguments in messages:
            match address, arguments:
                case "/VMC/Ext/Blend/Val", [str(name), float() | int() as value] if abs(value) <= MAX_ABSOLUTE_VALUE:
                    self._face.update_shape(name, min(max(float(value), 0.0), 1.0), now)
                    self._note_arrival(now)
                    self._new_values += 1
                case "/VMC/Ext/Bone/Pos", [str(name), _, _, _, *turn] if (
                    name.lower() in _READ_BONES and len(turn) == 4
                ):
                    if all(isinstance(v, float | int) for v in turn) and 0.5 < sum(v * v for v in turn) < 2:
                        if name in self._new_bones and now - self._last_frame_made >= _MIN_FRAME_PERIOD_SECONDS:
                            frame = self._make_frame(now)
                        self._update_bone(name, turn, now)
                case "/VMC/Ext/Blend/Apply", _:
                    self._last_apply = now
                    frame = self._make_frame(now)
                case "/VMC/Ext/OK", _:
                    ended = True
        # Some senders put OK before the bones of its bundle, some after them.
        if (
            ended
            and self._new_bones
            and not self._new_values
            and not self._sends_apply()
            and now - self._last_frame_made >= _MIN_FRAME_PERIOD_SECONDS
        ):
            frame = self._make_frame(now)
        return frame

    def wait_seconds(self) -> float:
        """Seconds until :meth:`poll` returns a frame if no message comes; infinity if it will not."""
        if self._sends_apply() or not (self._new_bones or self._new_values):
            return math.inf
        return max(
            min(self._last_arrival + _FRAME_END_PAUSE_SECONDS, self._first_arrival + _MAX_FRAME_SECONDS)
            - self._clock(),
            0.0,
        )

    def poll(self) -> ArkitFrame | None:
        """The frame that a pause has completed, or None."""
        return self._make_frame(self._clock()) if self.wait_seconds() == 0 else None

    def _sends_apply(self) -> bool:
        """Whether the sender marks the end of frames with Apply: then nothing else ends one."""
        return self._last_arrival - self._last_apply < HOLD_SECONDS

    def _note_arrival(self, now: float) -> None:
        """Note that a part of a frame was received."""
        if not (self._new_bones or self._new_values):
            self._first_arrival = now
        self._last_arrival = now

    def _update_bone(self, name: str, turn: list[float], now: float) -> None:
        self._note_arrival(now)
        self._new_bones.add(name)
        x, y, z, w = turn
        vector = Rotation.from_quat([x, -y, -z, w]).as_rotvec()
        down, right, roll = (float(v) for v in vector)
        if (bone := name.lower()) in self._bone_rotations:
            self._bone_rotations[bone].update((down, right, roll), now)
        elif math.hypot(down, right, roll) < _MAX_EYE_TURN_RADIANS:
            self._face.update_eye(_EYE_BONES[bone], right, down, now)

    def _make_frame(self, now: float) -> ArkitFrame:
        self._last_frame_made, self._new_values = now, 0
        self._new_bones.clear()
        head = Rotation.identity()
        for track in self._bone_rotations.values():
            head = head * Rotation.from_rotvec(track.value_at(now))
        x, y, z, w = (float(v) for v in head.as_quat())
        return ArkitFrame(self._face.shapes(now), (x, y, z, w))


def _eye_rotation(frame: ArkitFrame, side: str, inwards: float) -> Rotation:
    """An eye's rotation in ARKit's axes; ``inwards`` is 1 if the viewer sees the nose on the eye's right."""

    def shape(which: str) -> float:
        return frame.shapes.get(f"eyeLook{which}{side}", 0.0)

    right, down = (
        (shape("In") - shape("Out")) * inwards * EYE_TURN_RADIANS[0],
        (shape("Down") - shape("Up")) * EYE_TURN_RADIANS[1],
    )
    return Rotation.from_rotvec([down, right, 0])


def _plain_vrm_clips(frame: ArkitFrame) -> dict[str, float]:
    """VRM's plain clips, for models without ARKit's shapes."""

    def shape(name: str) -> float:
        if name in BLEND_SHAPES:
            return frame.shapes.get(name, 0.0)
        return (frame.shapes.get(f"{name}Left", 0.0) + frame.shapes.get(f"{name}Right", 0.0)) / 2

    jaw, round_ = shape("jawOpen"), max(shape("mouthFunnel"), shape("mouthPucker"))
    wide = max(shape("mouthStretch"), shape("mouthSmile"))
    return {
        "A": min(1.5 * jaw * (1 - round_) * (1 - 0.5 * wide), 1.0),
        "I": min(0.8 * wide * (1 - jaw), 1.0),
        "U": min(shape("mouthPucker") * (1 - jaw), 1.0),
        "E": min(1.5 * jaw * wide, 1.0),
        "O": min(1.5 * jaw * round_, 1.0),
        "Blink_L": shape("eyeBlinkLeft"),
        "Blink_R": shape("eyeBlinkRight"),
        "Joy": shape("mouthSmile"),
    }


def _bundle(messages: list[tuple[str, list[Any]]]) -> bytes:
    bundle = OscBundleBuilder(IMMEDIATELY)
    for address, arguments in messages:
        message = OscMessageBuilder(address)
        for argument in arguments:
            message.add_arg(argument)
        bundle.add_content(message.build())
    return bytes(bundle.build().dgram)
