"""Adding and removing smiles, against the truth: ``python -m engines.pairs --pairs DATA/pairs``.

Uses twenty people of the pairs who are in no training (see ``engines.data.portrayals``). The smiling picture is the
portrait and the same person's neutral picture drives it through the whole live path; and the other way round. The
session begins with the driver's neutral face, as real sessions do. Prints the PSNR around the mouth beside that of
the unchanged portrait, the distance of tracked lips from the truth, and the area of teeth against the true picture's.
"""

import argparse
import json
from pathlib import Path
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from avatar_stream.errors import AvatarError, BadPicture
from avatar_stream.face import geometry, mesh
from avatar_stream.face.mesh import Floats
from avatar_stream.face.tone import skin_tone, tooth_tone
from avatar_stream.pipeline.avatar import Avatar
from avatar_stream.portrait.aligned import ALIGNED_SIZE, to_aligned
from avatar_stream.portrait.portrait import prepare
from avatar_stream.runtime.networks import WEIGHTS, Networks
from engines.data.packs import Footage
from engines.data.portrayals import pair_footage
from engines.judges import Image, Mask, psnr, track_again
from engines.live import LIP_LANDMARKS, shape_error

NEUTRAL, SMILING = 0, 1
NEUTRAL_FRAMES: Final = 12  # of the neutral face, at the beginning of a session
HELD_FRAMES: Final = 15  # of the other face, until smoothing has settled
MOUTH_MARGIN: Final = 0.14  # eye distances around the lips, measured
TOOTH_THRESHOLDS: Final = (0.55, 0.72)  # least brightness, and least green and blue over red, relative to a tooth


def last_picture(networks: Networks | None, person: Footage, portrait: int, driver: int) -> Image:
    """The last picture of a session; ``portrait`` and ``driver`` are indices of one person's pictures."""
    frames = [person.picture(NEUTRAL)] * NEUTRAL_FRAMES + [person.picture(driver)] * HELD_FRAMES
    with Avatar(prepare(person.picture(portrait), 512), networks) as avatar:
        for k, frame in enumerate(frames):
            picture = avatar.draw(avatar.follow(frame, k / 25)).picture
        flushed = avatar.renderer.flush()
    return flushed[-1].picture if flushed else picture


def around_mouth(landmarks: Floats) -> tuple[Floats, Mask, Mask]:
    """Matrix ``(2, 3)`` of a face's aligned frame, and in that frame masks around the mouth and between the lips."""
    matrix = geometry.aligned_frame(landmarks, ALIGNED_SIZE)
    points = geometry.transform_2d(matrix, landmarks)

    def filled(ring: tuple[int, ...]) -> npt.NDArray[np.uint8]:
        out = np.zeros((ALIGNED_SIZE, ALIGNED_SIZE), np.uint8)
        cv2.fillPoly(out, [np.round(points[list(ring)]).astype(np.int32)], 1)
        return out

    span = float(np.linalg.norm(points[33] - points[263]))
    reach = 2 * round(MOUTH_MARGIN * span) + 1
    return matrix, cv2.dilate(filled(mesh.LIPS_RING), _disc(reach)) > 0, filled(mesh.MOUTH_RING) > 0


def teeth_area(picture: Image, landmarks: Floats) -> float:
    """Area between the lips that is as bright and pale as teeth, in squared eye distances."""
    matrix, _, inside = around_mouth(landmarks)
    if geometry.lip_gaps(landmarks).max() < 0.02 or not inside.any():
        return 0.0
    seen = to_aligned(picture, matrix)[inside].astype(np.float32) / tooth_tone(skin_tone(picture, landmarks))
    light = seen.mean(1)
    pale = seen[:, 1:].mean(1) / np.maximum(seen[:, 0], 0.05)
    points = geometry.transform_2d(matrix, landmarks)
    span = float(np.linalg.norm(points[33] - points[263]))
    return float(((light > TOOTH_THRESHOLDS[0]) & (pale > TOOTH_THRESHOLDS[1])).sum() / span**2)


