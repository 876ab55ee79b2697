"""Move a portrait by a video: ``python examples/render_clip.py PORTRAIT VIDEO OUT.mp4``."""

import sys

from avatar_stream import Avatar, Clip, Recorder

portrait, driving, output = sys.argv[1:]
clip = Clip(driving)
with Avatar(portrait) as avatar:
    recorder = Recorder(output, clip.rate, avatar.size, clip)
    for picture in avatar.stream(clip.frames()):
        recorder.write(picture)
    recorder.close()
