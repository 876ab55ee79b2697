"""Measure a release on people never trained on: ``python -m engines.evaluate --data ../shared/data --tracks TRACKS``.

Self-reenactment: PSNR against the warp alone, where a warp is blind and elsewhere. Cross-reenactment: dev clips drive
dev portraits through the live path; the output is tracked again and compared with the driver. Writes a JSON report
and contact sheets.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from avatar_stream.face import geometry
from avatar_stream.face.mesh import Floats
from avatar_stream.face.tracker import FaceTracker
from avatar_stream.portrait.aligned import to_aligned
from avatar_stream.portrait.avatar import Avatar
from avatar_stream.portrait.engine import PortraitEngine
from avatar_stream.portrait.portrait import Portrait, prepare_tracked
from avatar_stream.portrait.window import WEIGHTS, Networks
from engines.data.pairs import Clip, load_clips, load_stills
from engines.measure import Case, dev_cases, psnr, regions, sheet

Image = npt.NDArray[np.uint8]


def self_reenactment(networks: Networks, cases: list[Case]) -> tuple[dict[str, Any], list[Image]]:
    """PSNR of the released engine against the warp over the dev pairs; the frame is rolled in a full window."""
    gains: dict[str, list[tuple[float, float]]] = {}
    pictures = []
    for case in cases:
        picture = _painted(networks, case)
        pictures.append(picture)
        truth, warp = case.window.target[0], case.window.warp[0]
        for region, mask in regions(case.window).items():
            if mask.sum() >= 12:
                pair = (psnr(warp, truth, mask), psnr(picture, truth, mask))
                gains.setdefault(f"{case.kind}/{region}", []).append(pair)
    report = {}
    for name, pairs in sorted(gains.items()):
        warp_db, ours = np.mean(pairs, axis=0)
        report[name] = {
            "pairs": len(pairs),
            "warp_db": round(float(warp_db), 2),
            "engine_db": round(float(ours), 2),
            "gain_db": round(float(ours - warp_db), 2),
        }
    return report, pictures


def _painted(networks: Networks, case: Case) -> Image:
    """What the live engine shows for a pair, in the aligned frame of its truth."""
    engine = PortraitEngine(case.source.portrait, networks)
    for _ in range(networks.slots):
        picture = engine(case.source.target).picture
    left, top, width, height = case.source.portrait.box
    matrix = geometry.aligned_frame(case.source.target, 192)
    return to_aligned(picture[top : top + height, left : left + width], matrix)


def cross_reenactment(
    networks: Networks | None, portraits: list[tuple[Image, Floats]], clips: list[Clip], frames: int
) -> tuple[dict[str, Any], Image]:
    """Every clip drives ``len(portraits) / len(clips)`` portraits; means over all pairs."""
    rows: list[dict[str, float]] = []
    strips = []
    identity = _IdentityJudge()
    for number, (picture, landmarks) in enumerate(portraits):
        clip = clips[number % len(clips)]
        portrait = prepare_tracked(picture, landmarks, 512)
        outputs = _drive(networks, portrait, clip, frames)
        row, strip = _judge(portrait, clip, outputs, identity)
        rows.append(row)
        strips.append(strip)
        print(f"{clip.name} drives portrait {number}: {row}", flush=True)
    keys = sorted({key for row in rows for key in row})
    report: dict[str, Any] = {
        key: round(float(np.nanmean([row[key] for row in rows if key in row])), 3) for key in keys
    }
    report["pairs"] = len(rows)
    return report, np.vstack(strips)


def _drive(networks: Networks | None, portrait: Portrait, clip: Clip, frames: int) -> list[Image]:
    avatar = Avatar(portrait, networks)
    outputs = [avatar.draw(avatar.follow(frame, k / 25)).picture for k, frame in enumerate(clip.frames[:frames])]
    outputs = outputs[avatar.engine.delay :] + [frame.picture for frame in avatar.engine.flush()]
    avatar.close()
    return outputs


def _judge(
    portrait: Portrait, clip: Clip, outputs: list[Image], identity: "_IdentityJudge"
) -> tuple[dict[str, float], Image]:
    tracker = FaceTracker(smooth=False, hold=0)
    found = [tracker.update(picture, k / 25).landmarks for k, picture in enumerate(outputs)]
    tracker.close()
    seen = [k for k, face in enumerate(found) if face is not None and clip.good[k]]
    driver = _signals([clip.landmarks[k] for k in seen])
    avatar = _signals([face for k in seen if (face := found[k]) is not None])
    row = {"face_found": sum(face is not None for face in found) / len(found)}
    for name, enough in (("mouth", 0.015), ("blink", 0.03), ("yaw", 1.5), ("gaze", 0.02)):
        # A driver who does not move a thing says nothing of how it is followed.
        if np.std(driver[name]) > enough:
            row[name] = round(float(np.corrcoef(driver[name], avatar[name])[0, 1]), 3)
    row["jitter_ratio"] = round(_jitter(avatar["points"]) / max(_jitter(driver["points"]), 1e-6), 3)
    reference = identity.embed(portrait.picture)
    distances = [
        float(np.linalg.norm(vector - reference))
        for k in range(0, len(outputs), 20)
        if (vector := identity.embed(outputs[k])) is not None and reference is not None
    ]
    if distances:
        row["identity_distance"] = round(float(np.mean(distances)), 3)
    chosen = np.linspace(10, len(outputs) - 1, 6).astype(int)
    cells = [portrait.picture] + [x for k in chosen for x in (clip.frames[k], outputs[k])]
    strip = np.hstack([cv2.resize(cell, (160, 160), interpolation=cv2.INTER_AREA) for cell in cells])
    return row, strip.astype(np.uint8)


def _signals(faces: list[Floats]) -> dict[str, npt.NDArray[np.float64]]:
    poses = [geometry.head_pose(face) for face in faces]
    return {
        "mouth": np.array([geometry.mouth_opening(face) for face in faces]),
        "blink": np.array([np.mean(geometry.eye_openings(face)) for face in faces]),
        "yaw": np.array([geometry.euler_degrees(pose.rotation)[1] for pose in poses]),
        "gaze": np.array([geometry.gaze(face)[0] for face in faces]),
        "points": np.stack([(face - face.mean(0)) / geometry.eye_distance(face) for face in faces]),
    }


def _jitter(points: npt.NDArray[np.float64]) -> float:
    """Mean size of the second difference over time, in eye distances."""
    return float(np.abs(points[2:] - 2 * points[1:-1] + points[:-2]).mean())


class _IdentityJudge:
    """dlib's ResNet, an outside judge: below 0.6 it takes two pictures for one person."""

    def __init__(self) -> None:
        import dlib
        import face_recognition_models as models

        self._detector = dlib.get_frontal_face_detector()
        self._shape = dlib.shape_predictor(models.pose_predictor_five_point_model_location())
        self._network = dlib.face_recognition_model_v1(models.face_recognition_model_location())

    def embed(self, picture: Image) -> npt.NDArray[np.float64] | None:
        """128 numbers, or None where dlib sees no face."""
        boxes = self._detector(picture, 1)
        if not boxes:
            return None
        box = max(boxes, key=lambda b: b.width())
        return np.array(self._network.compute_face_descriptor(picture, self._shape(picture, box)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--tracks", type=Path, required=True)
    parser.add_argument("--weights", type=Path, default=WEIGHTS)
    parser.add_argument("--precision", choices=("fp32",), default=None, help="default: what runs fastest here")
    parser.add_argument("--out", type=Path, default=Path("runs/evaluation"))
    parser.add_argument("--portraits", type=int, default=14)
    parser.add_argument("--frames", type=int, default=200)
    parser.add_argument("--pairs", type=int, default=10, help="self-reenactment pairs a clip and kind")
    parser.add_argument("--warp", action="store_true", help="cross-reenactment by the warp alone")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    networks = Networks(folder=arguments.weights, precision=arguments.precision)
    report: dict[str, Any] = {"engine": "warp" if arguments.warp else networks.tick.name}
    if not arguments.warp and arguments.pairs:
        cases = dev_cases(arguments.data, arguments.tracks, arguments.pairs)
        report["self"], painted = self_reenactment(networks, cases)
        shown = [k for k in range(len(cases)) if cases[k].kind != "any"][::5]
        picture = sheet([cases[k] for k in shown], [painted[k] for k in shown])
        cv2.imwrite(str(arguments.out / "self.png"), cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    if arguments.portraits:
        clips = load_clips(arguments.data, arguments.tracks, "dev")
        stills = load_stills(arguments.data, arguments.tracks, "dev")
        chosen = [stills[k] for k in np.linspace(0, len(stills) - 1, arguments.portraits).astype(int)]
        used = None if arguments.warp else networks
        report["cross"], strip = cross_reenactment(used, chosen, clips, arguments.frames)
        cv2.imwrite(str(arguments.out / "cross.png"), cv2.cvtColor(strip, cv2.COLOR_RGB2BGR))
    (arguments.out / "report.json").write_text(json.dumps(report, indent=1) + "\n")
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
