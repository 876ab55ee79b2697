"""The guard checks that the avatar still looks like its portrait, and corrects it if not.

It runs a few times a second on its own thread and never delays drawing. It checks two things. The state of the
diffusion window must be finite, and its conditioning must be the portrait's. And the face in the newest picture must
be like the same face in the warped portrait, which has only the portrait's own pixels. A network that has no part in
drawing measures their distance (see ``avatar_stream.identity.likeness``), whatever the expression and head pose.

The first fault refills the window from the portrait. The next one also scales the expression down. The third one
leaves only the warp, which cannot drift.
"""

import logging
import threading
import time
from collections.abc import Callable
from enum import IntEnum
from typing import Final, Protocol

import numpy as np

from avatar_stream.identity.likeness import Likeness, likeness_distance, shrink_aligned
from avatar_stream.portrait.renderer import PortraitRenderer

log = logging.getLogger(__name__)

CHECK_INTERVAL: Final = 0.16  # seconds between checks: four frames at 25 frames a second
MAX_LIKENESS_DISTANCE: Final = 0.30
"""Likeness distance; beyond it the face counts as another person's (docs/identity.md says how it was set)."""
RECOVERY_TIME: Final = 5.0  # seconds without a fault, after which the guard goes back one step
REDUCED_GAIN: Final = 0.5  # factor of the expression's gain


class Step(IntEnum):
    """What the guard does at present. Each step includes those before it."""

    WATCHING = 0
    ANCHORED = 1  # the window was refilled from the portrait
    REDUCED = 2  # the expression is scaled down
    PLAIN = 3  # only the warp is shown


class ExpressionControl(Protocol):
    """The part of the live loop that the guard uses."""

    def reduce_expression(self, gain: float) -> None:
        """Scale the expression by ``gain`` from now on; 1 is the user's own setting."""


class Guard:
    """Checks the pictures of one renderer. Not thread-safe."""

    def __init__(self, renderer: PortraitRenderer, loop: ExpressionControl) -> None:
        self.renderer = renderer
        self.step = Step.WATCHING
        self.faults = 0
        """Checks that found a fault."""
        self.distance: float | None = None
        """Likeness distance at the last check."""
        self._loop = loop
        self._embed = Likeness.shared()
        self._fault_at = -np.inf

    def check(self, now: float) -> float | None:
        """Check window and newest picture at ``now`` seconds, and act. The distance, or None without a picture."""
        if self.step is Step.PLAIN and now - self._fault_at > RECOVERY_TIME:
            self._set_step(Step.REDUCED, now)
        intact, faces = self.renderer.is_intact(), self.renderer.last_faces()
        if faces is not None:
            painted, own = (self._embed(shrink_aligned(face)) for face in faces)
            self.distance = likeness_distance(painted, own)
        if not intact or (faces is not None and self.distance is not None and self.distance > MAX_LIKENESS_DISTANCE):
            self._fault(now)
        elif self.step and now - self._fault_at > RECOVERY_TIME:
            self._set_step(Step(self.step - 1), now)
        return self.distance if faces is not None else None

    def _fault(self, now: float) -> None:
        self.faults += 1
        self._set_step(Step(min(self.step + 1, Step.PLAIN)), now)
        log.warning(
            "the avatar no longer looks like its portrait (distance %s), the guard's step is now: %s",
            self.distance,
            self.step.name.lower(),
        )

    def _set_step(self, step: Step, now: float) -> None:
        is_worse, self.step, self._fault_at = step > self.step, step, now
        if is_worse:
            self.renderer.reset_window()
        self._loop.reduce_expression(REDUCED_GAIN if step >= Step.REDUCED else 1.0)
        self.renderer.warp_only = step >= Step.PLAIN


class GuardThread:
    """Checks the pictures of the current renderer until it is stopped.

    ``renderer`` returns the current renderer; ``on_distance`` is called with every distance.
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
        """Stop at the next check."""
        self._stopped.set()

    def _run(self) -> None:
        while not self._stopped.wait(CHECK_INTERVAL):
            renderer = self._renderer()
            if renderer is None:
                continue
            if self.guard is None or self.guard.renderer is not renderer:
                self.guard = Guard(renderer, self._loop)
            try:
                found = self.guard.check(time.monotonic())
            except Exception:
                log.exception("the guard failed and has stopped: this avatar is not checked any more")
                self.guard = None
                return
            if found is not None and self._on_distance is not None:
                self._on_distance(found)
