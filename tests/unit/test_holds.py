"""What is held stays, and everything else goes on."""

import json
from dataclasses import replace

import numpy as np
import pytest

from avatar_stream.errors import BadInput
from avatar_stream.face import geometry
from avatar_stream.face.animator import Animator
from avatar_stream.face.holds import HOLDS, held
from avatar_stream.face.mesh import Floats
from avatar_stream.face.model import coefficients
from avatar_stream.face.motion import Motion
from avatar_stream.face.retarget import Retargeter
from avatar_stream.server.control import SetHolds, parse_command
from tests.unit.faces import face, mouth_width


def busy() -> Motion:
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


def shown(*holds: str) -> Floats:
    animator = Animator(Retargeter(face()))
    animator.holds = frozenset(holds)
    return animator.move(busy(), 0.0)


def test_nothing_held_changes_nothing() -> None:
    motion = busy()
    assert held(motion, frozenset()) is motion


def test_each_hold_holds_its_part_alone() -> None:
    free, gaze, mouth, brows = shown(), shown("gaze"), shown("mouth"), shown("brows")
    assert geometry.mouth_opening(mouth) < 0.02 < 0.1 < geometry.mouth_opening(free)
    eyes = slice(468, 478)
    assert np.abs(gaze[eyes] - free[eyes]).max() > 1
    assert np.abs(gaze[:468] - free[:468]).max() < 1e-3
    assert np.abs(brows[[105, 334]] - free[[105, 334]]).max() > 0.5
    assert np.abs(brows[eyes] - free[eyes]).max() < 0.3
    # The head turns all the same.
    assert np.linalg.norm(mouth[1] - face()[1]) > 3


def test_a_held_smile_is_wider_than_a_pout() -> None:
    assert mouth_width(shown("smile")) > mouth_width(shown()) + 0.03


def test_holds_come_over_the_control_channel() -> None:
    command = parse_command(json.dumps({"type": "hold", "value": list(HOLDS)}), 4096)
    assert command == SetHolds(frozenset(HOLDS))
    assert parse_command('{"type": "hold", "value": []}', 4096) == SetHolds(frozenset())
    for wrong in ('{"type": "hold", "value": ["beard"]}', '{"type": "hold", "value": "gaze"}', '{"type": "hold"}'):
        with pytest.raises(BadInput, match=r"h[eo]ld"):
            parse_command(wrong, 4096)
