"""A blind sheet: the same moments by several releases, in an order that only the key knows.

``python -m engines.blind runs/blind DRIVER.mp4 warp=A.mp4 before=B.mp4 now=C.mp4 ...`` takes what each release's own
``avatar-stream render`` made of one driver, and writes ``sheet.png`` (the driver first in every row, faces at 384
pixels) and ``key.json``. Look at the sheet and write down what you see before you open the key.
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
SIDE = 384


def pictures_of(path: Path) -> list[Image]:
    """All frames of a clip."""
    clip = Clip(path)
    found = [picture for _, picture in clip.frames()]
    clip.close()
    return found


def moments(faces: list[Floats | None], count: int) -> list[int]:
    """Frames worth a look: the widest mouth, shut eyes, looks aside, and some in between."""
    seen = [k for k, face in enumerate(faces) if face is not None]
    if len(seen) < count:
        raise BadInput("the driver's face is hardly seen: take another clip")
    known = [face for face in faces if face is not None]
    mouth = np.array([geometry.mouth_opening(face) for face in known])
    eyes = np.array([np.mean(geometry.eye_openings(face)) for face in known])
    gaze = np.array([geometry.gaze(face)[0] for face in known])
    order = [int(np.argmax(mouth)), int(np.argmin(eyes)), int(np.argmax(gaze)), int(np.argmin(gaze))]
    ranks = np.argsort(mouth)
    order += [int(ranks[round(share * (len(ranks) - 1))]) for share in (0.9, 0.75, 0.5, 0.1)]
    return [seen[k] for k in dict.fromkeys(order)][:count]


def face_at(picture: Image, face: Floats | None) -> Image:
    """The face, upright, ``SIDE`` pixels square; the whole picture where none is found."""
    if face is None:
        return np.asarray(cv2.resize(picture, (SIDE, SIDE)), np.uint8)
    unit = geometry.eye_distance(face)
    centre = face[[33, 263, 61, 291], :2].mean(0)
    scale = SIDE / (2.3 * unit)
    offset = np.array([SIDE / 2, SIDE / 2]) - scale * centre
    matrix = np.array([[scale, 0, offset[0]], [0, scale, offset[1]]], np.float32)
    return np.asarray(cv2.warpAffine(picture, matrix, (SIDE, SIDE), flags=cv2.INTER_CUBIC), np.uint8)


def sheet(driver: Path, named: dict[str, Path], count: int, seed: int) -> tuple[Image, list[list[str]]]:
    """The sheet, and for each row the names of its columns after the driver's."""
    shown = pictures_of(driver)
    chosen = moments(faces := track_again(shown), count)
    others = {name: pictures_of(path) for name, path in named.items()}
    random = np.random.default_rng(seed)
    rows, key = [], []
    for k in chosen:
        order = [str(name) for name in random.permutation(sorted(named))]
        cells = [face_at(shown[k], faces[k])]
        for name in order:
            picture = others[name][min(k, len(others[name]) - 1)]
            cells.append(face_at(picture, track_again([picture])[0]))
        rows.append(np.hstack(cells))
        key.append(order)
    return np.vstack(rows), key


def main(given: list[str] | None = None) -> None:
    """Write sheet and key; bad input ends in one line and status 2."""
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
            raise BadInput("name every clip: now=C.mp4")
        seed = arguments.seed if arguments.seed is not None else int(np.random.default_rng().integers(1 << 31))
        picture, key = sheet(arguments.driver, {name: Path(path) for name, path in pairs}, arguments.rows, seed)
    except AvatarError as error:
        raise SystemExit(f"engines.blind: {error}") from None
    arguments.out.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(arguments.out / "sheet.png"), cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    (arguments.out / "key.json").write_text(json.dumps(key, indent=1) + "\n")


if __name__ == "__main__":
    main()
