"""Expression settings: held parts stay still, and the rest follows the driver."""

import itertools
import json
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from avatar_stream.errors import BadInput
from avatar_stream.face import geometry
from avatar_stream.face.animator import Animator
from avatar_stream.face.arkit import ArkitFrame
from avatar_stream.face.expression import Expression
from avatar_stream.face.held_parts import HOLDABLE_PARTS, hold_parts
from avatar_stream.face.mesh import Floats
from avatar_stream.face.model import COEFFICIENT_INDEX, coefficients
from avatar_stream.face.motion import Motion
from avatar_stream.face.retarget import Retargeter
from avatar_stream.face.tracked_face import TrackedFace
from avatar_stream.identity.library import sample_pictures
from avatar_stream.pipeline.avatar import Avatar
from avatar_stream.portrait.portrait import Portrait, prepare, read_picture
from avatar_stream.server.session.control import SetExpression, parse_command
from tests.unit.faces import face, mouth_width


@pytest.fixture(scope="module")
def portrait() -> Portrait:
    return prepare(read_picture(sample_pictures()["felix"]), 256)


def full_motion() -> Motion:
    arc = np.sin(np.linspace(0, np.pi, 11)).astype(np.float32) * 0.25
    gap = np.zeros((11, 3), np.float32)
    gap[:, 1] = arc
    return replace(
        Motion.neutral(),
        gap=gap,
        coefficients=coefficients(jawOpen=0.5, mouthPucker=0.6, browInnerUp=0.7),
        look=np.full((2, 2), 0.3, np.float32),
        turn=np.array([0, 0.2, 0], np.float32),
    )


def moved_landmarks(*hold: str) -> Floats:
    animator = Animator(Retargeter(face()))
    animator.expression = Expression(frozenset(hold))
    return animator.follow_motion(full_motion(), 0.0)


def test_without_holds_nothing_changes() -> None:
    motion = full_motion()
    assert hold_parts(motion, frozenset()) is motion


def test_each_hold_affects_only_its_part() -> None:
    free, gaze, mouth, brows = (
        moved_landmarks(),
        moved_landmarks("gaze"),
        moved_landmarks("mouth"),
        moved_landmarks("brows"),
    )
    assert geometry.mouth_opening(mouth) < 0.02 < 0.1 < geometry.mouth_opening(free)
    eyes = slice(468, 478)
    assert np.abs(gaze[eyes] - free[eyes]).max() > 1
    assert np.abs(gaze[:468] - free[:468]).max() < 1e-3
    assert np.abs(brows[[105, 334]] - free[[105, 334]]).max() > 0.5
    assert np.abs(brows[eyes] - free[eyes]).max() < 0.3
    # The head still turns.
    assert np.linalg.norm(mouth[1] - face()[1]) > 3


def test_a_held_smile_is_wider_than_a_pout() -> None:
    assert mouth_width(moved_landmarks("smile")) > mouth_width(moved_landmarks()) + 0.03


def test_a_serious_face_does_not_smile() -> None:
    smiling = replace(full_motion(), coefficients=coefficients(mouthSmile=0.8))
    serious = hold_parts(smiling, frozenset({"serious"}))
    assert serious.coefficients.max() == 0


def test_with_covered_teeth_the_mouth_still_opens() -> None:
    covered = geometry.mouth_opening(moved_landmarks("teeth"))
    assert 0.01 < covered < 0.06 < geometry.mouth_opening(moved_landmarks())


def test_awake_eyes_never_close_fully() -> None:
    tired = replace(full_motion(), lids=np.array([0.1, 1.0], np.float32))
    assert np.allclose(hold_parts(tired, frozenset({"awake"})).lids, [0.62, 1.0])


@pytest.mark.parametrize(
    ("region", "measure"),
    [
        ("head", lambda points: float(np.linalg.norm(points[1] - face()[1]))),
        ("gaze", lambda points: float(np.abs(points[468] - points[33] - face()[468] + face()[33]).max())),
        ("mouth", geometry.mouth_opening),
    ],
)
def test_a_gain_scales_only_its_region(region: str, measure: Callable[[Floats], float]) -> None:
    def at(gain: float) -> Floats:
        animator = Animator(Retargeter(face()))
        animator.expression = Expression(gains={region: gain})
        return animator.follow_motion(full_motion(), 0.0)

    still, half, whole = (measure(at(gain)) for gain in (0.0, 0.5, 1.0))
    assert still < half < whole
    assert np.allclose(at(1.0), moved_landmarks(), atol=1e-3)


def test_a_blend_shape_can_be_limited() -> None:
    limits = Expression.from_json(
        {"limits": {"jawOpen": [0, 0.1], "mouthSmileLeft": [0.5, 1], "eyeBlinkLeft": [0, 0.3]}}
    )
    shut = replace(full_motion(), lids=np.array([0.1, 0.1], np.float32))
    bounded = limits(shut)
    assert bounded.coefficients[COEFFICIENT_INDEX["jawOpen"]] == pytest.approx(0.1)
    assert bounded.coefficients[COEFFICIENT_INDEX["mouthSmileLeft"]] == pytest.approx(0.5)
    assert np.allclose(bounded.lids, [0.1, 0.7])
    assert np.abs(bounded.gap).max() < 0.07 < np.abs(shut.gap).max()


def test_an_expression_survives_json() -> None:
    settings = {"hold": ["smile"], "limits": {"jawOpen": [0.0, 0.5]}, "gains": {"head": 0.5}}
    assert Expression.from_json(settings).to_json() == settings
    assert Expression.from_json({}).free


def test_invalid_expressions_raise() -> None:
    assert Expression(hold=["smile"], limits={"jawOpen": (0, 0.3)}).hold == frozenset({"smile"})
    assert Expression(hold="gaze").hold == frozenset({"gaze"})
    for wrong in ({"hold": {"beard"}}, {"limits": {"jawOpen": (0, 3)}}, {"gains": {"hair": 1.0}}):
        with pytest.raises(BadInput):
            Expression(**wrong)


def test_expressions_come_over_the_control_channel() -> None:
    command = parse_command(json.dumps({"type": "expression", "value": {"hold": list(HOLDABLE_PARTS)}}), 4096)
    assert command == SetExpression(Expression(frozenset(HOLDABLE_PARTS)))
    bad: list[object] = [
        {"hold": ["beard"]}, {"hold": "gaze"}, {"limits": {"nose": [0, 1]}}, {"limits": {"jawOpen": [1, 0]}},
        {"limits": {"jawOpen": 1}}, {"limits": []}, {"gains": {"head": 3}}, {"gains": {"hair": 1}}, {"gains": [1]},
        {"else": 1},
        "gaze", None, 3,
    ]  # fmt: skip
    for wrong in bad:
        with pytest.raises(BadInput):
            parse_command(json.dumps({"type": "expression", "value": wrong}), 4096)


def test_switching_between_video_and_motion_makes_no_jump(portrait: Portrait) -> None:
    with Avatar(portrait, None) as avatar:
        turned = face(turn=(0, 0.3, 0), jawOpen=0.4)
        seen = [avatar.follow(TrackedFace(face()), k / 25).target for k in range(20)]
        seen += [avatar.follow(TrackedFace(turned), 0.8 + k / 25).target for k in range(20)]
        seen += [avatar.follow(ArkitFrame({}), 1.6 + k / 25).target for k in range(20)]
    steps = [float(np.abs(b - a).max()) for a, b in itertools.pairwise(seen[35:])]
    whole = float(np.abs(seen[-1] - seen[38]).max())
    assert whole > 10
    assert max(steps) < 0.35 * whole
    assert steps[-1] < 0.1
