"""Measures how many sessions this machine can run: in a second at the start, with the work that sessions do."""

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

MEASURED_FRAMES: Final = 36
FRAMES_PER_SAMPLE: Final = 6  # timed together
USABLE_SHARE: Final = 0.9  # of the machine that sessions may use; the rest is for signalling and load peaks
ROUNDING_TOLERANCE: Final = 0.15  # of a session: within the measurement's error, and the quality ladder adapts
PACKET_CORES: Final = 0.2  # per session, for packets and decoding, which aiortc does in Python (measured)


@dataclass(frozen=True, slots=True)
class Load:
    """Cost of one frame: seconds of processor time of all threads, and seconds that the engine is busy."""

    processor: float
    engine: float
    shared_engine: bool
    """The engine runs on a GPU: sessions share its time, not only the processor's."""

    def sessions(self, fps: int, cores: float) -> int:
        """How many sessions at ``fps`` fit on ``cores``; at least one (the quality ladder adapts it)."""
        fit = USABLE_SHARE * cores / (self.processor * fps + PACKET_CORES)
        if self.shared_engine:
            fit = min(fit, USABLE_SHARE / (self.engine * fps))
        return max(1, math.floor(fit + ROUNDING_TOLERANCE))


def measure(networks: Networks | None, portrait: Portrait, fps: int) -> Load:
    """Measure the load while drawing and encoding a second and a half of the sample clip."""
    clip = Clip(SAMPLES / "driver.mp4")
    pictures = [
        picture for _, picture in islice(clip.frames(), FIRST_SPEECH_FRAME, FIRST_SPEECH_FRAME + MEASURED_FRAMES)
    ]
    clip.close()
    avatar, encoder, marker = Avatar(portrait, networks), VideoEncoder("VP8", fps), Marker()
    used, taken = [time.process_time()], [0.0]
    for number, picture in enumerate(pictures, 1):
        shown = avatar.draw(avatar.follow(picture, number / fps)).picture
        encoder.encode(marker(shown), 3600 * number)
        if number % FRAMES_PER_SAMPLE == 0:
            used.append(time.process_time())
            taken.append(avatar.renderer.times.totals.get("network", 0.0) / 1e3)
    avatar.close()
    device = networks is not None and ("tensorrt" in networks.name or "cuda" in networks.name)
    # Skip the first sample, which includes setup; the median ignores load peaks of other programs.
    processor, engine = (float(np.median(np.diff(one)[1:])) / FRAMES_PER_SAMPLE for one in (used, taken))
    return Load(processor, engine, device)


def cores() -> float:
    """Processors this process may use, by its affinity and its container's quota (cgroup v2)."""
    allowed = float(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return min(allowed, int(quota) / int(period))
    except (OSError, ValueError):
        return allowed
