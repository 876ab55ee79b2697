"""FFmpeg's WHIP client, which PyAV contains, in its own process: ``python -m tests.clients.ffmpeg_publishes``.

Publishes the sample clip until its input is closed.
"""

import sys
import threading
import time
from fractions import Fraction

import av

from avatar_stream.media.marks import draw_mark
from tests.browser.camera import driver_frames

FRAME_RATE = 25


def main(url: str, profile: str, sound: bool) -> None:
    """Publish to ``url`` in an H.264 profile: Baseline, Main or High."""
    ended = threading.Event()

    def wait() -> None:
        sys.stdin.read()
        ended.set()

    threading.Thread(target=wait, daemon=True).start()
    frames = driver_frames()
    output = av.open(url, "w", format="whip")
    options = {"preset": "ultrafast", "tune": "zerolatency", "bf": "0"} | (
        {"8x8dct": "1"} if profile == "High" else {}
    )
    video = output.add_stream("libx264", rate=FRAME_RATE, options=options)
    video.width, video.height, video.pix_fmt, video.gop_size = 640, 480, "yuv420p", FRAME_RATE
    video.profile = profile
    audio = output.add_stream("libopus", rate=48_000, layout="stereo", options={"b": "32000"}) if sound else None
    began, number = time.monotonic(), 0
    while not ended.is_set():
        picture = frames[number % len(frames)].copy()
        draw_mark(picture, number % 2048)
        frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format="yuv420p")
        frame.pts, frame.time_base = number, Fraction(1, FRAME_RATE)
        output.mux(video.encode(frame))
        if audio is not None:
            quiet = av.AudioFrame(format="s16", layout="stereo", samples=48_000 // FRAME_RATE)
            for plane in quiet.planes:
                plane.update(bytes(plane.buffer_size))
            quiet.sample_rate, quiet.pts, quiet.time_base = 48_000, number * 48_000 // FRAME_RATE, Fraction(1, 48_000)
            output.mux(audio.encode(quiet))
        number += 1
        ended.wait(max(0.0, began + number / FRAME_RATE - time.monotonic()))
    output.close()
    print(number, "pictures")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], "sound" in sys.argv[3:])
