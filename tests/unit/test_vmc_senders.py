"""VMC of different senders: packets as each of them makes them, and the decoded frames.

Sources of their formats: VNyan's and SlimeVR's published code, a Python sender of OpenSeeFace's tracking, and the
protocol's own sample for the rest. Axes are Unity's: a positive y turns to the person's right, a positive x down.
"""

import math
import socket
from collections.abc import Iterable, Iterator, Mapping

import pytest
from pythonosc.osc_bundle_builder import IMMEDIATELY, OscBundleBuilder
from pythonosc.osc_message_builder import OscMessageBuilder
from scipy.spatial.transform import Rotation

from avatar_stream.cli.main import main
from avatar_stream.face.arkit import BLEND_SHAPES, EYE_TURN_RADIANS, ArkitFrame
from avatar_stream.rigs.listener import SILENCE_SECONDS, MotionDecoder, RigListener
from avatar_stream.rigs.vmc import encode
from tests.waiting import TEST_TIMEOUT, wait_until

OK, T, ROOT, BONE = "/VMC/Ext/OK", "/VMC/Ext/T", "/VMC/Ext/Root/Pos", "/VMC/Ext/Bone/Pos"
VALUE, APPLY = "/VMC/Ext/Blend/Val", "/VMC/Ext/Blend/Apply"
# In the order of Unity's HumanBodyBones, without fingers.
BODY_BONES = [
    "Hips", "LeftUpperLeg", "RightUpperLeg", "LeftLowerLeg", "RightLowerLeg", "LeftFoot", "RightFoot", "Spine",
    "Chest", "Neck", "Head", "LeftShoulder", "RightShoulder", "LeftUpperArm", "RightUpperArm", "LeftLowerArm",
    "RightLowerArm", "LeftHand", "RightHand", "LeftToes", "RightToes", "LeftEye", "RightEye", "Jaw", "UpperChest",
]  # fmt: skip
VRM_0_CLIPS = [
    "Neutral", "A", "I", "U", "E", "O", "Blink", "Joy", "Angry", "Sorrow", "Fun", "LookUp", "LookDown", "LookLeft",
    "LookRight", "Blink_L", "Blink_R",
]  # fmt: skip

REST_TRANSFORM = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0)  # zero position and rotation

Message = tuple[str, list[object]]
Turns = Mapping[str, tuple[float, float, float]]


class Clock:
    """A clock that advances only by the test."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Rig:
    """Feeds a sender's packets to a decoder, with simulated time between them."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.decode = MotionDecoder(self.clock)
        self.frames: list[ArkitFrame] = []

    def send(self, packets: Iterable[bytes], seconds: float = 1 / 60) -> None:
        """Send packets at once, then let time pass without packets."""
        for packet in packets:
            self._keep(self.decode(packet))
        self.wait(seconds)

    def wait(self, seconds: float) -> None:
        end = self.clock.now + seconds
        while (due := self.clock.now + self.decode.wait_seconds()) <= end:
            self.clock.now = due
            self._keep(self.decode.poll())
        self.clock.now = end

    @property
    def last(self) -> ArkitFrame:
        return self.frames[-1]

    def _keep(self, frame: ArkitFrame | None) -> None:
        if frame is not None:
            self.frames.append(frame)


def packet(address: str, *arguments: object) -> bytes:
    builder = OscMessageBuilder(address)
    for argument in arguments:
        builder.add_arg(argument)  # type: ignore[arg-type]
    return builder.build().dgram


def bundle(messages: Iterable[Message]) -> bytes:
    builder = OscBundleBuilder(IMMEDIATELY)
    for address, arguments in messages:
        message = OscMessageBuilder(address)
        for argument in arguments:
            message.add_arg(argument)  # type: ignore[arg-type]
        builder.add_content(message.build())
    return builder.build().dgram


def bones(turns: Turns, names: Iterable[str] = BODY_BONES, sign: float = 1) -> list[Message]:
    """Bone messages; ``turns`` are rotation vectors in Unity's axes, ``sign`` multiplies the quaternions."""
    found: list[Message] = []
    for name in names:
        quaternion = [sign * float(v) for v in Rotation.from_rotvec(turns.get(name, (0, 0, 0))).as_quat()]
        found.append((BONE, [name, 0.0, 0.1, 0.0, *quaternion]))
    return found