def direction_figures(person: Footage, picture: Image, portrait: int, driver: int) -> dict[str, float]:
    """Figures of one direction of one person; ``picture`` is the session's last picture."""
    truth, face = person.picture(driver), person.landmarks[driver]
    own = person.landmarks[portrait]
    (found,) = track_again([picture])
    if found is None:
        return {"face_found": 0.0}
    # Align each picture by its own eyes and nose, because the pairs were taken moments apart.
    matrix, region, _ = around_mouth(face)
    wanted = to_aligned(truth, matrix)
    shown = to_aligned(picture, geometry.aligned_frame(found, ALIGNED_SIZE))
    nothing = to_aligned(person.picture(portrait), geometry.aligned_frame(own, ALIGNED_SIZE))
    true_teeth = teeth_area(truth, face)
    return {
        "face_found": 1.0,
        "db": psnr(shown, wanted, region),
        "db_nothing": psnr(nothing, wanted, region),
        "lips": shape_error(found, face, LIP_LANDMARKS),
        "lips_nothing": shape_error(own, face, LIP_LANDMARKS),
        "teeth": teeth_area(picture, found),
        "teeth_true": true_teeth,
        "teeth_error": abs(teeth_area(picture, found) - true_teeth),
    }


def measure(networks: Networks | None, people: list[Footage]) -> dict[str, dict[str, dict[str, float]]]:
    """Figures by direction (``unsmile``, ``smile``) and person, for people whose pictures can be portraits."""
    report: dict[str, dict[str, dict[str, float]]] = {"unsmile": {}, "smile": {}}
    for person in people:
        for name, portrait, driver in (("unsmile", SMILING, NEUTRAL), ("smile", NEUTRAL, SMILING)):
            try:
                picture = last_picture(networks, person, portrait, driver)
            except BadPicture as error:
                print(f"{person.name}: {error}", flush=True)
                continue
            report[name][person.name] = direction_figures(person, picture, portrait, driver)
    return report


def means(rows: dict[str, dict[str, float]]) -> dict[str, float]:
    """Means over the people; a person whose face is not found counts only in ``face_found``."""
    names = list(dict.fromkeys(name for row in rows.values() for name in row))
    return {name: float(np.mean([row[name] for row in rows.values() if name in row])) for name in names}


def table(report: dict[str, dict[str, float]]) -> str:
    """Markdown with a row per direction and model."""
    names = ["db", "db_nothing", "lips", "lips_nothing", "teeth", "teeth_true", "teeth_error", "face_found"]
    lines = ["| | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    for title, row in report.items():
        cells = [f"{row[name]:.{2 if 'db' in name else 4}f}" for name in names]
        lines.append(f"| {title} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _disc(size: int) -> npt.NDArray[np.uint8]:
    return np.asarray(cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size)), np.uint8)


def main(given: list[str] | None = None) -> None:
    """Measure and print; bad input ends the command with a one-line message."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=Path, default=Path("data/pairs"), help="(default %(default)s)")
    parser.add_argument("--weights", type=Path, default=WEIGHTS)
    parser.add_argument("--people", type=int, default=1000)
    parser.add_argument("--out", type=Path, help="every person's figures, as JSON")
    arguments = parser.parse_args(given)
    try:
        people = pair_footage(arguments.pairs, "dev")[: arguments.people]
        networks = Networks(folder=arguments.weights, slots=(1,))
        found = {"engine": measure(networks, people), "warp": measure(None, people)}
    except AvatarError as error:
        raise SystemExit(f"engines.pairs: {error}") from None
    if arguments.out:
        arguments.out.write_text(json.dumps(found, indent=1) + "\n")
    print(
        table(
            {f"{way}, {engine}": means(rows[way]) for way in ("unsmile", "smile") for engine, rows in found.items()}
        )
    )


if __name__ == "__main__":
    main()
