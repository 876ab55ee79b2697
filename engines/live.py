"""People driven by themselves through the whole live path, measured against the real clip.

The portrait is the clip's first frame, prepared like an upload; landmarks are tracked from pixels; all inputs are
those of a real session. ``python -m engines.live runs/live --packs runs/packs [--split dev] [--weights DIR]`` writes
``report.json`` and prints a table of the model beside the warp alone.
"""

import argparse
import json
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from avatar_stream.errors import BadPicture
from avatar_stream.face import geometry, mesh
from avatar_stream.face.landmark_raster import landmark_raster
from avatar_stream.face.mesh import Floats
from avatar_stream.pipeline.avatar import Avatar
from avatar_stream.portrait.aligned import ALIGNED_SIZE, to_aligned
from avatar_stream.portrait.portrait import prepare
from avatar_stream.runtime.networks import WEIGHTS, Networks
from engines.data.packs import Footage, load_packs
from engines.judges import IdentityJudge, Image, Mask, Signals, grey_deviation, mean_gradient, psnr, track_again

MIN_OPEN_MOUTH = 0.06  # eye distances from which a mouth counts as open
SETTLING_FRAMES = 10  # at the beginning of a clip, not measured
LIP_LANDMARKS = sorted({*mesh.LIPS_RING, *mesh.MOUTH_RING})
EYE_LANDMARKS = sorted({*mesh.RIGHT_EYE_RING, *mesh.LEFT_EYE_RING})


def self_driven_pictures(networks: Networks | None, clip: Footage) -> list[Image]:
    """The pictures of a session whose portrait is the clip's first frame and whose camera is the clip.

    Raises ``BadPicture`` if the first frame cannot be a portrait.
    """
    frames = [clip.picture(k) for k in range(len(clip))]
    avatar = Avatar(prepare(frames[0], 512), networks)
    pictures = [avatar.draw(avatar.follow(frame, k / 25)).picture for k, frame in enumerate(frames)]
    pictures = pictures[avatar.renderer.delay :] + [frame.picture for frame in avatar.renderer.flush()]
    avatar.close()
    return pictures


def mouth_regions(landmarks: Floats) -> tuple[Floats, Mask, Mask]:
    """Matrix ``(2, 3)`` of a face's aligned frame, and in that frame masks of lips with inside and of the inside."""
    matrix = geometry.aligned_frame(landmarks, ALIGNED_SIZE)
    raster = landmark_raster((geometry.transform_2d(matrix, landmarks) + 0.5) / ALIGNED_SIZE)

    def grown(channel: npt.NDArray[np.uint8], pixels: int) -> Mask:
        mask = cv2.resize(channel, (ALIGNED_SIZE, ALIGNED_SIZE), interpolation=cv2.INTER_LINEAR) > 100
        return cv2.dilate(mask.astype(np.uint8), np.ones((pixels, pixels), np.uint8)) > 0

    return matrix, grown(raster[0] | raster[1], 5), grown(raster[0], 1)


def shape_error(face: Floats, truth: Floats, points: list[int]) -> float:
    """Mean distance of ``points`` after aligning both meshes by a similarity, in the truth's eye distances."""
    a, b = (x[:468, 0] + 1j * x[:468, 1] for x in (face.astype(np.float64), truth.astype(np.float64)))
    a, b = a - a.mean(), b - b.mean()
    scale = (a.conj() @ b) / (a.conj() @ a)
    return float(np.abs(a * scale - b)[points].mean() / geometry.eye_distance(truth))