def values(shapes: dict[str, float]) -> list[Message]:
    return [(VALUE, [name, float(value)]) for name, value in shapes.items()]


def head_rotation(frame: ArkitFrame) -> tuple[float, float]:
    """Radians to the person's right, and down."""
    down, left, _ = (float(v) for v in Rotation.from_quat(frame.rotation).as_rotvec())
    return -left, down


def vseeface(turns: Turns, shapes: dict[str, float]) -> list[bytes]:
    """As in the protocol's sample: bones in several bundles, blend shapes in one that ends with Apply, then OK."""
    body = bones(turns)
    return [
        packet(ROOT, "root", *REST_TRANSFORM),
        *(bundle(body[k : k + 12]) for k in range(0, len(body), 12)),
        bundle([*values(shapes), (APPLY, [])]),
        packet(OK, 1),
        packet(T, 1.0),
    ]


def vnyan(turns: Turns, shapes: dict[str, float]) -> list[bytes]:
    """Its VMC plugin with "no bundles": one message per datagram, without hips."""
    messages: list[Message] = [*bones(turns, BODY_BONES[1:]), *values(shapes), (APPLY, []), (OK, [1]), (T, [1.0])]
    return [packet(ROOT, "root", *REST_TRANSFORM), *(packet(address, *given) for address, given in messages)]


def warudo(turns: Turns, shapes: dict[str, float]) -> list[bytes]:
    """One bundle with all messages, and OK of version 2.7."""
    return [bundle([(OK, [1, 3, 0, 1]), (T, [1.0]), *bones(turns), *values(shapes), (APPLY, [])])]


def slimevr(turns: Turns) -> list[bytes]:
    """Time, OK and all bones in one bundle, with negated quaternions; no blend shapes."""
    return [bundle([(T, [1.0]), (OK, [1]), (ROOT, ["root", *REST_TRANSFORM]), *bones(turns, sign=-1)])]


def webcam(turns: Turns, shapes: dict[str, float], *, apply: bool = True) -> list[bytes]:
    """A Python script: one message per datagram, OK first, only tracked bones, some names twice."""
    messages: list[Message] = [(OK, [1, 3, 1]), (T, [1.0]), *bones(turns, turns), *values(shapes)]
    messages += values({name[0].upper() + name[1:]: value for name, value in shapes.items()})
    messages += [(APPLY, [])] if apply else []
    return [packet(address, *given) for address, given in messages]


def zero_shapes(names: Iterable[str]) -> dict[str, float]:
    return dict.fromkeys(names, 0.0)


def perfect_sync(**moving: float) -> dict[str, float]:
    """All clips of a "perfect sync" model: VRM's own and ARKit's with a capital."""
    return zero_shapes(VRM_0_CLIPS) | zero_shapes(name[0].upper() + name[1:] for name in BLEND_SHAPES) | moving


def talking() -> Iterator[float]:
    """The opening of a talking mouth, for two seconds of frames."""
    for k in range(120):
        yield 0.5 + 0.3 * math.sin(k / 5)


def test_vseeface_with_a_plain_model() -> None:
    rig = Rig()
    turns = {"Head": (0, 0.2, 0), "Neck": (0, 0.1, 0), "LeftEye": (0, -0.3, 0), "RightEye": (0, -0.3, 0)}
    for _ in range(30):
        rig.send(vseeface(turns, zero_shapes(VRM_0_CLIPS) | {"A": 0.5, "Blink_L": 1.0}))
    assert len(rig.frames) == 30
    assert rig.last.shapes["jawOpen"] == pytest.approx(0.3)
    assert rig.last.shapes["eyeBlinkLeft"] == 1 > rig.last.shapes["eyeBlinkRight"]
    # Eye bones give the gaze: to the person's left, which is towards the nose for the right eye.
    assert rig.last.shapes["eyeLookOutLeft"] == pytest.approx(0.3 / EYE_TURN_RADIANS[0])
    assert rig.last.shapes["eyeLookInRight"] == pytest.approx(0.3 / EYE_TURN_RADIANS[0])
    assert rig.last.shapes["eyeLookInLeft"] == rig.last.shapes["eyeLookOutRight"] == 0
    assert head_rotation(rig.last) == pytest.approx((0.3, 0))


