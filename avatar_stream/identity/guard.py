"""The guard: whether what is painted still is its person, and what is done about it where it is not.

A few times a second, beside the drawing and never in its way, two things are looked at. The window: its state must be
finite and its conditioning what the portrait gave. And the last picture's face, beside the same face before it was
painted, which is all the portrait's own pixels: a network that conditions nothing says how far they are apart (see
``avatar_stream.identity.likeness``), whatever the expression and the turn of the head. A fault anchors the window
anew to the portrait; the next one also scales the expression down; the third leaves the plain warp, which cannot
drift.
"""

import logging
import threading
import time
from collections.abc import Callable
from enum import IntEnum
from typing import Final, Protocol

import numpy as np

from avatar_stream.identity.likeness import Likeness, distance, shrink_aligned
from avatar_stream.portrait.renderer import PortraitRenderer

log = logging.getLogger(__name__)

CHECK_INTERVAL: Final = 0.16  # seconds between looks: four frames at 25 a second
MAX_LIKENESS_DISTANCE: Final = 0.30
"""Distance from which a painted face counts as somebody else's (docs/identity.md: how it was set)."""
RECOVERY_TIME: Final = 5.0  # seconds without another fault after which a step is taken back
REDUCED_GAIN: Final = 0.5  # of the expression's gain


class Step(IntEnum):
    """How far the guard has gone."""

    WATCHING = 0
    ANCHORED = 1  # the window was filled anew from the portrait
    REDUCED = 2  # and the expression is scaled down
    PLAIN = 3  # and only the warp is shown


class ExpressionControl(Protocol):
    """What the guard asks of a loop."""

    def reduce_expression(self, gain: float) -> None:
        """Scale the expression by ``gain`` from now on; 1: as it was asked for."""


class Guard:
    """Judges the pictures of one renderer; not thread-safe."""

    def __init__(self, renderer: PortraitRenderer, loop: ExpressionControl) -> None:
        self.renderer = renderer
        self.step = Step.WATCHING
        self.faults = 0
        """Looks at which something was wrong."""
        self.distance: float | None = None
        """Of the last look."""
        self._loop = loop
        self._embed = Likeness.shared()
        self._fault_at = -np.inf

    def look(self, now: float) -> float | None:
        """Look at window and newest picture, and act, at ``now`` seconds; the distance, None for no picture."""
        if self.step is Step.PLAIN and now - self._fault_at > RECOVERY_TIME:
            self._set_step(Step.REDUCED, now)
        intact, faces = self.renderer.is_intact(), self.renderer.last_faces()
        if faces is not None:
            painted, own = (self._embed(shrink_aligned(face)) for face in faces)
            self.distance = distance(painted, own)
        if not intact or (faces is not None and self.distance is not None and self.distance > MAX_LIKENESS_DISTANCE):
            self._fault(now)
        elif self.step and now - self._fault_at > RECOVERY_TIME:
            self._set_step(Step(self.step - 1), now)
        return self.distance if faces is not None else None

    def _fault(self, now: float) -> None:
        self.faults += 1
        self._set_step(Step(min(self.step + 1, Step.PLAIN)), now)
        log.warning("the avatar left its portrait (distance %s): %s", self.distance, self.step.name.lower())

    def _set_step(self, step: Step, now: float) -> None:
        up, self.step, self._fault_at = step > self.step, step, now
        if up:
            self.renderer.reset_window()
        self._loop.reduce_expression(REDUCED_GAIN if step >= Step.REDUCED else 1.0)
        self.renderer.warp_only = step >= Step.PLAIN


class GuardThread:
    """Looks at the newest renderer's pictures until it is stopped.

    ``renderer`` says which renderer draws now, ``on_distance`` is called with every distance.
    """

    def __init__(
        self,
        renderer: Callable[[], PortraitRenderer | None],
        loop: ExpressionControl,
        on_distance: Callable[[float], None] | None = None,
    ) -> None:
        self.guard: Guard | None = None
        self._renderer, self._loop, self._on_distance = renderer, loop, on_distance
        self._stopped = threading.Event()
        self.thread = threading.Thread(target=self._run, name="guard", daemon=True)
        self.thread.start()

    def stop(self) -> None:
        """End, at the next look."""
        self._stopped.set()

    def _run(self) -> None:
        while not self._stopped.wait(CHECK_INTERVAL):
            renderer = self._renderer()
            if renderer is None:
                continue
            if self.guard is None or self.guard.renderer is not renderer:
                self.guard = Guard(renderer, self._loop)
            try:
                found = self.guard.look(time.monotonic())
            except Exception:
                log.exception("the guard failed: nobody watches this avatar any more")
                self.guard = None
                return
            if found is not None and self._on_distance is not None:
                self._on_distance(found)
