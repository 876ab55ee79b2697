"""How many sessions this machine holds: measured at the start, in a second, with the work that sessions do."""

import logging
import math
import os
import time
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final

import numpy as np

from avatar_stream.identity.library import FIRST_SPEECH_FRAME, SAMPLES
from avatar_stream.media.encode import VideoEncoder
from avatar_stream.media.files import Clip
from avatar_stream.media.marking import Marker
from avatar_stream.pipeline.avatar import Avatar
from avatar_stream.portrait.portrait import Portrait
from avatar_stream.runtime.networks import Networks

log = logging.getLogger(__name__)

FRAMES: Final = 36
SOME: Final = 6  # frames that are timed together
USED: Final = 0.9  # of the machine that sessions may take: the rest is for signalling and for bad moments
NEARLY: Final = 0.15  # of a session that may be short: the ladder makes up for it, and a measurement is no truer
PACKETS: Final = 0.2  # cores for a session's packets and decoding, which aiortc handles in Python (measured)


@dataclass(frozen=True, slots=True)
class Load:
    """What one frame costs: seconds of processor, all threads together, and seconds that the engine is taken."""

    processor: float
    engine: float
    shared_engine: bool
    """The engine is a device of its own: its time is what runs out there, not the processor's."""

    def sessions(self, fps: int, cores: float) -> int:
        """How many sessions of ``fps`` fit on ``cores``; one always does (the ladder sees to it)."""
        fit = USED * cores / (self.processor * fps + PACKETS)
        if self.shared_engine:
            fit = min(fit, USED / (self.engine * fps))
        return max(1, math.floor(fit + NEARLY))


def measure(networks: Networks | None, portrait: Portrait, fps: int) -> Load:
    """Draw and encode a second and a half of the sample clip."""
    clip = Clip(SAMPLES / "driver.mp4")
    pictures = [picture for _, picture in islice(clip.frames(), FIRST_SPEECH_FRAME, FIRST_SPEECH_FRAME + FRAMES)]
    clip.close()
    avatar, encoder, marker = Avatar(portrait, networks), VideoEncoder("VP8", fps), Marker()
    used, taken = [time.process_time()], [0.0]
    for number, picture in enumerate(pictures, 1):
        shown = avatar.draw(avatar.follow(picture, number / fps)).picture
        encoder.encode(marker(shown), 3600 * number)
        if number % SOME == 0:
            used.append(time.process_time())
            taken.append(avatar.renderer.times.totals.get("network", 0.0) / 1e3)
    avatar.close()
    device = networks is not None and ("tensorrt" in networks.name or "cuda" in networks.name)
    # The first few set things up; a neighbour's burst makes some others dear.
    processor, engine = (float(np.median(np.diff(one)[1:])) / SOME for one in (used, taken))
    return Load(processor, engine, device)


def cores() -> float:
    """Processors this process may use: its affinity, and its container's quota (cgroup v2)."""
    allowed = float(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return min(allowed, int(quota) / int(period))
    except (OSError, ValueError):
        return allowed