def test_vseeface_with_a_perfect_sync_model() -> None:
    rig = Rig()
    for open_ in talking():
        # The model's rules also set its plain clips, which say the same less precisely.
        rig.send(vseeface({}, perfect_sync(JawOpen=open_, MouthFunnel=0.3, A=1.0, EyeLookUpLeft=0.5)))
        assert rig.last.shapes["jawOpen"] == pytest.approx(open_)
    assert rig.last.shapes["mouthFunnel"] == pytest.approx(0.3)
    assert rig.last.shapes["eyeLookUpLeft"] == 0.5
    # A hotkey's expression adds to the tracker's.
    rig.send(vseeface({}, perfect_sync(JawOpen=0.5, MouthSmileLeft=0.1, Joy=1.0)))
    assert rig.last.shapes["mouthSmileLeft"] == pytest.approx(0.8)
    assert rig.last.shapes["jawOpen"] == pytest.approx(0.5)


def test_a_perfect_sync_model_with_still_shapes_moves_by_its_clips() -> None:
    rig = Rig()
    for open_ in talking():
        # All of ARKit's shapes are sent, none moves, and one of them is not 0.
        shapes = perfect_sync(MouthPucker=0.05, A=open_, Blink=open_, Fun=0.5)
        rig.send(vseeface({"LeftEye": (0.25, 0, 0), "RightEye": (0.25, 0, 0)}, shapes))
        assert rig.last.shapes["eyeBlinkLeft"] == pytest.approx(open_)
    assert rig.last.shapes["jawOpen"] == pytest.approx(0.6 * open_)
    assert rig.last.shapes["mouthSmileRight"] == pytest.approx(0.3)
    assert (
        rig.last.shapes["eyeLookDownLeft"]
        == rig.last.shapes["eyeLookDownRight"]
        == pytest.approx(0.25 / EYE_TURN_RADIANS[1])
    )


@pytest.mark.parametrize("value", [0.0, 0.7])
def test_a_shape_received_once_does_not_mute_clips_forever(value: float) -> None:
    rig = Rig()
    rig.send(webcam({}, {"jawOpen": value, "eyeBlinkLeft": value, "eyeLookUpLeft": value}))
    for open_ in talking():
        rig.send(webcam({}, {"A": open_, "Blink": open_, "LookDown": open_}))
    assert rig.last.shapes["jawOpen"] == pytest.approx(0.6 * open_)
    assert rig.last.shapes["eyeBlinkLeft"] == pytest.approx(open_)
    assert rig.last.shapes["eyeLookDownLeft"] == pytest.approx(open_)
    assert rig.last.shapes["eyeLookUpLeft"] == 0


def test_a_still_shape_gives_way_to_a_moving_clip() -> None:
    rig = Rig()
    for open_ in talking():
        rig.send(warudo({}, {"jawOpen": 0.1, "mouthClose": 0.05, "aa": open_}))
    assert rig.last.shapes["jawOpen"] == pytest.approx(0.6 * open_)
    for open_ in talking():
        rig.send(warudo({}, {"jawOpen": 0.2 * open_, "aa": 1.0}))
    assert rig.last.shapes["jawOpen"] == pytest.approx(0.2 * open_)


def test_shapes_of_one_region_do_not_mute_clips_of_another() -> None:
    rig = Rig()
    for open_ in talking():
        rig.send(warudo({}, {"browInnerUp": open_, "tongueOut": open_, "cheekPuff": open_, "ou": open_}))
    assert rig.last.shapes["mouthPucker"] == pytest.approx(0.8 * open_)
    assert rig.last.shapes["browInnerUp"] == pytest.approx(open_)


