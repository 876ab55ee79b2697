"""Motion as ARKit blend shapes: in frames, in files, and in the protocols of other programs."""

import json
import socket
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pythonosc.osc_message_builder import OscMessageBuilder
from pythonosc.osc_packet import OscPacket
from scipy.spatial.transform import Rotation

from avatar_stream.errors import BadClip, BadInput
from avatar_stream.face import geometry
from avatar_stream.face.arkit import (
    BLEND_SHAPES,
    ArkitFrame,
    HeadPoseCalibration,
    Quaternion,
    mirrored_frame,
    to_arkit,
    to_motion,
)
from avatar_stream.face.motion import MotionEstimator
from avatar_stream.face.retarget import Retargeter
from avatar_stream.rigs.files import MotionFile, MotionWriter
from avatar_stream.rigs.listener import MotionDecoder, RigListener
from avatar_stream.rigs.phone import GREETING, parse_phone
from avatar_stream.rigs.vmc import VmcDecoder, VmcSender, encode
from tests.unit.faces import face
from tests.waiting import TEST_TIMEOUT

# Frames from the developer documentation of the two apps.
IFACIALMOCAP = (
    b"mouthSmile_R-0|eyeLookOut_L-0|mouthUpperUp_L-11|eyeWide_R-0|mouthClose-8|mouthPucker-4|mouthRollLower-9|"
    b"eyeBlink_R-7|eyeLookDown_L-17|cheekSquint_R-11|eyeBlink_L-7|tongueOut-0|jawRight-0|eyeLookIn_R-6|"
    b"cheekSquint_L-11|mouthDimple_L-10|mouthPress_L-4|eyeSquint_L-11|mouthRight-0|mouthShrugLower-9|eyeLookUp_R-0|"
    b"eyeLookOut_R-0|mouthPress_R-5|cheekPuff-2|jawForward-11|mouthLowerDown_L-9|mouthFrown_L-6|mouthShrugUpper-26|"
    b"browOuterUp_L-4|browInnerUp-20|mouthDimple_R-10|browDown_R-0|mouthUpperUp_R-10|mouthRollUpper-8|"
    b"mouthFunnel-12|mouthStretch_R-21|mouthFrown_R-13|eyeLookDown_R-17|jawOpen-12|jawLeft-0|browDown_L-0|"
    b"mouthSmile_L-0|noseSneer_R-18|mouthLowerDown_R-8|noseSneer_L-21|eyeWide_L-0|mouthStretch_L-21|browOuterUp_R-4|"
    b"eyeLookIn_L-4|eyeSquint_R-11|eyeLookUp_L-0|mouthLeft-1|=head#-21.488958,-6.038993,-6.6019735,-0.030653415,"
    b"-0.10287084,-0.6584072|rightEye#6.0297494,2.4403017,0.25649446|leftEye#6.034903,-1.6660284,-0.17520553|"
)
FACEMOTION3D = (
    b"eyeLookOutLeft&3|mouthPressRight&14|jawForward&8|browInnerUp&19|mouthPucker&5|eyeBlinkLeft&29|jawOpen&4|"
    b"FM_SAD&0|FM_VF&0|=head#-22.167973,0.45402408,-4.8798294,-0.039975993,-0.048437987,-0.45562273|"
    b"rightEye#12.759762,5.527712,1.2244859|leftEye#12.862795,1.264116,0.28145725|"
)


def rotation_quaternion(*vector: float) -> Quaternion:
    x, y, z, w = (float(v) for v in Rotation.from_rotvec(vector).as_quat())
    return x, y, z, w


def track_expression(**expression: float) -> tuple[MotionEstimator, ArkitFrame]:
    driver = MotionEstimator()
    for _ in range(30):
        driver(face())
    return driver, to_arkit(driver(face(expression=expression)))


def test_the_52_blend_shape_names_are_arkits() -> None:
    assert len(BLEND_SHAPES) == len(set(BLEND_SHAPES)) == 52
    assert {"tongueOut", "browInnerUp", "cheekPuff", "eyeLookInLeft"} <= set(BLEND_SHAPES)


@pytest.mark.parametrize("name", ["jawOpen", "mouthSmile", "mouthPucker", "eyeBlink"])
def test_each_expression_gives_its_blend_shape(name: str) -> None:
    _, frame = track_expression(**{name: 0.8})
    full = name if name in BLEND_SHAPES else f"{name}Left"
    assert frame.shapes[full] == pytest.approx(0.8, abs=0.25)
    assert frame.shapes["mouthFrownLeft"] < 0.35


