"""The live loop alone: the newest frame wins, commands, silence, failures, and its end."""

import logging
import threading
from collections.abc import Iterator
from functools import partial
from types import SimpleNamespace
from typing import Any, cast

import av
import numpy as np
import pytest

from avatar_stream.face.arkit import ArkitFrame
from avatar_stream.media.marks import draw_mark, read_mark
from avatar_stream.pipeline.avatar import Avatar
from avatar_stream.pipeline.live_loop import LiveLoop, NullListener
from avatar_stream.pipeline.quality_ladder import QualityLadder
from avatar_stream.portrait.drawing_quality import DRAWING_QUALITIES
from tests.waiting import TEST_TIMEOUT, wait_until

PICTURE_SIDE = 128


def camera_frame(level: int, mark: int | None = None) -> av.VideoFrame:
    """A grey picture whose level identifies it."""
    picture = np.full((PICTURE_SIDE, PICTURE_SIDE, 3), level, np.uint8)
    if mark is not None:
        draw_mark(picture, mark)
    return av.VideoFrame.from_ndarray(picture, format="rgb24")


class FakeAvatar:
    """Records its inputs; ``follow`` waits for ``gate``, and both halves can be made to fail."""

    networks = None

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()
        self.followed: list[Any] = []
        self.painted: list[int] = []
        self.fail_follow = self.fail_paint = False
        self.hold_paint = threading.Event()
        self.hold_paint.set()
        self.closed = False
        self.renderer = SimpleNamespace(quality=None)

    def follow(self, image: Any, time: float, tag: Any = None, detail: Any = None) -> Any:
        self.entered.set()
        assert self.gate.wait(TEST_TIMEOUT)
        level = round(float(image[PICTURE_SIDE // 2 :].mean())) if isinstance(image, np.ndarray) else image
        self.followed.append(level)
        if self.fail_follow:
            raise RuntimeError("a face of another world")
        return SimpleNamespace(renderer=self.renderer, level=level, tag=tag)

    def warp(self, face: Any) -> Any:
        warped = SimpleNamespace(renderer=self.renderer, level=face.level, tag=face.tag, plain=False)
        warped.unpainted = lambda: SimpleNamespace(**(vars(warped) | {"plain": True}))
        return warped

    def paint(self, warped: Any) -> Any:
        assert self.hold_paint.wait(TEST_TIMEOUT)
        if self.fail_paint and not warped.plain:
            raise RuntimeError("the GPU fell off the bus")
        level = warped.level if isinstance(warped.level, int) else 0
        self.painted.append(level)
        return SimpleNamespace(picture=np.full((PICTURE_SIDE, PICTURE_SIDE, 3), level, np.uint8), tag=warped.tag)

    def close(self) -> None:
        self.closed = True


class Listener(NullListener):
    """Records which stages failed, and how many frames were dropped for newer ones."""

    def __init__(self) -> None:
        self.failures: list[str] = []
        self.replaced = 0

    def failed(self, stage: str) -> None:
        self.failures.append(stage)

    def frame_received(self, dropped: int) -> None:
        self.replaced += dropped


@pytest.fixture
def avatar() -> FakeAvatar:
    return FakeAvatar()


@pytest.fixture
def listener() -> Listener:
    return Listener()


@pytest.fixture
def loop(avatar: FakeAvatar, listener: Listener) -> Iterator[LiveLoop]:
    """Not started yet; ends with the test."""
    made = LiveLoop(25, None, listener=listener, marks=True)
    yield made
    avatar.gate.set()
    avatar.hold_paint.set()
    made.stop()


def start(loop: LiveLoop, avatar: FakeAvatar) -> None:
    loop.start(cast(Avatar, avatar))


def test_the_newest_camera_frame_wins(loop: LiveLoop, avatar: FakeAvatar, listener: Listener) -> None:
    avatar.gate.clear()
    loop.add_frame(camera_frame(10))
    start(loop, avatar)
    assert avatar.entered.wait(TEST_TIMEOUT)
    for level in range(20, 120, 10):
        loop.add_frame(camera_frame(level))
    avatar.gate.set()
    wait_until(lambda: 110 in avatar.painted, "the newest frame was painted")
    assert [level for level in avatar.followed if level is not None][:2] == [10, 110]
    assert loop.dropped == listener.replaced == 9


def test_a_frame_comes_out_with_its_own_mark_and_delay(loop: LiveLoop, avatar: FakeAvatar) -> None:
    start(loop, avatar)
    loop.add_frame(camera_frame(60, mark=1234))
    wait_until(lambda: loop.newest is not None and loop.newest_mark == 1234, "the mark was read")
    wait_until(lambda: 60 in avatar.painted, "the frame was painted")
    wait_until(lambda: mark_of(loop) == 1234, "the mark was drawn into the avatar's picture")
    assert loop.delay() is not None


def mark_of(loop: LiveLoop) -> int | None:
    """The number in the newest avatar picture."""
    return None if loop.newest is None else read_mark(np.asarray(loop.newest.to_ndarray(format="rgb24"), np.uint8))


def test_commands_run_in_order_before_the_next_frame(loop: LiveLoop, avatar: FakeAvatar) -> None:
    done: list[Any] = []
    loop.commands.put(lambda one: done.append(("first", one, len(avatar.followed))))
    loop.commands.put(lambda one: done.append(("second", one, len(avatar.followed))))
    loop.add_frame(camera_frame(10))
    start(loop, avatar)
    wait_until(lambda: avatar.followed, "a frame was followed")
    assert done == [("first", avatar, 0), ("second", avatar, 0)]


def test_a_command_that_fails_leaves_the_loop_alive(loop: LiveLoop, avatar: FakeAvatar, listener: Listener) -> None:
    loop.commands.put(lambda one: one.no_such_method())  # type: ignore[attr-defined]
    start(loop, avatar)
    loop.add_frame(camera_frame(10))
    wait_until(lambda: listener.failures, "the failure was reported")
    loop.add_frame(camera_frame(20))
    wait_until(lambda: 20 in avatar.painted, "the next frame was painted")
    assert set(listener.failures) == {"follow"}


def test_without_a_camera_the_avatar_is_drawn_without_a_face(loop: LiveLoop, avatar: FakeAvatar) -> None:
    start(loop, avatar)
    wait_until(lambda: len(avatar.painted) > 3, "pictures went on without a camera")
    assert set(avatar.followed) == {None}


def test_without_a_camera_the_voice_moves_the_avatar(loop: LiveLoop, avatar: FakeAvatar) -> None:
    start(loop, avatar)
    sound = av.AudioFrame.from_ndarray(np.zeros((1, 320), np.int16), format="s16", layout="mono")
    sound.sample_rate, sound.pts = 16_000, 0

    # Silence counts as sound: the mouth is closed, and the face idles.
    def voice_was_followed() -> bool:
        loop.add_audio(sound)
        return any(isinstance(one, ArkitFrame) for one in avatar.followed)

    wait_until(voice_was_followed, "the voice moved the avatar")


def test_the_warp_is_shown_if_a_network_fails(
    loop: LiveLoop, avatar: FakeAvatar, listener: Listener, caplog: pytest.LogCaptureFixture
) -> None:
    avatar.fail_paint = True
    with caplog.at_level(logging.ERROR):
        start(loop, avatar)
        for level in (10, 20, 30):
            loop.add_frame(camera_frame(level))
            wait_until(partial(avatar.painted.__contains__, level), "the warp was shown")
    assert listener.failures.count("draw") >= 3
    # One line in five seconds, however often it fails.
    assert sum("the engine failed" in record.message for record in caplog.records) == 1


def test_one_bad_frame_does_not_end_a_call(loop: LiveLoop, avatar: FakeAvatar, listener: Listener) -> None:
    avatar.fail_follow = True
    start(loop, avatar)
    loop.add_frame(camera_frame(10))
    wait_until(lambda: "follow" in listener.failures, "the failure was reported")
    avatar.fail_follow = False
    loop.add_frame(camera_frame(20))
    wait_until(lambda: 20 in avatar.painted, "the next frame was painted")


def test_stopping_ends_both_threads_and_frees_the_avatar(loop: LiveLoop, avatar: FakeAvatar) -> None:
    start(loop, avatar)
    loop.add_frame(camera_frame(10))
    wait_until(lambda: avatar.painted, "a picture was painted")
    assert loop.stop()
    assert avatar.closed
    assert not any(thread.is_alive() for thread in loop.threads)
    assert loop.avatar is None
    assert loop.newest is None


def test_a_thread_that_hangs_keeps_its_avatar(
    loop: LiveLoop, avatar: FakeAvatar, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("avatar_stream.pipeline.live_loop.JOIN_TIMEOUT_SECONDS", 0.05)
    avatar.hold_paint.clear()
    start(loop, avatar)
    loop.add_frame(camera_frame(10))
    wait_until(lambda: avatar.followed, "a frame was followed")
    assert not loop.stop()
    assert not avatar.closed, "its thread still uses it"


def test_the_quality_ladder_sets_the_drawing_quality(avatar: FakeAvatar) -> None:
    loop = LiveLoop(25, QualityLadder(1 / 25))
    start(loop, avatar)
    loop.add_frame(camera_frame(10))
    wait_until(lambda: avatar.painted, "a picture was painted")
    assert avatar.renderer.quality == DRAWING_QUALITIES[0]
    assert loop.stop()
