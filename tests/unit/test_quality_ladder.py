"""The quality ladder steps down when drawing is too slow, steps up again when it is not, and does not oscillate."""

import numpy as np
import pytest

from avatar_stream.identity.library import sample_pictures
from avatar_stream.pipeline.quality_ladder import STEP_UP_SECONDS, QualityLadder
from avatar_stream.portrait.drawing_quality import DRAWING_QUALITIES
from avatar_stream.portrait.portrait import Portrait, prepare, read_picture
from avatar_stream.portrait.renderer import PortraitRenderer
from avatar_stream.runtime.networks import Networks

FRAME_PERIOD = 0.04


class Machine:
    """Simulates drawing: each quality takes a given time, at 25 frames a second or as fast as possible."""

    def __init__(self, costs: dict[str, float]) -> None:
        self.costs = costs
        self.ladder = QualityLadder(FRAME_PERIOD)
        self.now = 0.0
        self.qualities: list[str] = []

    def run(self, seconds: float) -> None:
        until = self.now + seconds
        while self.now < until:
            cost = self.costs[self.ladder.quality.name]
            self.now += max(cost, FRAME_PERIOD)
            self.ladder.observe(cost, self.now)
            self.qualities.append(self.ladder.quality.name)

    @property
    def changes(self) -> int:
        return sum(a != b for a, b in zip(self.qualities, self.qualities[1:], strict=False))


def costs(*milliseconds: float) -> dict[str, float]:
    return {quality.name: ms / 1e3 for quality, ms in zip(DRAWING_QUALITIES, milliseconds, strict=True)}


def test_a_fast_machine_keeps_the_best_quality() -> None:
    machine = Machine(costs(20, 10, 8, 5))
    machine.run(60)
    assert set(machine.qualities) == {"full"}


def test_a_slow_machine_settles_on_a_quality_in_seconds() -> None:
    machine = Machine(costs(90, 45, 30, 8))
    machine.run(12)
    assert machine.ladder.quality.name == "half rate"
    before = machine.changes
    machine.run(300)
    assert machine.ladder.quality.name == "half rate"
    assert machine.changes - before <= 8, "tries upwards must become rare"


def test_the_slowest_machine_draws_only_the_warp() -> None:
    machine = Machine(costs(400, 200, 100, 60))
    machine.run(30)
    assert machine.ladder.quality.name == "warp"


def test_the_quality_recovers_after_a_temporary_load() -> None:
    machine = Machine(costs(25, 12, 9, 5))
    machine.run(5)
    machine.costs = costs(80, 38, 25, 10)
    machine.run(8)
    assert machine.ladder.quality.name != "full"
    machine.costs = costs(25, 12, 9, 5)
    machine.run(10 * STEP_UP_SECONDS)
    assert machine.ladder.quality.name == "full"


@pytest.fixture(scope="module")
def portrait() -> Portrait:
    return prepare(read_picture(next(iter(sample_pictures().values()))), 256, square=True)


def test_every_quality_draws_the_portrait_after_any_other(portrait: Portrait) -> None:
    renderer = PortraitRenderer(portrait, Networks())
    order = [0, 1, 2, 3, 2, 0, 3, 1, 0]
    for level in order:
        renderer.quality = DRAWING_QUALITIES[level]
        for _ in range(3):
            picture = renderer(portrait.landmarks).picture
            assert picture.shape == portrait.picture.shape
            error = np.abs(picture.astype(int) - portrait.picture).mean()
            assert error < 5, (DRAWING_QUALITIES[level].name, error)
