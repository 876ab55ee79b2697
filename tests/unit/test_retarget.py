"""Retargeting: expressions are transferred in absolute terms, whatever expression driver and portrait begin with."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from avatar_stream.face import geometry, mesh
from avatar_stream.face.animator import Animator
from avatar_stream.face.mesh import Floats
from avatar_stream.face.model import COEFFICIENT_NAMES, MESH_POINTS
from avatar_stream.face.motion import Motion, RestHeadPose, mirrored
from avatar_stream.face.retarget import MAX_TURN, Retargeter
from tests.unit.faces import face, lips, mouth_width


def animator(portrait: Floats | None = None, keep: float = 0.0) -> Animator:
    return Animator(Retargeter(face(60) if portrait is None else portrait, keep=keep))


def calibrate(made: Animator, driver: Floats | None = None, frames: int = 40) -> Animator:
    for k in range(frames):
        made(face() if driver is None else driver, k / 25)
    return made


def yaw(landmarks: Floats) -> float:
    return geometry.euler_degrees(geometry.head_pose(landmarks).rotation)[1]


def test_a_driver_with_the_portraits_face_gives_the_portrait() -> None:
    for expression in ({}, {"mouthSmile": 0.6}, {"jawOpen": 0.4}):
        portrait = face(60, (0.05, 0.1, 0), expression=expression)
        target = calibrate(animator(portrait), face(100, expression=expression))(face(100, expression=expression), 2)
        assert np.abs(target - portrait).max() < 1.5, expression  # of 60 pixels between the eyes


def test_the_same_person_is_reproduced() -> None:
    moved = face(100, (0.05, 0.2, 0.03), jawOpen=0.5, mouthSmile=0.3)
    target = calibrate(animator(face()))(moved, 2)
    assert np.abs(lips(target) - lips(moved)).mean() < 1.0  # of 100 pixels between the eyes


def test_keep_sets_how_much_of_the_portraits_smile_stays() -> None:
    portrait = face(60, mouthSmile=0.8)
    widths = [mouth_width(calibrate(animator(portrait, keep))(face(), 2)) for keep in (0, 0.5, 1)]
    assert widths[0] == pytest.approx(mouth_width(face()), abs=0.03)
    assert widths[0] + 0.03 < widths[1] < widths[2] - 0.03
    assert widths[2] == pytest.approx(mouth_width(portrait), abs=0.05)


def test_a_smile_and_a_pout_exclude_each_other() -> None:
    portrait, pout = face(60, mouthSmile=0.8), face(mouthPucker=0.9, mouthFunnel=0.3)
    assert mouth_width(calibrate(animator(portrait, keep=1))(pout, 2)) < mouth_width(face()) - 0.03


def test_an_o_is_round_on_a_smiling_portrait() -> None:
    o = face(jawOpen=0.5, mouthFunnel=0.7)
    target = calibrate(animator(face(60, mouthSmile=0.8, jawOpen=0.2)))(o, 2)
    assert mouth_width(target) == pytest.approx(mouth_width(o), abs=0.06)
    assert geometry.mouth_opening(target) == pytest.approx(geometry.mouth_opening(o), abs=0.02)


@pytest.mark.parametrize("beginning", [{"jawOpen": 0.6}, {"mouthSmile": 0.9}, {"mouthPucker": 0.8}])
def test_the_drivers_first_expression_does_not_matter(beginning: dict[str, float]) -> None:
    calm, other = calibrate(animator()), animator()
    for k in range(10):
        other(face(expression=beginning), k / 25)
    for k in range(60):
        expected, found = calm(face(), 2 + k / 25), other(face(), 2 + k / 25)
    assert np.abs(lips(found) - lips(expected)).max() < 2  # of 60 pixels between the eyes


@settings(max_examples=20, deadline=None)
@given(st.floats(40, 300), st.floats(-0.25, 0.25))
def test_the_drivers_size_and_rotation_do_not_affect_the_expression(scale: float, turned: float) -> None:
    made = calibrate(animator(), face(scale, (0, turned, 0)), 10)
    # The mouth opens along the portrait's axes, not along the driver's.
    driver = face(scale, (0, turned, 0), jawOpen=0.5)
    target = made(driver, 1)
    assert geometry.mouth_opening(target) == pytest.approx(geometry.mouth_opening(driver), abs=0.02)
    assert abs(yaw(target)) < 1.5


@pytest.mark.parametrize("portrait", [{}, {"mouthSmile": 0.8, "jawOpen": 0.2}, {"jawOpen": 0.6}])
def test_lips_close_when_the_drivers_close(portrait: dict[str, float]) -> None:
    target = calibrate(animator(face(60, expression=portrait), keep=1))(face(), 2)
    assert geometry.mouth_opening(target) < 0.005


def test_closing_lids_close_a_portrait_with_wider_eyes() -> None:
    portrait = face(60)
    for upper in (mesh.RIGHT_LID_UPPER, mesh.LEFT_LID_UPPER):
        portrait[list(upper[1:-1]), 1] -= 4
    target = calibrate(animator(portrait))(face(eyeBlink=1.0), 2)
    assert max(geometry.eye_openings(target)) < 0.1 * min(geometry.eye_openings(portrait))


def test_gaze_follows_the_drivers() -> None:
    made = calibrate(animator())
    for look in ((0.04, 0), (-0.04, 0), (0, 0.02)):
        seen = geometry.gaze(made(face(look=look), 2)) - geometry.gaze(face(60))
        wanted = geometry.gaze(face(look=look)) - geometry.gaze(face())
        np.testing.assert_allclose(seen, wanted, atol=0.03)


@settings(max_examples=40, deadline=None)
@given(st.tuples(*[st.floats(-3, 3)] * 3), st.floats(-5, 5), st.floats(-2, 2), st.integers(0, 1000))
def test_no_motion_breaks_the_portrait(turn: tuple[float, ...], shift: float, scale: float, seed: int) -> None:
    random = np.random.default_rng(seed)
    portrait = face(60)
    still = Motion(
        np.zeros(3, np.float32),
        np.zeros(2, np.float32),
        0.0,
        random.uniform(-1, 2, len(COEFFICIENT_NAMES)).astype(np.float32),
        random.normal(0, 1, (11, 3)).astype(np.float32),
        random.uniform(-1, 4, 2).astype(np.float32),
        random.normal(0, 0.1, (2, 2, 7)).astype(np.float32),
        random.normal(0, 2, (2, 2)).astype(np.float32),
        random.normal(0, 1, (MESH_POINTS, 3)).astype(np.float32),
    )
    retarget = Retargeter(portrait)
    placed = retarget.with_head_pose(
        retarget.with_expression(still), np.array(turn, np.float32), np.array([shift, -shift], np.float32), scale
    )
    assert np.isfinite(placed).all()
    target = retarget(still)
    for upper, lower in ((mesh.RIGHT_LID_UPPER, mesh.RIGHT_LID_LOWER), (mesh.LEFT_LID_UPPER, mesh.LEFT_LID_LOWER)):
        assert (target[list(lower[1:-1]), 1] - target[list(upper[1:-1]), 1] > -0.5).all()
    calm = retarget.with_head_pose(retarget.fit.face, np.array(turn, np.float32), np.zeros(2, np.float32), 0.0)
    angle = np.linalg.norm(geometry.to_rotation_vector(geometry.head_pose(calm).rotation))
    assert angle <= np.linalg.norm(MAX_TURN) + 0.02


def test_gain_scales_expression_only() -> None:
    made = calibrate(animator())
    made.retargeter.gain = 0.0
    target = made(face(turn=(0, 0.2, 0), jawOpen=0.5), 2)
    assert geometry.mouth_opening(target) < 0.01
    assert abs(yaw(target)) > 8


def test_without_a_face_the_portrait_moves_to_rest_and_breathes() -> None:
    portrait = face(60, mouthSmile=0.4)
    made = calibrate(animator(portrait))
    half_closed = face(turn=(0, 0.3, 0), jawOpen=0.5, eyeBlink=0.6)
    followed = made(half_closed, 2.0)
    frames = [made(None, 2.0 + k / 25) for k in range(1, 60)]
    steps = [np.abs(b - a).max() for a, b in zip([followed, *frames], frames, strict=False)]
    assert max(steps) < 2.5  # of 60 pixels between the eyes: it moves without jumps
    rest = frames[-20:]
    assert all(np.abs(f - portrait).max() < 2 for f in rest)
    assert np.ptp([f[1, 1] for f in rest]) > 0.05  # still breathing
    back = [made(half_closed, 4.5 + k / 25) for k in range(30)]
    steps = [np.abs(b - a).max() for a, b in zip([frames[-1], *back], back, strict=False)]
    assert max(steps) < 2.5
    assert np.abs(back[-1] - followed).max() < 1


def test_recalibration_sets_a_new_rest_pose() -> None:
    made = calibrate(animator())
    turned = face(turn=(0, 0.2, 0))
    assert abs(yaw(made(turned, 2))) > 8
    made.recalibrate()
    assert abs(yaw(made(turned, 3))) < 1


def test_mirroring_turns_the_head_the_other_way() -> None:
    turned = face(turn=(0, 0.2, 0))
    assert yaw(mirrored(turned)) == pytest.approx(-yaw(turned), abs=0.5)
    np.testing.assert_allclose(mirrored(mirrored(turned)), turned, atol=1e-3)


def test_the_rest_pose_adapts_in_minutes() -> None:
    """A session that begins with the head turned is calibrated in time; a look aside of some seconds is not rest."""
    begun, ahead = (geometry.head_pose(face(turn=(0, turn, 0))) for turn in (0.2, 0.0))
    rest = RestHeadPose()
    rest.update(begun)

    def off(seconds: int) -> float:
        """The error of the yaw, in degrees, for a driver who looks ahead, ``seconds`` later."""
        for _ in range(25 * seconds):
            pose = rest.update(ahead)
        return float(np.degrees(np.abs(geometry.to_rotation_vector(ahead.rotation @ pose.rotation.T)).max()))

    first = off(1)
    assert first > 8
    assert off(5) > 0.8 * first
    assert off(120) < 0.15 * first


def test_blinks_and_looks_aside_do_not_change_the_rest_pose() -> None:
    made = animator()
    for k in range(5):
        made(face(turn=(0, 0.8, 0)), k / 25)  # looking away: the head is not at rest
    assert not made.estimator.calibrated
    for k in range(40):
        made(face(eyeBlink=1.0 if k in (0, 1, 2, 3) else 0.0), 1 + k / 25)
    assert made.estimator.calibrated
    target = made(face(), 3)
    assert min(geometry.eye_openings(target)) == pytest.approx(min(geometry.eye_openings(face())), rel=0.15)


def test_a_camera_at_the_side_is_calibrated_in_the_end() -> None:
    made = animator()
    for k in range(70):
        made(face(turn=(0, 0.6, 0)), k / 25)
    assert made.estimator.calibrated


def test_a_turned_portrait_is_not_turned_to_its_hidden_cheek() -> None:
    moved = []
    for own in (0.0, 0.6):
        portrait = face(60, (0, own, 0))
        moved.append(abs(yaw(calibrate(animator(portrait))(face(turn=(0, -0.3, 0)), 2)) - yaw(portrait)))
    assert moved[0] > 14
    assert moved[1] < 8