def test_warudos_bundles_are_decoded() -> None:
    rig = Rig()
    for open_ in talking():
        rig.send(warudo({"Head": (0.2, 0, 0)}, {"jawOpen": open_, "blinkRight": 0.4, "surprised": 0.5}))
    assert len(rig.frames) == 120
    assert rig.last.shapes["jawOpen"] == pytest.approx(open_)
    assert rig.last.shapes["eyeBlinkRight"] == pytest.approx(0.4)
    assert rig.last.shapes["eyeWideLeft"] == pytest.approx(0.35)
    assert head_rotation(rig.last) == pytest.approx((0, 0.2))


def test_vnyan_with_each_message_alone() -> None:
    rig = Rig()
    turns = {"Spine": (0, 0.05, 0), "Chest": (0, 0.1, 0), "UpperChest": (0, 0.05, 0), "Neck": (0, 0.1, 0)}
    for _ in range(30):
        rig.send(vnyan(turns | {"Head": (0.1, 0, 0)}, {"A": 0.4, "JawOpen": 0.0, "LookRight": 0.5}))
    assert len(rig.frames) == 30
    assert head_rotation(rig.last) == pytest.approx((0.3, 0.1), abs=0.02)
    assert rig.last.shapes["jawOpen"] == pytest.approx(0.24)
    assert rig.last.shapes["eyeLookInLeft"] == rig.last.shapes["eyeLookOutRight"] == 0.5


def test_slimevr_with_bones_alone() -> None:
    rig = Rig()
    for k in range(30):
        rig.send(slimevr({"Hips": (0, 2.0, 0), "Chest": (0, 0.01 * k, 0), "Head": (0.1, 0, 0)}))
        # Each bundle is a complete frame; the body may face another direction.
        assert len(rig.frames) == k + 1
        assert head_rotation(rig.last) == pytest.approx((0.01 * k, 0.1), abs=0.02)
    assert not any(rig.last.shapes.values())


def test_the_rate_of_frames_is_limited() -> None:
    rig = Rig()
    for k in range(200):
        rig.send(slimevr({"Head": (0, k / 200, 0)}), 0.001)
    assert 12 <= len(rig.frames) <= 21
    assert head_rotation(rig.last)[0] == pytest.approx(1, abs=0.08)


@pytest.mark.parametrize("order", ["before", "after", "none"])
def test_bones_in_separate_datagrams_make_frames(order: str) -> None:
    rig = Rig()
    for k in range(30):
        sent = [packet(address, *given) for address, given in bones({"Head": (0, 0.01 * k, 0)})]
        ok = [packet(OK, 1)]
        rig.send([*(ok if order == "before" else []), *sent, *(ok if order == "after" else [])])
    assert len(rig.frames) == 30
    assert head_rotation(rig.last)[0] == pytest.approx(0.29)


def test_bones_that_never_pause_make_frames() -> None:
    rig = Rig()
    for k in range(100):
        rig.send([packet(address, *given) for address, given in bones({"Head": (0, 0.01 * k, 0)}, ["Head"])], 0.002)
    assert len(rig.frames) > 10


def test_a_webcam_tracker_with_each_message_alone() -> None:
    rig = Rig()
    turns = {"Head": (0.2, 0, 0), "Neck": (0.06, 0, 0), "RightEye": (0, 0.2, 0), "LeftEye": (0, 0.2, 0)}
    for open_ in talking():
        shapes = {"eyeBlinkLeft": 0.3, "Blink_L": 0.3, "Blink": 0.15, "jawOpen": open_, "A": open_, "Aa": open_}
        rig.send(webcam(turns, shapes), 1 / 30)
    assert len(rig.frames) == 120
    assert head_rotation(rig.last) == pytest.approx((0, 0.26))
    assert rig.last.shapes["eyeBlinkLeft"] == pytest.approx(0.3)
    assert rig.last.shapes["jawOpen"] == pytest.approx(open_)
    assert rig.last.shapes["eyeLookOutRight"] == pytest.approx(0.2 / EYE_TURN_RADIANS[0])