def test_head_rotation_keeps_its_sign_through_a_frame() -> None:
    driver, _ = track_expression()
    frame = to_arkit(driver(face(turn=(0.1, 0.3, -0.05))))
    # Landmarks have y down: this face turns to the viewer's left, which is a negative angle in ARKit's axes (y up).
    assert Rotation.from_quat(frame.rotation).as_rotvec()[1] == pytest.approx(-0.3, abs=0.05)
    yaw = geometry.euler_degrees(geometry.head_pose(face(turn=(0, 0.3, 0))).rotation)[1]
    portrait = Retargeter(face(60))
    seen = geometry.euler_degrees(geometry.head_pose(portrait(to_motion(frame))).rotation)[1]
    assert seen == pytest.approx(yaw, abs=4)


def test_a_frame_moves_a_face_like_landmarks_do() -> None:
    portrait = Retargeter(face(60))
    expressions: list[dict[str, float]] = [
        {"jawOpen": 0.5},
        {"jawOpen": 0.4, "mouthFunnel": 0.6},
        {"mouthSmile": 0.7},
    ]
    for expression in expressions:
        driver = MotionEstimator()
        for _ in range(30):
            driver(face())
        motion = driver(face(expression=expression))
        exact, coarse = portrait(motion), portrait(to_motion(to_arkit(motion)))
        assert geometry.mouth_opening(coarse) == pytest.approx(geometry.mouth_opening(exact), abs=0.04)
        assert np.abs(coarse - exact)[:468].mean() < 1  # of 60 pixels between the eyes


def test_closed_lips_stay_closed_when_shapes_contradict_each_other() -> None:
    target = Retargeter(face(60))(to_motion(ArkitFrame({"jawOpen": 0.1, "mouthClose": 1.0})))
    assert geometry.mouth_opening(target) < 0.01


def test_blinks_and_gaze_of_a_frame_are_followed() -> None:
    portrait = face(60)
    retarget = Retargeter(portrait)
    shut = retarget(to_motion(ArkitFrame({"eyeBlinkLeft": 1.0, "eyeBlinkRight": 1.0})))
    assert max(geometry.eye_openings(shut)) < 0.1 * min(geometry.eye_openings(portrait))
    # The right eye's nose is to the viewer's right.
    right = retarget(to_motion(ArkitFrame({"eyeLookInRight": 0.6, "eyeLookOutLeft": 0.6})))
    assert geometry.gaze(right)[0] > geometry.gaze(portrait)[0] + 0.02


def test_mirroring_twice_restores_a_frame() -> None:
    frame = ArkitFrame({"mouthSmileLeft": 0.7, "jawOpen": 0.2}, (0.1, 0.2, 0.3, 0.927), (0.1, 0.2, 0.3))
    assert mirrored_frame(frame).shapes == {"mouthSmileRight": 0.7, "jawOpen": 0.2}
    assert mirrored_frame(mirrored_frame(frame)) == frame


def test_the_first_frame_sets_the_rest_pose() -> None:
    rest = HeadPoseCalibration()
    tilted = ArkitFrame({}, rotation_quaternion(0.3, 0, 0), (0, 0.1, -0.5))
    assert rest(tilted).rotation == pytest.approx((0, 0, 0, 1), abs=1e-6)
    assert rest(ArkitFrame({}, tilted.rotation, (0.05, 0.1, -0.5))).position == pytest.approx((0.05, 0, 0), abs=1e-6)


def test_a_frame_survives_json() -> None:
    _, frame = track_expression(jawOpen=0.5, mouthSmile=0.4)
    again = ArkitFrame.from_json(json.loads(json.dumps(frame.to_json(1.5))))
    for name in BLEND_SHAPES:
        assert again.shapes.get(name, 0) == pytest.approx(frame.shapes.get(name, 0), abs=0.001)
    assert again.rotation == pytest.approx(frame.rotation, abs=1e-3)


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ([], "blendShapes"),
        ({"blendShapes": {"jawopen": 1}}, "jawopen"),
        ({"blendShapes": {"jawOpen": "wide"}}, "numbers"),
        ({"blendShapes": {"jawOpen": True}}, "numbers"),
        ({"blendShapes": {}, "head": {"rotation": [0, 0, 0, 0]}}, "quaternion"),
        ({"blendShapes": {}, "head": {"rotation": [0, 0, 1]}}, "4 numbers"),
        ({"blendShapes": {}, "head": 3}, "head"),
        ({"blendShapes": {}, "head": {"position": [0, float("nan"), 1]}}, "3 numbers"),
    ],
)
def test_invalid_frames_are_refused_in_one_line(message: object, reason: str) -> None:
    with pytest.raises(BadInput, match=reason):
        ArkitFrame.from_json(message)


