"""The VMC protocol (https://protocol.vmc.info, version 2.7): motion over OSC, as VSeeFace and Warudo speak it.

Blend shapes go by their "perfect sync" names, ARKit's with a capital; plain VRM ones go beside them, and are read
where there are no others. Axes are Unity's (x to the person's right, y up, z ahead), so that x is turned round.
"""

import socket
from collections.abc import Iterable
from typing import Any, Final

from pythonosc.osc_bundle_builder import IMMEDIATELY, OscBundleBuilder
from pythonosc.osc_message_builder import OscMessageBuilder
from scipy.spatial.transform import Rotation

from avatar_stream.errors import BadInput
from avatar_stream.face.arkit import LOOK, MAX_NUMBER, NAMES, ArkitFrame

VMC_PORT: Final = 39539  # a receiver's usual port (a marionette's, in the protocol's words)
_PASCAL: Final = {name: name[0].upper() + name[1:] for name in NAMES}
_BY_LOWER: Final = {name.lower(): name for name in NAMES}
# What VRM's own clips mean in ARKit's shapes (VRM 0 names, and VRM 1 names after them).
_PRESETS: Final[dict[str, dict[str, float]]] = {
    "a": {"jawOpen": 0.6},
    "i": {"jawOpen": 0.12, "mouthStretchLeft": 0.5, "mouthStretchRight": 0.5},
    "u": {"jawOpen": 0.15, "mouthPucker": 0.8},
    "e": {"jawOpen": 0.3, "mouthStretchLeft": 0.3, "mouthStretchRight": 0.3},
    "o": {"jawOpen": 0.4, "mouthFunnel": 0.7},
    "blink": {"eyeBlinkLeft": 1, "eyeBlinkRight": 1},
    "blink_l": {"eyeBlinkLeft": 1},
    "blink_r": {"eyeBlinkRight": 1},
    "joy": {"mouthSmileLeft": 0.8, "mouthSmileRight": 0.8, "cheekSquintLeft": 0.4, "cheekSquintRight": 0.4},
    "angry": {"browDownLeft": 0.8, "browDownRight": 0.8},
    "sorrow": {"browInnerUp": 0.7, "mouthFrownLeft": 0.6, "mouthFrownRight": 0.6},
    "fun": {"mouthSmileLeft": 0.6, "mouthSmileRight": 0.6},
}
_ALIASES: Final = {
    "aa": "a", "ih": "i", "ou": "u", "ee": "e", "oh": "o", "blinkleft": "blink_l", "blinkright": "blink_r",
    "happy": "joy", "sad": "sorrow", "relaxed": "fun",
}  # fmt: skip
_NECK: Final = 0.5  # of a head's turn that its neck does


class VmcSender:
    """Sends frames to ``host`` and ``port`` by UDP; nobody has to listen there."""

    def __init__(self, host: str = "127.0.0.1", port: int = VMC_PORT) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            self._address = (socket.gethostbyname(host), port)
        except OSError:
            self._socket.close()
            raise BadInput(f"no machine is called {host}") from None

    def send(self, frame: ArkitFrame, time: float) -> None:
        """Send a frame with its ``time`` in seconds."""
        for packet in encode(frame, time):
            self._socket.sendto(packet, self._address)

    def close(self) -> None:
        """Give the socket back."""
        self._socket.close()


def encode(frame: ArkitFrame, time: float) -> list[bytes]:
    """The datagrams of a frame, each under 1,400 bytes so that no network takes it apart."""
    head = Rotation.from_quat(frame.rotation)
    neck = Rotation.from_rotvec(head.as_rotvec() * _NECK)
    messages: list[tuple[str, list[Any]]] = [("/VMC/Ext/OK", [1]), ("/VMC/Ext/T", [float(time)])]
    bones = {
        "Neck": neck,
        "Head": neck.inv() * head,
        "RightEye": _eye(frame, "Right", 1),
        "LeftEye": _eye(frame, "Left", -1),
    }
    for name, turn in bones.items():
        x, y, z, w = (float(v) for v in turn.as_quat())
        messages.append(("/VMC/Ext/Bone/Pos", [name, 0.0, 0.0, 0.0, x, -y, -z, w]))
    shapes = {_PASCAL[name]: frame.shapes.get(name, 0.0) for name in NAMES} | _plain(frame)
    messages += [("/VMC/Ext/Blend/Val", [name, float(value)]) for name, value in shapes.items()]
    messages.append(("/VMC/Ext/Blend/Apply", []))
    return [_bundle(messages[k : k + 24]) for k in range(0, len(messages), 24)]


class VmcDecoder:
    """Puts frames together from the protocol's messages, which arrive one by one."""

    def __init__(self) -> None:
        self._shapes: dict[str, float] = {}
        self._presets: dict[str, float] = {}
        self._turns = {"Neck": Rotation.identity(), "Head": Rotation.identity()}

    def add(self, messages: Iterable[tuple[str, list[Any]]]) -> ArkitFrame | None:
        """Take (address, arguments) in; a frame where one is complete, the last where several are.

        Messages that are not of the protocol, or not as it says, are passed over.
        """
        frame = None
        for address, arguments in messages:
            match address, arguments:
                case "/VMC/Ext/Blend/Val", [str(name), float() | int() as value] if abs(value) <= MAX_NUMBER:
                    self._take(name.lower(), min(max(float(value), 0.0), 1.0))
                case "/VMC/Ext/Bone/Pos", [str(name), _, _, _, *turn] if name in self._turns and len(turn) == 4:
                    if all(isinstance(v, float | int) for v in turn) and 0.5 < sum(v * v for v in turn) < 2:
                        x, y, z, w = turn
                        self._turns[name] = Rotation.from_quat([x, -y, -z, w])
                case "/VMC/Ext/Blend/Apply", _:
                    frame = self._frame()
        return frame

    def _take(self, name: str, value: float) -> None:
        if name in _BY_LOWER:
            self._shapes[_BY_LOWER[name]] = value
        elif (preset := _ALIASES.get(name, name)) in _PRESETS:
            self._presets[preset] = value

    def _frame(self) -> ArkitFrame:
        shapes = dict(self._shapes)
        if not shapes:
            for preset, value in self._presets.items():
                for name, share in _PRESETS[preset].items():
                    shapes[name] = min(shapes.get(name, 0.0) + share * value, 1.0)
        x, y, z, w = (float(v) for v in (self._turns["Neck"] * self._turns["Head"]).as_quat())
        return ArkitFrame(shapes, (x, y, z, w))


def _eye(frame: ArkitFrame, side: str, inwards: float) -> Rotation:
    """How far an eye is turned, in ARKit's axes; the nose lies to the viewer's right of the right eye."""

    def shape(which: str) -> float:
        return frame.shapes.get(f"eyeLook{which}{side}", 0.0)

    right, down = (shape("In") - shape("Out")) * inwards * LOOK[0], (shape("Down") - shape("Up")) * LOOK[1]
    return Rotation.from_rotvec([down, right, 0])


def _plain(frame: ArkitFrame) -> dict[str, float]:
    """VRM's plain clips, for models that have no others."""

    def shape(name: str) -> float:
        if name in NAMES:
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