def test_a_tracker_without_apply_makes_a_frame_after_a_pause() -> None:
    rig = Rig()
    for k in range(30):
        rig.send(webcam({"Head": (0, 0.01 * k, 0)}, {"jawOpen": 0.01 * k}, apply=False), 1 / 30)
        assert len(rig.frames) == k + 1
    assert rig.last.shapes["jawOpen"] == pytest.approx(0.29)
    assert head_rotation(rig.last)[0] == pytest.approx(0.29)


def test_frames_of_this_sender_are_decoded_unchanged() -> None:
    rig = Rig()
    shapes = {"jawOpen": 0.4, "mouthSmileLeft": 0.25, "eyeLookOutRight": 0.5, "browDownLeft": 0.3}
    for _ in range(120):
        rig.send(encode(ArkitFrame(shapes), 0.0))
        assert {name: round(value, 5) for name, value in rig.last.shapes.items() if value} == shapes
    assert len(rig.frames) == 120


@pytest.mark.parametrize(
    ("names", "shape"),
    [
        (["A", "aa", "AA"], "jawOpen"),
        (["I", "ih"], "mouthStretchLeft"),
        (["U", "ou"], "mouthPucker"),
        (["E", "ee"], "mouthStretchRight"),
        (["O", "oh"], "mouthFunnel"),
        (["Blink", "blink", "Blink_L", "blinkLeft", "BLINK_L"], "eyeBlinkLeft"),
        (["Blink_R", "blinkRight"], "eyeBlinkRight"),
        (["Joy", "happy", "Fun", "relaxed"], "mouthSmileLeft"),
        (["Angry", "angry", "Brows down"], "browDownRight"),
        (["Sorrow", "sad"], "mouthFrownLeft"),
        (["Surprised", "surprised"], "eyeWideLeft"),
        (["Surprised", "Sorrow", "Brows up"], "browInnerUp"),
        (["LookUp", "lookUp"], "eyeLookUpLeft"),
        (["LookDown", "lookDown"], "eyeLookDownRight"),
        (["LookLeft", "lookLeft"], "eyeLookOutLeft"),
        (["LookRight", "lookRight"], "eyeLookInLeft"),
        (["JAWOPEN", "JawOpen", "jawopen"], "jawOpen"),
    ],
)
def test_clip_names_of_vrm_0_and_1_are_known(names: list[str], shape: str) -> None:
    for name in names:
        rig = Rig()
        rig.send(warudo({}, {name: 1.0}))
        assert rig.last.shapes[shape] >= 0.3


def test_neutral_and_unknown_names_do_nothing() -> None:
    rig = Rig()
    rig.send(warudo({"Tail": (1, 0, 0)}, {"Neutral": 1.0, "neutral": 1.0, "EarWiggle": 1.0}))
    assert not any(rig.last.shapes.values())
    assert head_rotation(rig.last) == pytest.approx((0, 0))


def test_a_constant_eye_bone_rotation_is_ignored() -> None:
    rig = Rig()
    rig.send(warudo({"LeftEye": (-math.pi / 2, 0, 0), "RightEye": (-math.pi / 2, 0, 0)}, {}))
    assert not any(rig.last.shapes.values())


@pytest.mark.parametrize("protocol", ["with apply", "without apply", "phone"])
def test_a_silent_sender_is_released_within_a_second(protocol: str) -> None:
    rig, head = Rig(), {"Head": (0, 0.3, 0)}
    phone = b"jawOpen-80|eyeBlink_L-50|=head#0,0,0,0,0,0|"
    for _ in range(30):
        rig.send([phone] if protocol == "phone" else webcam(head, {"jawOpen": 0.8}, apply=protocol == "with apply"))
    before, stopped = len(rig.frames), rig.clock.now
    assert before == 30
    rig.wait(0.2)
    assert len(rig.frames) == before  # a short gap is not the end
    rig.wait(0.7)
    assert rig.clock.now - stopped < 1
    mouth = [frame.shapes["jawOpen"] for frame in rig.frames[before:]]
    assert mouth == sorted(mouth, reverse=True)
    assert 0.8 > mouth[0] > 0.6
    assert mouth[-1] == 0
    assert rig.last.rotation == rig.frames[before - 1].rotation
    rig.wait(60)
    assert len(rig.frames) == before + len(mouth)  # and then nothing more


