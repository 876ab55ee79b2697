"""Draw an avatar from your own frames, one by one: ``python examples/webcam_loop.py PORTRAIT [CAMERA] [FRAMES]``."""

import sys

import cv2

from avatar_stream import Avatar, Networks, Portrait

source = sys.argv[2] if len(sys.argv) > 2 else "0"
frames = int(sys.argv[3]) if len(sys.argv) > 3 else 250
camera = cv2.VideoCapture(int(source) if source.isdecimal() else source)
portrait = Portrait.open(sys.argv[1], 256, square=True)
with Avatar(portrait, Networks.shared(), keep=0.1) as avatar:
    for _ in range(frames):
        more, frame = camera.read()
        if not more:
            break
        picture = avatar(frame[:, :, ::-1].copy())  # RGB in, RGB out
        jaw = avatar.motion.shapes["jawOpen"]
        print(f"{picture.shape[1]} x {picture.shape[0]}, face {avatar.face}, jaw open by {jaw:.2f}")
