"""The README's picture: ``python -m engines.picture docs/example.jpg``. The sample driver above, portraits below."""

import argparse
from pathlib import Path

import cv2
import numpy as np

from avatar_stream.identity.library import SAMPLES, sample_pictures
from avatar_stream.media.files import Clip
from avatar_stream.portrait.avatar import Avatar
from avatar_stream.portrait.portrait import prepare, read_picture
from avatar_stream.portrait.window import Networks

CELL = 232


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--portraits", nargs="*", default=["noor", "mateo", "dalia"])
    parser.add_argument("--frames", nargs="*", type=int, default=[12, 46, 78, 113, 168])
    arguments = parser.parse_args()
    clip = Clip(SAMPLES / "driver.mp4")
    driver = [picture for _, picture in clip.frames()]
    clip.close()
    networks = Networks()
    square = [driver[k][:, 80:560] for k in arguments.frames]
    rows = [[np.full_like(square[0], 255), *square]]
    for name in arguments.portraits:
        portrait = prepare(read_picture(sample_pictures()[name]), 512, square=True)
        avatar = Avatar(portrait, networks)
        pictures = [avatar.draw(avatar.follow(frame, k / 25)).picture for k, frame in enumerate(driver)]
        avatar.close()
        rows.append([portrait.picture] + [pictures[k + avatar.engine.delay] for k in arguments.frames])
    cells = [[cv2.resize(cell, (CELL, CELL), interpolation=cv2.INTER_AREA) for cell in row] for row in rows]
    sheet = np.vstack([np.hstack(row) for row in cells])
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(arguments.out), cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 88])


if __name__ == "__main__":
    main()
