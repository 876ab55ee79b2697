"""A blind comparison: the same moments from several releases in random order, and a key file with that order.

``python -m engines.blind runs/blind DRIVER.mp4 warp=A.mp4 before=B.mp4 now=C.mp4 ...`` reads the clips that each
release's ``avatar-stream render`` made of one driver. It writes ``sheet.png`` (the driver first in every row, faces
at 384 pixels) and ``key.json``. Look at the sheet and write down your judgement before you open the key.
"""

import argparse
import json
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from avatar_stream.errors import AvatarError, BadInput
from avatar_stream.face import geometry
from avatar_stream.face.mesh import Floats
from avatar_stream.media.files import Clip
from engines.judges import track_again

Image = npt.NDArray[np.uint8]
CELL_PIXELS = 384


def read_frames(path: Path) -> list[Image]:
    """All frames of a clip."""
    clip = Clip(path)
    found = [picture for _, picture in clip.frames()]
    clip.close()
    return found


def notable_frames(faces: list[Floats | None], count: int) -> list[int]:
    """Up to ``count`` frames to compare: the widest mouth, shut eyes, averted gaze, and some in between.

    Raises :class:`BadInput` if fewer than ``count`` frames have a face.
    """
    seen = [k for k, face in enumerate(faces) if face is not None]
    if len(seen) < count:
        raise BadInput("the driver's face is found in too few frames: take another clip")
    known = [face for face in faces if face is not None]
    mouth = np.array([geometry.mouth_opening(face) for face in known])
    eyes = np.array([np.mean(geometry.eye_openings(face)) for face in known])
    gaze = np.array([geometry.gaze(face)[0] for face in known])
    order = [int(np.argmax(mouth)), int(np.argmin(eyes)), int(np.argmax(gaze)), int(np.argmin(gaze))]
    ranks = np.argsort(mouth)
    order += [int(ranks[round(share * (len(ranks) - 1))]) for share in (0.9, 0.75, 0.5, 0.1)]
    return [seen[k] for k in dict.fromkeys(order)][:count]


def crop_face(picture: Image, face: Floats | None) -> Image:
    """The face in a square of ``CELL_PIXELS``; the whole picture if no face was found."""
    if face is None:
        return np.asarray(cv2.resize(picture, (CELL_PIXELS, CELL_PIXELS)), np.uint8)
    unit = geometry.eye_distance(face)
    centre = face[[33, 263, 61, 291], :2].mean(0)
    scale = CELL_PIXELS / (2.3 * unit)
    offset = np.array([CELL_PIXELS / 2, CELL_PIXELS / 2]) - scale * centre
    matrix = np.array([[scale, 0, offset[0]], [0, scale, offset[1]]], np.float32)
    return np.asarray(cv2.warpAffine(picture, matrix, (CELL_PIXELS, CELL_PIXELS), flags=cv2.INTER_CUBIC), np.uint8)


def sheet(driver: Path, named: dict[str, Path], count: int, seed: int) -> tuple[Image, list[list[str]]]:
    """The sheet, and for each row the names of the columns after the driver's column."""
    shown = read_frames(driver)
    chosen = notable_frames(faces := track_again(shown), count)
    others = {name: read_frames(path) for name, path in named.items()}
    random = np.random.default_rng(seed)
    rows, key = [], []
    for k in chosen:
        order = [str(name) for name in random.permutation(sorted(named))]
        cells = [crop_face(shown[k], faces[k])]
        for name in order:
            picture = others[name][min(k, len(others[name]) - 1)]
            cells.append(crop_face(picture, track_again([picture])[0]))
        rows.append(np.hstack(cells))
        key.append(order)
    return np.vstack(rows), key


def main(given: list[str] | None = None) -> None:
    """Write sheet and key; bad input ends the command with a one-line message."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("driver", type=Path)
    parser.add_argument("named", nargs="+", metavar="NAME=CLIP")
    parser.add_argument("--rows", type=int, default=6)
    parser.add_argument("--seed", type=int)
    arguments = parser.parse_args(given)
    try:
        pairs = [entry.split("=", 1) for entry in arguments.named]
        if any(len(pair) != 2 for pair in pairs):
            raise BadInput("a clip has no name: name every clip, as in now=C.mp4")
        seed = arguments.seed if arguments.seed is not None else int(np.random.default_rng().integers(1 << 31))
        picture, key = sheet(arguments.driver, {name: Path(path) for name, path in pairs}, arguments.rows, seed)
    except AvatarError as error:
        raise SystemExit(f"engines.blind: {error}") from None
    arguments.out.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(arguments.out / "sheet.png"), cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    (arguments.out / "key.json").write_text(json.dumps(key, indent=1) + "\n")


if __name__ == "__main__":
    main()
