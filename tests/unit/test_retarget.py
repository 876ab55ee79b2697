import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from avatar_stream.face import geometry, mesh
from avatar_stream.face.geometry import Pose
from avatar_stream.face.mesh import Floats
from avatar_stream.face.retarget import (
    MAX_TURN,
    Animator,
    Motion,
    Neutral,
    Retargeter,
    mirrored,
    motion_between,
)


def face(
    scale: float = 100, turn: tuple[float, float, float] = (0, 0, 0), opening: float = 0.0, lids: float = 0.0
) -> Floats:
    """The template at ``scale`` pixels; ``opening`` and ``lids`` (0 open .. 1 closed) in its own axes."""
    points = mesh.template().copy()
    points[list(mesh.INNER_LIP_LOWER), 1] = points[list(mesh.INNER_LIP_UPPER), 1]
    points[list(mesh.INNER_LIP_LOWER[1:-1]), 1] += opening
    for upper, lower in (
        (mesh.RIGHT_LID_UPPER, mesh.RIGHT_LID_LOWER),
        (mesh.LEFT_LID_UPPER, mesh.LEFT_LID_LOWER),
    ):
        a, b = list(upper[1:-1]), list(lower[1:-1])
        points[a, 1] += lids * (points[b, 1] - points[a, 1])
    rotation = geometry.from_rotation_vector(turn)
    return Pose(scale, rotation, np.array([300, 200, 0], np.float32)).apply(points)


def animator(portrait: Floats | None = None) -> Animator:
    return Animator(Retargeter(face(60) if portrait is None else portrait))


def calibrated(portrait: Floats | None = None) -> Animator:
    made = animator(portrait)
    for k in range(10):
        made(face(), k / 25)
    return made


def test_a_driver_at_rest_leaves_the_portrait_at_rest() -> None:
    portrait = face(60, turn=(0.05, 0.1, 0))
    np.testing.assert_allclose(calibrated(portrait)(face(), 1), portrait, atol=0.1)


def test_the_same_person_is_reproduced_exactly() -> None:
    rest, moved = face(), face(turn=(0.05, 0.2, 0.03), opening=0.12)
    neutral = Neutral(frames=1)
    neutral.add(rest)
    target = Retargeter(rest)(motion_between(neutral.mean, moved), neutral.mean[0])
    assert np.abs(target - moved).max() < 1.5  # of 100 pixels between the eyes


@settings(max_examples=40, deadline=None)
@given(st.floats(40, 300), st.floats(-0.25, 0.25))
def test_the_drivers_size_and_turn_do_not_leak(scale: float, yaw: float) -> None:
    made = animator()
    for k in range(10):
        made(face(scale, turn=(0, yaw, 0)), k / 25)
    # Opened in the driver's own axes: the portrait, which looks ahead, opens along its own.
    target = made(face(scale, turn=(0, yaw, 0), opening=0.1), 1)
    assert geometry.mouth_opening(target) == pytest.approx(0.1, abs=0.02)
    assert abs(geometry.euler_degrees(geometry.head_pose(target).rotation)[1]) < 1.0


def test_closing_lids_close_a_portrait_with_wider_eyes() -> None:
    portrait = face(60)
    for upper in (mesh.RIGHT_LID_UPPER, mesh.LEFT_LID_UPPER):
        portrait[list(upper[1:-1]), 1] -= 4
    target = calibrated(portrait)(face(lids=1), 1)
    assert max(geometry.eye_openings(target)) < 0.25 * min(geometry.eye_openings(portrait))


@settings(max_examples=40, deadline=None)
@given(st.tuples(*[st.floats(-3, 3)] * 3), st.floats(-5, 5), st.floats(-2, 2), st.integers(0, 1000))
def test_no_motion_breaks_the_portrait(turn: tuple[float, ...], shift: float, scale: float, seed: int) -> None:
    portrait = face(60)
    noise = np.random.default_rng(seed).normal(0, 1, (mesh.LANDMARKS, 3)).astype(np.float32)
    motion = Motion(np.array(turn, np.float32), np.array([shift, -shift], np.float32), scale, noise)
    target = Retargeter(portrait)(motion)
    assert np.isfinite(target).all()
    for upper, lower in (
        (mesh.INNER_LIP_UPPER, mesh.INNER_LIP_LOWER),
        (mesh.RIGHT_LID_UPPER, mesh.RIGHT_LID_LOWER),
        (mesh.LEFT_LID_UPPER, mesh.LEFT_LID_LOWER),
    ):
        still = Retargeter(portrait)(Motion(np.zeros(3, np.float32), np.zeros(2, np.float32), 0, noise))
        gap = still[list(lower[1:-1]), 1] - still[list(upper[1:-1]), 1]
        assert (gap > -0.5).all()
    calm = Retargeter(portrait)(Motion(np.array(turn, np.float32), np.zeros(2, np.float32), 0, 0 * noise))
    angle = np.linalg.norm(geometry.to_rotation_vector(geometry.head_pose(calm).rotation))
    assert angle <= np.linalg.norm(MAX_TURN) + 0.02


