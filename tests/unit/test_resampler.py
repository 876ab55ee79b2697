"""Audio whose format changes within a stream."""

import av
import numpy as np
import pytest

from avatar_stream.media.encode import OpusEncoder
from avatar_stream.media.resampler import Resampler
from avatar_stream.voice.speaker import VoiceMotion

FORMATS = [("s16", "mono", 8_000), ("s16", "stereo", 48_000), ("fltp", "mono", 16_000), ("s16", "stereo", 48_000)]


def sound(kind: tuple[str, str, int], seconds: float = 0.02) -> av.AudioFrame:
    """A tone in a sample format, layout and rate."""
    name, layout, rate = kind
    count = round(seconds * rate)
    tone = 0.3 * np.sin(2 * np.pi * 200 * np.arange(count) / rate)
    channels = len(av.AudioLayout(layout).channels)
    if name == "fltp":
        frame = av.AudioFrame.from_ndarray(
            np.tile(tone.astype(np.float32), (channels, 1)), format=name, layout=layout
        )
    else:
        frame = av.AudioFrame.from_ndarray(
            np.repeat((tone * 32767).astype(np.int16), channels)[None], format=name, layout=layout
        )
    frame.sample_rate = rate
    return frame


def test_no_samples_are_lost_when_the_format_changes() -> None:
    resampler = Resampler(format="fltp", layout="mono", rate=16_000)
    parts = [part for kind in FORMATS for _ in range(5) for part in resampler.resample(sound(kind))]
    parts += resampler.resample(None)
    samples = sum(part.samples for part in parts)
    assert samples == pytest.approx(len(FORMATS) * 5 * 320, abs=40)


def test_changes_of_a_peers_audio_format_are_followed() -> None:
    voice, encoder = VoiceMotion(), OpusEncoder()
    packets = 0
    for number, kind in enumerate(kind for kind in FORMATS for _ in range(10)):
        voice.add_audio(sound(kind))
        voice.frame(0.02 * number)
        packets += len(encoder.encode(sound(kind), 960 * number))
    # A change of format may cost a packet.
    assert packets >= 10 * len(FORMATS) - 2 * len(FORMATS)
