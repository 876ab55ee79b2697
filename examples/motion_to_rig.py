"""Send a face's motion to a rig by VMC: ``python examples/motion_to_rig.py VIDEO [HOST] [PORT]``."""

import sys
import time

from avatar_stream import Clip, FaceCapture, VmcSender

host = sys.argv[2] if len(sys.argv) > 2 else "127.0.0.1"
port = int(sys.argv[3]) if len(sys.argv) > 3 else 39539
capture, rig = FaceCapture(), VmcSender(host, port)
began = time.monotonic()
for at, image in Clip(sys.argv[1]).frames():
    frame = capture(image, at)
    if frame is not None:
        time.sleep(max(0.0, began + at - time.monotonic()))
        rig.send(frame, at)