def test_gain_scales_expression_only() -> None:
    made = calibrated()
    made.retargeter.gain = 0.0
    target = made(face(turn=(0, 0.2, 0), opening=0.15), 1)
    assert geometry.mouth_opening(target) == pytest.approx(geometry.mouth_opening(face()), abs=0.01)
    assert abs(geometry.euler_degrees(geometry.head_pose(target).rotation)[1]) > 8


def test_lost_face_eases_to_rest_and_breathes() -> None:
    portrait = face(60)
    made = calibrated(portrait)
    half_closed = face(turn=(0, 0.3, 0), opening=0.15, lids=0.6)
    followed = made(half_closed, 1.0)
    frames = [made(None, 1.0 + k / 25) for k in range(1, 60)]
    steps = [np.abs(b - a).max() for a, b in zip([followed, *frames], frames, strict=False)]
    assert max(steps) < 2.5  # of 60 pixels between the eyes: it eases, it never jumps
    rest = frames[-20:]
    assert all(np.abs(f - portrait).max() < 2 for f in rest)
    assert min(geometry.eye_openings(rest[-1])) > 0.9 * min(geometry.eye_openings(portrait))
    assert np.ptp([f[1, 1] for f in rest]) > 0.05  # still breathing
    back = [made(half_closed, 3.5 + k / 25) for k in range(30)]
    steps = [np.abs(b - a).max() for a, b in zip([frames[-1], *back], back, strict=False)]
    assert max(steps) < 2.5
    np.testing.assert_allclose(back[-1], followed, atol=0.2)


def test_recalibration_takes_a_new_neutral() -> None:
    made = calibrated()
    turned = face(turn=(0, 0.2, 0))
    assert abs(geometry.euler_degrees(geometry.head_pose(made(turned, 1)).rotation)[1]) > 8
    made.recalibrate()
    for k in range(10):
        target = made(turned, 1.1 + k / 25)
    assert abs(geometry.euler_degrees(geometry.head_pose(target).rotation)[1]) < 1


def test_mirror_turns_the_other_way() -> None:
    turned = face(turn=(0, 0.2, 0))
    yaw = geometry.euler_degrees(geometry.head_pose(turned).rotation)[1]
    assert geometry.euler_degrees(geometry.head_pose(mirrored(turned)).rotation)[1] == pytest.approx(-yaw, abs=0.5)
    np.testing.assert_allclose(mirrored(mirrored(turned)), turned, atol=1e-3)


def test_a_blink_or_a_look_aside_does_not_become_neutral() -> None:
    made = animator()
    for k in range(5):
        made(face(turn=(0, 0.8, 0)), k / 25)  # looking away: nothing is learnt from it
    assert not made.neutral.begun
    for k in range(8):
        made(face(lids=1.0 if k in (2, 3) else 0.0), 1 + k / 25)
    assert made.neutral.complete
    target = made(face(), 2)
    assert min(geometry.eye_openings(target)) == pytest.approx(min(geometry.eye_openings(face())), rel=0.1)


def test_a_camera_at_the_side_is_accepted_in_the_end() -> None:
    made = animator()
    for k in range(70):
        made(face(turn=(0, 0.6, 0)), k / 25)
    assert made.neutral.complete


def test_a_driver_calibrated_with_an_open_mouth_still_opens_and_closes_a_closed_portrait() -> None:
    made = animator()
    for k in range(10):
        made(face(opening=0.12), k / 25)
    opened, wide, closed = (geometry.mouth_opening(made(face(opening=x), 1 + x)) for x in (0.12, 0.2, 0.0))
    rest = geometry.mouth_opening(face())
    assert closed == pytest.approx(rest, abs=0.02)
    assert opened > rest + 0.06
    assert wide > opened + 0.05


def test_the_same_open_mouth_on_both_sides_is_rest() -> None:
    portrait = face(60, opening=0.12)
    made = animator(portrait)
    for k in range(10):
        target = made(face(opening=0.12), k / 25)
    np.testing.assert_allclose(target, portrait, atol=0.3)
