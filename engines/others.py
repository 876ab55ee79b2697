"""What other pictures of a person are worth: ``python -m engines.others OUT --packs runs/packs``.

People of the packs, each shown by one frame of their clip: their eyes shut, with skin grown over them and with their
own lids of another moment; their head turned far from that frame, alone (with its mirror image) and with a picture of
another moment. Against what the camera saw, and as ``OUT/lids.png`` and ``OUT/turned.png`` (the portrait, both ways,
the truth).
"""

import argparse
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from avatar_stream.face import geometry
from avatar_stream.face.mesh import Floats
from avatar_stream.portrait.aligned import ALIGNED_SIZE, to_aligned
from avatar_stream.portrait.portrait import Image, Portrait, prepare_tracked
from avatar_stream.portrait.renderer import PortraitRenderer
from avatar_stream.runtime.networks import Networks
from engines.data.packs import Footage, load_packs
from engines.report import table

APART = 25  # frames between a picture that is lent and the moment that is judged
SHUT = 0.13  # opening of the wider eye
FAR, NEAR = 14.0, 7.0  # degrees: from the portrait to the other picture at least; from that to the moment at most
EYES = np.s_[50:95, 20:172]  # of the aligned face


def moment(clip: Footage, k: int) -> Portrait:
    """One frame as a portrait."""
    return prepare_tracked(clip.picture(k), clip.landmarks[k], 512)


def shown(portrait: Portrait, clip: Footage, k: int, networks: Networks) -> tuple[Image, Image, Floats]:
    """The portrait as in frame ``k``, and the truth, both aligned; the landmarks there."""
    left, top, width, height = portrait.box
    target = (clip.landmarks[k] - [left, top, 0]).astype(np.float32)
    inside = np.s_[top : top + height, left : left + width]
    matrix = geometry.aligned_frame(target, ALIGNED_SIZE)
    drawn = PortraitRenderer(portrait, networks)(target).picture[inside]
    points = (target[:468, :2] @ matrix[:, :2].T + matrix[:, 2]).astype(np.float32)
    return to_aligned(drawn, matrix), to_aligned(clip.picture(k)[inside], matrix), points


def lids(clip: Footage) -> tuple[int, int, int] | None:
    """Frames: the portrait, with eyes wide open; eyes shut, to lend; eyes shut at another time."""
    opened = np.array([max(geometry.eye_openings(face)) for face in clip.landmarks])
    usable = np.flatnonzero(clip.has_face)
    order = usable[np.argsort(opened[usable])]
    others = [k for k in order if abs(k - order[0]) > APART and opened[k] < SHUT]
    return (int(order[-1]), int(order[0]), int(others[0])) if others and opened[order[0]] < SHUT else None


def turns(clip: Footage) -> Iterator[tuple[int, int, int]]:
    """Frames: the portrait, looking one way; looking the other way, to lend; that way at another time."""
    yaws = np.array([geometry.euler_degrees(geometry.head_pose(face).rotation)[1] for face in clip.landmarks])
    usable = np.flatnonzero(clip.has_face)
    for side in (1, -1):
        order = usable[np.argsort(side * yaws[usable])]
        away = side * (yaws - yaws[order[-1]])
        others = [k for k in usable if abs(k - order[-1]) > APART / 2 and away[k] > -NEAR]
        if others and side * (yaws[order[-1]] - yaws[order[0]]) > FAR:
            yield int(order[0]), int(order[-1]), int(others[len(others) // 2])


def decibels(drawn: Image, truth: Image, where: npt.NDArray[np.bool_]) -> float:
    """PSNR of a part."""
    error = ((drawn.astype(np.float32) - truth)[where] ** 2).mean()
    return float(10 * np.log10(255**2 / max(float(error), 1e-6)))


def main(given: list[str] | None = None) -> None:
    """Measure, print, and draw the sheets."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--packs", type=Path, default=Path("runs/packs"))
    arguments = parser.parse_args(given)
    arguments.out.mkdir(parents=True, exist_ok=True)
    networks = Networks.shared()
    clips = [clip for split in ("train", "dev") for clip in load_packs(arguments.packs, split, "clip")]
    eyes = np.zeros((ALIGNED_SIZE, ALIGNED_SIZE), bool)
    eyes[EYES] = True
    rows: dict[str, list[list[object]]] = {"lids": [], "turned": []}
    sheets: dict[str, list[Image]] = {"lids": [], "turned": []}
    for clip in clips:
        found = lids(clip)
        cases = [("lids", found)] if found else []
        for kind, (own, lent, then) in [*cases, *(("turned", frames) for frames in turns(clip))]:
            portrait, other = moment(clip, own), moment(clip, lent)
            part = (other.crop, other.landmarks)
            ways = [portrait, replace(portrait, asleep=part) if kind == "lids" else replace(portrait, turned=(part,))]
            pictures = [shown(way, clip, then, networks) for way in ways]
            truth, points = pictures[0][1:]
            where = eyes
            if kind == "turned":
                hull = np.zeros(truth.shape[:2], np.uint8)
                where = cv2.fillConvexPoly(hull, cv2.convexHull(points).astype(np.int32), 1) > 0
            figures = [decibels(picture, truth, where) for picture, _, _ in pictures]
            rows[kind].append([clip.identity, *(round(x, 2) for x in figures), round(figures[1] - figures[0], 2)])
            matrix = geometry.aligned_frame(portrait.landmarks, ALIGNED_SIZE)
            faces = [to_aligned(portrait.crop, matrix), *(picture for picture, _, _ in pictures), truth]
            sheets[kind].append(np.hstack(faces))
    for kind, found_rows in rows.items():
        if found_rows:
            print(table([kind, "alone", "with another picture", "gain, dB"], found_rows))
            print(f"{kind}: {np.mean([float(str(row[3])) for row in found_rows]):+.2f} dB, {len(found_rows)} cases\n")
            sheet = cv2.cvtColor(np.vstack(sheets[kind]), cv2.COLOR_RGB2BGR)
            cv2.imwrite(str(arguments.out / f"{kind}.png"), sheet)


if __name__ == "__main__":
    main()