def test_a_recording_is_played_back_unchanged(tmp_path: Path) -> None:
    _, frame = track_expression(jawOpen=0.5)
    writer = MotionWriter(tmp_path / "m.jsonl", Fraction(30))
    writer.write(frame, 0.0)
    writer.write(None, 1 / 30)
    writer.close()
    played = MotionFile(tmp_path / "m.jsonl")
    assert float(played.rate) == 30
    assert played.expected == 2
    (first, shown), (second, nobody) = played.frames()
    assert (first, second, nobody) == (0.0, 0.033, None)
    assert shown is not None
    assert shown.shapes["jawOpen"] == pytest.approx(frame.shapes["jawOpen"], abs=0.001)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "not a motion file"),
        ("\x00\x01", "not a motion file"),
        ('{"format": "avatar-stream-motion", "version": 9}\n', "newer"),
        ('{"format": "avatar-stream-motion", "version": 1, "rate": 0}\n', "rate"),
        ('{"format": "avatar-stream-motion", "version": 1}\n{"time": 0}\nhello\n', "line 3: a frame must be JSON"),
        ('{"format": "avatar-stream-motion", "version": 1}\n{"blendShapes": {}}\n', "line 2"),
        ('{"format": "avatar-stream-motion", "version": 1}\n{"time": 0, "blendShapes": {"x": 1}}\n', "line 2.*'x'"),
    ],
)
def test_invalid_motion_files_are_refused_in_one_line(tmp_path: Path, text: str, reason: str) -> None:
    path = tmp_path / "m.jsonl"
    path.write_text(text)
    with pytest.raises(BadClip, match=reason):
        list(MotionFile(path).frames())


def test_vmc_messages_are_decoded_as_sent() -> None:
    turn = rotation_quaternion(0.1, -0.3, 0.05)
    frame = ArkitFrame({"jawOpen": 0.4, "mouthSmileLeft": 0.25, "eyeLookOutRight": 0.5}, turn)
    packets = encode(frame, 1.0)
    assert max(len(packet) for packet in packets) < 1400
    decode = MotionDecoder()
    (found,) = [got for packet in packets if (got := decode(packet)) is not None]
    assert {name: round(value, 5) for name, value in found.shapes.items() if value} == dict(frame.shapes)
    assert found.rotation == pytest.approx(turn, abs=1e-6)


def test_sent_vmc_messages_follow_the_protocol() -> None:
    packets = encode(ArkitFrame({"jawOpen": 0.4, "mouthFunnel": 0.9, "eyeBlinkLeft": 1.0}), 2.5)
    messages = [timed.message for packet in packets for timed in OscPacket(packet).messages]
    sent = [(message.address, message.params) for message in messages]
    assert sent[0] == ("/VMC/Ext/OK", [1])
    assert sent[1] == ("/VMC/Ext/T", [2.5])
    assert sent[-1] == ("/VMC/Ext/Blend/Apply", [])
    bones = {params[0]: params[1:] for address, params in sent if address == "/VMC/Ext/Bone/Pos"}
    assert set(bones) == {"Neck", "Head", "LeftEye", "RightEye"}
    assert all(len(params) == 7 for params in bones.values())
    values = dict(params for address, params in sent if address == "/VMC/Ext/Blend/Val")
    assert values["JawOpen"] == pytest.approx(0.4)
    assert values["O"] > 0.4 > values["A"]  # for models that only know vowels
    assert values["Blink_L"] == 1 > values["Blink_R"]


def test_head_rotation_is_converted_to_unitys_axes() -> None:
    # ARKit: z (ahead) to x (the viewer's right, the person's left). Unity's x is the person's right: the angle about
    # y, which takes z to x there too, is negative.
    packets = encode(ArkitFrame({}, rotation_quaternion(0, 0.4, 0)), 0.0)
    messages = [timed.message for packet in packets for timed in OscPacket(packet).messages]
    (head,) = [m.params for m in messages if m.address == "/VMC/Ext/Bone/Pos" and m.params[0] == "Head"]
    assert head[5] < 0
    assert head[4] == pytest.approx(0, abs=1e-6)