def test_values_of_a_silent_sender_do_not_stay() -> None:
    rig = Rig()
    rig.send(vseeface({"Neck": (0, 0.5, 0)}, {"JawOpen": 0.8, "Joy": 1.0}))
    for _ in range(60):
        rig.send(webcam({"Head": (0, 0.1, 0)}, {}, apply=False))
    assert not any(rig.last.shapes.values())
    assert head_rotation(rig.last)[0] == pytest.approx(0.1)


def test_a_returning_sender_starts_without_old_values() -> None:
    rig = Rig()
    rig.send(warudo({}, {"jawOpen": 0.8, "MouthFunnel": 0.5}))
    rig.wait(30)
    rig.send(warudo({}, {"A": 0.5}))
    assert rig.last.shapes["jawOpen"] == pytest.approx(0.3)
    assert rig.last.shapes["mouthFunnel"] == 0


def test_silence_is_reported_once_after_five_seconds() -> None:
    clock = Clock()
    listener = RigListener(0, clock=clock)
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            assert listener.silence() is None
            clock.now += SILENCE_SECONDS + 0.1
            line = listener.silence()
            assert line is not None
            assert f"5 seconds without motion at UDP port {listener.port}: switch" in line
            assert "0.0.0.0:" in line
            assert listener.silence() is None
            (sent,) = warudo({}, {"A": 0.5})
            sender.sendto(sent, ("127.0.0.1", listener.port))
            assert listener.take(TEST_TIMEOUT) is not None
            clock.now += SILENCE_SECONDS - 0.1
            assert listener.silence() is None
            clock.now += 0.2
            line = listener.silence()
            assert line is not None
            assert "has stopped" in line
            assert listener.silence() is None
    finally:
        listener.close()


@pytest.mark.parametrize(
    ("datagram", "message"),
    [
        (packet("/avatar/parameters/Joy", 1.0), "neither VMC"),
        (packet(OK, 0), "sends no motion"),
        (b"?", "neither VMC"),
    ],
)
def test_datagrams_without_motion_are_reported(datagram: bytes, message: str) -> None:
    clock = Clock()
    listener = RigListener(0, clock=clock)
    try:
        clock.now += SILENCE_SECONDS + 0.1
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.sendto(datagram, ("127.0.0.1", listener.port))
            wait_until(lambda: listener.received == 1, "the datagram comes")
        assert message in (listener.silence() or "")
    finally:
        listener.close()


def test_the_camera_command_reports_missing_motion(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("avatar_stream.rigs.listener.SILENCE_SECONDS", 0.0)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    given = ["camera", "noor", "--no-device", "--engine", "warp", "--size", "256", "--seconds", "1"]
    assert main([*given, "--motion-port", str(port)]) == 0
    assert capsys.readouterr().err.count(f"seconds without motion at UDP port {port}") == 1


def test_a_phone_that_does_not_answer_is_reported() -> None:
    clock = Clock()
    listener = RigListener(0, phone="127.0.0.1", clock=clock)
    try:
        clock.now += SILENCE_SECONDS + 0.1
        assert "open the app on the phone" in (listener.silence() or "")
    finally:
        listener.close()


def test_a_listener_returns_bones_alone_and_then_releases_them() -> None:
    listener = RigListener(0)
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            for sent in slimevr({"Head": (0, 0.2, 0)}):
                sender.sendto(sent, ("127.0.0.1", listener.port))
            frame = listener.take(TEST_TIMEOUT)
            assert frame is not None
            assert head_rotation(frame)[0] == pytest.approx(0.2)
            for sent in webcam({}, {"jawOpen": 0.8}, apply=False):
                sender.sendto(sent, ("127.0.0.1", listener.port))
            seen: list[float] = []
            while not seen or seen[-1] > 0:
                frame = listener.take(TEST_TIMEOUT)
                assert frame is not None
                seen.append(frame.shapes["jawOpen"])
            assert max(seen) == pytest.approx(0.8)
    finally:
        listener.close()