def clip_figures(clip: Footage, pictures: list[Image], judge: IdentityJudge | None) -> dict[str, float]:
    """Figures of one clip; those of open mouths are missing if it has fewer than five."""
    rows = []
    for k in clip.has_face.nonzero()[0]:
        if k < SETTLING_FRAMES or clip.mouth[k] < MIN_OPEN_MOUTH:
            continue
        matrix, mouth, inside = mouth_regions(clip.landmarks[k])
        if inside.sum() < 12:
            continue
        truth, shown = (to_aligned(picture, matrix) for picture in (clip.picture(int(k)), pictures[k]))
        rows.append(
            (
                psnr(shown, truth, mouth),
                psnr(shown, truth, inside),
                grey_deviation(shown, inside) / max(grey_deviation(truth, inside), 1e-3),
                mean_gradient(shown, inside) / max(mean_gradient(truth, inside), 1e-3),
            )
        )
    out: dict[str, float] = {}
    if len(rows) >= 5:
        names = ("mouth_db", "inside_db", "contrast", "edges")
        out |= dict(zip(names, (float(v) for v in np.mean(rows, 0)), strict=True))
    found = track_again(pictures)
    both = [
        (face, clip.landmarks[k])
        for k, face in enumerate(found)
        if face is not None and clip.has_face[k] and k >= SETTLING_FRAMES
    ]
    for name, points in (("lips", LIP_LANDMARKS), ("eyes", EYE_LANDMARKS), ("face", list(range(468)))):
        out[f"{name}_shape"] = float(np.mean([shape_error(face, truth, points) for face, truth in both]))
    real, avatar = Signals.of([truth for _, truth in both]), Signals.of([face for face, _ in both])
    out["jitter_ratio"] = avatar.jitter / max(real.jitter, 1e-6)
    out["face_found"] = sum(face is not None for face in found) / len(found)
    if judge is not None and (distances := judge.distances(clip.picture(0), pictures[::25])):
        out["identity"] = float(np.mean(distances))
    return out


def measure(
    networks: Networks | None, clips: list[Footage], judge: IdentityJudge | None
) -> dict[str, dict[str, float]]:
    """Figures by clip, for clips whose first frame can be a portrait."""
    report = {}
    for clip in clips:
        try:
            report[clip.name] = clip_figures(clip, self_driven_pictures(networks, clip), judge)
        except BadPicture as error:
            print(f"{clip.name}: {error}", flush=True)
    return report


def table(engine: dict[str, dict[str, float]], warp: dict[str, dict[str, float]]) -> str:
    """Markdown with a row per clip and the means: the model's figures, and its gain over the warp alone."""
    names = ["mouth_db", "inside_db", "contrast", "edges", "lips_shape", "eyes_shape", "face_shape"]
    names += ["jitter_ratio", "identity"]
    lines = ["| clip | gain | " + " | ".join(names) + " |", "|---" * (len(names) + 2) + "|"]
    gains = []
    for clip, row in engine.items():
        gain = row["mouth_db"] - warp[clip]["mouth_db"] if "mouth_db" in row else None
        gains += [] if gain is None else [gain]
        cells = [f"{row[name]:.3f}" if name in row else "" for name in names]
        lines.append(f"| {clip} | {'' if gain is None else f'{gain:+.2f}'} | " + " | ".join(cells) + " |")
    for title, rows in (("mean", engine), ("warp alone", warp)):
        means = [float(np.mean([row[name] for row in rows.values() if name in row] or [np.nan])) for name in names]
        gain_cell = f"{np.mean(gains):+.2f}" if gains and title == "mean" else ""
        lines.append(f"| {title} | {gain_cell} | " + " | ".join(f"{value:.3f}" for value in means) + " |")
    return "\n".join(lines)


def main(given: list[str] | None = None) -> None:
    """Measure, write the report and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--packs", type=Path, required=True)
    parser.add_argument("--split", default="dev")
    parser.add_argument("--weights", type=Path, default=WEIGHTS)
    parser.add_argument("--slots", type=int, default=1)
    parser.add_argument("--clips", type=int, default=1000)
    parser.add_argument("--fold", help="K/N: only the people that engines.train --leave-out K/N left out")
    arguments = parser.parse_args(given)
    clips = load_packs(arguments.packs, arguments.split, "clip", only=arguments.fold)[: arguments.clips]
    judge = IdentityJudge()
    networks = Networks(folder=arguments.weights, slots=(arguments.slots,))
    report = {"engine": measure(networks, clips, judge), "warp": measure(None, clips, judge)}
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "report.json").write_text(json.dumps(report, indent=1) + "\n")
    print(table(report["engine"], report["warp"]))


if __name__ == "__main__":
    main()