def test_plain_vrm_clips_move_a_face() -> None:
    # As in examples of the protocol: a vowel, a blink, and "apply".
    frame = VmcDecoder().add(
        [("/VMC/Ext/Blend/Val", ["A", 0.5]), ("/VMC/Ext/Blend/Val", ["Blink", 1.0]), ("/VMC/Ext/Blend/Apply", [])]
    )
    assert frame is not None
    assert frame.shapes["jawOpen"] == pytest.approx(0.3)
    assert frame.shapes["eyeBlinkLeft"] == 1


def test_perfect_sync_has_priority_over_plain_clips() -> None:
    frame = VmcDecoder().add(
        [("/VMC/Ext/Blend/Val", ["A", 1.0]), ("/VMC/Ext/Blend/Val", ["jawopen", 0.1]), ("/VMC/Ext/Blend/Apply", [])]
    )
    assert frame is not None
    assert frame.shapes == {"jawOpen": 0.1}


def test_frames_of_phone_apps_are_decoded() -> None:
    frame = parse_phone(IFACIALMOCAP)
    assert frame is not None
    assert len(frame.shapes) == 52
    assert frame.shapes["browInnerUp"] == 0.2
    assert frame.shapes["mouthStretchRight"] == 0.21
    assert frame.position == pytest.approx((-0.0307, -0.1029, -0.6584), abs=1e-3)
    assert np.degrees(Rotation.from_quat(frame.rotation).as_euler("xyz"))[0] == pytest.approx(-21.49, abs=0.01)
    other = parse_phone(FACEMOTION3D)
    assert other is not None
    assert other.shapes["eyeBlinkLeft"] == 0.29
    assert "FM_SAD" not in other.shapes


@settings(max_examples=300, deadline=None)
@given(st.one_of(st.binary(max_size=200), st.binary(max_size=60).map(lambda b: b"#bundle\0" + b)))
def test_arbitrary_datagrams_do_not_break_the_listener(packet: bytes) -> None:
    MotionDecoder()(packet)
    cut = len(packet) % len(IFACIALMOCAP)
    MotionDecoder()(IFACIALMOCAP[:cut] + packet + IFACIALMOCAP[cut:])


def test_arbitrary_messages_do_not_break_the_decoder() -> None:
    builder = OscMessageBuilder("/VMC/Ext/Bone/Pos")
    for argument in ("Head", 0.0, 0.0, 0.0, "up", 0.0, 0.0, 1.0):
        builder.add_arg(argument)
    decode = MotionDecoder()
    assert decode(builder.build().dgram) is None
    assert VmcDecoder().add([("/VMC/Ext/Blend/Val", [1, "x"]), ("/VMC/Ext/Bone/Pos", ["Head"])]) is None


def test_a_listener_receives_both_protocols_and_returns_the_newest() -> None:
    # The clock stands still, so that no sender times out.
    listener = RigListener(0, clock=lambda: 0.0)
    try:
        sender = VmcSender(port=listener.port)
        sender.send(ArkitFrame({"jawOpen": 0.5}), 0.0)
        found = listener.take(TEST_TIMEOUT)
        assert found is not None
        assert found.shapes["jawOpen"] == 0.5
        sender.close()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as phone:
            phone.sendto(b"nonsense", ("127.0.0.1", listener.port))
            phone.sendto(IFACIALMOCAP, ("127.0.0.1", listener.port))
        found = listener.take(TEST_TIMEOUT)
        assert found is not None
        assert found.shapes["jawOpen"] == 0.12
        assert listener.take(0.01) is None
        with pytest.raises(BadInput, match="another program"):
            RigListener(listener.port)
    finally:
        listener.close()


def test_a_phone_is_requested_until_it_sends(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as phone:
        phone.bind(("127.0.0.1", 0))
        phone.settimeout(TEST_TIMEOUT)
        monkeypatch.setattr("avatar_stream.rigs.listener.PHONE_PORT", phone.getsockname()[1])
        listener = RigListener(0, phone="127.0.0.1")
        try:
            greeting, back = phone.recvfrom(200)
            assert greeting == GREETING
            phone.sendto(IFACIALMOCAP, back)
            assert listener.take(TEST_TIMEOUT) is not None
        finally:
            listener.close()


def test_an_unknown_host_is_reported() -> None:
    with pytest.raises(BadInput, match="no machine is called"):
        VmcSender("nowhere.invalid")
