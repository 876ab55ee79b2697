"""Drift is detected and corrected within 25 ticks, in whatever part of the renderer it is injected."""

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import pytest

from avatar_stream.identity import guard
from avatar_stream.identity.guard import CHECK_INTERVAL, MAX_LIKENESS_DISTANCE, Guard
from avatar_stream.identity.library import SAMPLES, sample_pictures
from avatar_stream.identity.likeness import Likeness, likeness_distance, likeness_face, shrink_aligned
from avatar_stream.media.files import Clip
from avatar_stream.pipeline.avatar import Avatar
from avatar_stream.portrait.portrait import Portrait, prepare, read_picture
from avatar_stream.runtime.networks import Networks

pytestmark = pytest.mark.slow

FRAME_PERIOD = 1 / 25
FRAMES_PER_CHECK = round(CHECK_INTERVAL / FRAME_PERIOD)  # frames between the guard's checks


class Loop:
    """Runs an avatar with its guard frame by frame, with simulated time."""

    def __init__(self, portrait: Portrait) -> None:
        self.avatar = Avatar(portrait, Networks.shared())
        clip = Clip(SAMPLES / "driver.mp4")
        self.pictures = [picture for _, picture in clip.frames()]
        clip.close()
        self.guard = Guard(self.avatar.renderer, self)
        self.ticks = 0

    def reduce_expression(self, gain: float) -> None:
        self.avatar.reduce_expression(gain)

    def run(self, ticks: int) -> None:
        for _ in range(ticks):
            picture = self.pictures[self.ticks % len(self.pictures)]
            self.avatar.draw(self.avatar.follow(picture, self.ticks * FRAME_PERIOD))
            self.ticks += 1
            if self.ticks % FRAMES_PER_CHECK == 0:
                self.guard.check(self.ticks * FRAME_PERIOD)

    def apart(self) -> float:
        """The distance of the current picture from the warped portrait; 0 for the warp alone."""
        faces = self.avatar.renderer.last_faces()
        if faces is None:
            return 0.0
        return likeness_distance(*(Likeness.shared()(shrink_aligned(face)) for face in faces))


@pytest.fixture(scope="module")
def portrait() -> Portrait:
    return prepare(read_picture(sample_pictures()["samuel"]), 256, square=True)


@pytest.fixture
def loop(portrait: Portrait) -> Any:
    made = Loop(portrait)
    yield made
    made.avatar.close()


def stream(loop: Loop) -> Any:
    window = loop.avatar.renderer._window
    assert window is not None
    return window._stream


def corrupt_state(loop: Loop) -> None:
    for value in stream(loop).state_in.values():
        value[:] = np.nan


def corrupt_conditioning(loop: Loop) -> None:
    for value in stream(loop).identity.values():
        value += np.random.default_rng(1).normal(0, 300, value.shape).astype(value.dtype)


def test_the_guard_leaves_a_healthy_avatar_alone(loop: Loop) -> None:
    loop.run(150)
    assert loop.guard.faults == 0
    assert loop.guard.step.name == "WATCHING"
    assert loop.guard.distance is not None
    assert loop.guard.distance < MAX_LIKENESS_DISTANCE


@pytest.mark.parametrize("corrupt", [corrupt_state, corrupt_conditioning])
@pytest.mark.parametrize("at", [30, 61])
def test_drift_is_corrected_within_25_ticks(loop: Loop, corrupt: Callable[[Loop], None], at: int) -> None:
    loop.run(at)
    corrupt(loop)
    loop.run(25)
    assert loop.avatar.renderer.is_intact()
    assert loop.apart() < MAX_LIKENESS_DISTANCE
    # Its picture equals that of an undisturbed avatar.
    other = Loop(loop.avatar.renderer.portrait)
    other.run(loop.ticks)
    ours, theirs = loop.avatar.renderer.last_faces(), other.avatar.renderer.last_faces()
    assert ours is not None
    assert theirs is not None
    assert np.abs(ours[0].astype(int) - theirs[0]).mean() < 0.3
    other.avatar.close()


def test_a_network_that_changes_the_identity_is_switched_off(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Re-anchoring does not help here: within 25 ticks only the warp is shown."""
    monkeypatch.setattr(guard, "RECOVERY_TIME", 1.0)
    loop.run(122)  # the mouth is about to open wide, so that the network draws something
    window = type(loop.avatar.renderer._window)
    push = window.push  # type: ignore[union-attr]
    stranger = prepare(read_picture(sample_pictures()["noor"]), 256, square=True)
    face = cv2.flip(Avatar(stranger, None).renderer.rest_face, 0).astype(np.float32)

    def painted(self: Any, shown: Any, raster: Any) -> Any:
        return 2 * (face - shown)

    monkeypatch.setattr(window, "push", painted)
    loop.avatar.renderer.reset_window()
    loop.run(25)
    assert loop.guard.step.name == "PLAIN"
    assert loop.avatar.renderer.warp_only
    assert loop.apart() == 0
    monkeypatch.setattr(window, "push", push)
    # Once the network works again, the guard undoes its steps.
    loop.run(round(4 / FRAME_PERIOD))
    assert loop.guard.step.name == "WATCHING"
    assert not loop.avatar.renderer.warp_only
    assert loop.apart() < MAX_LIKENESS_DISTANCE


def test_identity_distances_within_a_person_are_small(portrait: Portrait) -> None:
    likeness = Likeness.shared()
    own = likeness.of(portrait.crop, portrait.landmarks)
    brighter = np.clip(portrait.crop * 0.8 + 30, 0, 255).astype(np.uint8)
    other = prepare(read_picture(sample_pictures()["noor"]), 256, square=True)
    assert likeness_distance(own, likeness.of(brighter, portrait.landmarks)) < 0.2
    assert likeness_distance(own, likeness.of(other.crop, other.landmarks)) > 0.45
    assert likeness_face(portrait.crop, portrait.landmarks).shape == (96, 96, 3)
