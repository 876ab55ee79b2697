"""The benefit of more pictures of a person: ``python -m engines.others OUT --packs runs/packs``.

The portrait is one frame of a person's clip. Two cases are compared with the camera's frames. Shut eyes: with
inpainted lids, and with the person's own lids from another moment. A far turned head: from the portrait and its
mirror image, and with a picture from another moment. Writes ``OUT/lids.png`` and ``OUT/turned.png`` (portrait,
without and with the other picture, truth).
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

MIN_FRAMES_APART = 25  # between the other picture and the measured frame
MAX_SHUT_OPENING = 0.13  # of the wider eye, relative to its width
MIN_TURN_DEGREES = 14.0  # from the portrait to the other picture
MAX_RETURN_DEGREES = 7.0  # from the other picture to the measured frame
EYE_REGION = np.s_[50:95, 20:172]  # rows and columns of the aligned face


def frame_as_portrait(clip: Footage, k: int) -> Portrait:
    """Prepare one frame as a portrait."""
    return prepare_tracked(clip.picture(k), clip.landmarks[k], 512)


def render_beside_truth(portrait: Portrait, clip: Footage, k: int, networks: Networks) -> tuple[Image, Image, Floats]:
    """The portrait rendered as in frame ``k``, and that frame, both aligned; and the landmarks ``(468, 2)`` there."""
    left, top, width, height = portrait.box
    target = (clip.landmarks[k] - [left, top, 0]).astype(np.float32)
    inside = np.s_[top : top + height, left : left + width]
    matrix = geometry.aligned_frame(target, ALIGNED_SIZE)
    drawn = PortraitRenderer(portrait, networks)(target).picture[inside]
    points = (target[:468, :2] @ matrix[:, :2].T + matrix[:, 2]).astype(np.float32)
    return to_aligned(drawn, matrix), to_aligned(clip.picture(k)[inside], matrix), points


def lid_frames(clip: Footage) -> tuple[int, int, int] | None:
    """Three frames: wide open eyes (the portrait), shut eyes (the other picture), shut eyes at another time (the
    truth); None if there are none.
    """
    opened = np.array([max(geometry.eye_openings(face)) for face in clip.landmarks])
    usable = np.flatnonzero(clip.has_face)
    order = usable[np.argsort(opened[usable])]
    others = [k for k in order if abs(k - order[0]) > MIN_FRAMES_APART and opened[k] < MAX_SHUT_OPENING]
    return (int(order[-1]), int(order[0]), int(others[0])) if others and opened[order[0]] < MAX_SHUT_OPENING else None


def turn_frames(clip: Footage) -> Iterator[tuple[int, int, int]]:
    """Triples of frames: turned one way (the portrait), turned the other way (the other picture), that way at another
    time (the truth).
    """
    yaws = np.array([geometry.euler_degrees(geometry.head_pose(face).rotation)[1] for face in clip.landmarks])
    usable = np.flatnonzero(clip.has_face)
    for side in (1, -1):
        order = usable[np.argsort(side * yaws[usable])]
        away = side * (yaws - yaws[order[-1]])
        others = [k for k in usable if abs(k - order[-1]) > MIN_FRAMES_APART / 2 and away[k] > -MAX_RETURN_DEGREES]
        if others and side * (yaws[order[-1]] - yaws[order[0]]) > MIN_TURN_DEGREES:
            yield int(order[0]), int(order[-1]), int(others[len(others) // 2])


def region_psnr(drawn: Image, truth: Image, where: npt.NDArray[np.bool_]) -> float:
    """PSNR in dB over a mask."""
    error = ((drawn.astype(np.float32) - truth)[where] ** 2).mean()
    return float(10 * np.log10(255**2 / max(float(error), 1e-6)))


def main(given: list[str] | None = None) -> None:
    """Measure, print and write the sheets."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--packs", type=Path, default=Path("runs/packs"))
    arguments = parser.parse_args(given)
    arguments.out.mkdir(parents=True, exist_ok=True)
    networks = Networks.shared()
    clips = [clip for split in ("train", "dev") for clip in load_packs(arguments.packs, split, "clip")]
    eyes = np.zeros((ALIGNED_SIZE, ALIGNED_SIZE), bool)
    eyes[EYE_REGION] = True
    rows: dict[str, list[list[object]]] = {"lids": [], "turned": []}
    sheets: dict[str, list[Image]] = {"lids": [], "turned": []}
    for clip in clips:
        found = lid_frames(clip)
        cases = [("lids", found)] if found else []
        for kind, (own, lent, then) in [*cases, *(("turned", frames) for frames in turn_frames(clip))]:
            portrait, other = frame_as_portrait(clip, own), frame_as_portrait(clip, lent)
            part = (other.crop, other.landmarks)
            ways = [portrait, replace(portrait, asleep=part) if kind == "lids" else replace(portrait, turned=(part,))]
            pictures = [render_beside_truth(way, clip, then, networks) for way in ways]
            truth, points = pictures[0][1:]
            where = eyes
            if kind == "turned":
                hull = np.zeros(truth.shape[:2], np.uint8)
                where = cv2.fillConvexPoly(hull, cv2.convexHull(points).astype(np.int32), 1) > 0
            figures = [region_psnr(picture, truth, where) for picture, _, _ in pictures]
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
