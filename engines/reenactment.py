"""Runs dev people through the live path: driven by themselves, driven by others, and for many minutes."""

from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np

from avatar_stream.face import geometry
from avatar_stream.face.mouth_view import read_mouth
from avatar_stream.face.tracker import FaceTracker
from avatar_stream.pipeline.avatar import Avatar
from avatar_stream.portrait.aligned import to_aligned
from avatar_stream.portrait.portrait import Portrait, prepare_tracked
from avatar_stream.portrait.renderer import PortraitRenderer
from avatar_stream.runtime.networks import Networks
from engines.data.packs import Footage
from engines.judges import (
    IdentityJudge,
    Image,
    Signals,
    following_figures,
    grey_deviation,
    mean_gradient,
    psnr,
    similarity_map,
    track_again,
)
from engines.measure import Case, face_regions

Row = dict[str, float]


def pair_figures(networks: Networks, cases: list[Case]) -> tuple[dict[str, Any], list[Image]]:
    """Pixel figures of the released model and of the warp on the dev pairs, and the pictures; every frame passes
    through a full window.
    """
    rows: dict[str, list[Row]] = {}
    pictures = []
    for case in cases:
        picture = _render_case(networks, case)
        pictures.append(picture)
        truth, warp = case.window.target[0], case.window.warp[0]
        alike, alike_warp = similarity_map(picture, truth), similarity_map(warp, truth)
        for region, mask in face_regions(case.window).items():
            if mask.sum() < 12:
                continue
            row = {
                "warp_db": psnr(warp, truth, mask),
                "engine_db": psnr(picture, truth, mask),
                "warp_l1": float(np.abs(warp[mask].astype(int) - truth[mask]).mean()),
                "engine_l1": float(np.abs(picture[mask].astype(int) - truth[mask]).mean()),
                "warp_ssim": float(alike_warp[mask].mean()),
                "engine_ssim": float(alike[mask].mean()),
                # A blurred mean would score well on pixels, but badly on these two.
                "contrast": grey_deviation(picture, mask) / max(grey_deviation(truth, mask), 1e-3),
                "edges": mean_gradient(picture, mask) / max(mean_gradient(truth, mask), 1e-3),
            }
            rows.setdefault(f"{case.kind}/{region}", []).append(row)
    report = {}
    for name, found in sorted(rows.items()):
        mean = {key: round(float(np.mean([row[key] for row in found])), 3) for key in found[0]}
        gain = round(mean["engine_db"] - mean["warp_db"], 2)
        report[name] = {"pairs": len(found), "gain_db": gain} | mean
    return report, pictures


def _render_case(networks: Networks, case: Case) -> Image:
    """The live path's picture of a pair, in the aligned frame of its truth."""
    renderer = PortraitRenderer(case.renderer_input.portrait, networks)
    for _ in range(networks.slots):
        picture = renderer(case.renderer_input.target, view=case.renderer_input.view).picture
    left, top, width, height = case.renderer_input.portrait.box
    matrix = geometry.aligned_frame(case.renderer_input.target, 192)
    return to_aligned(picture[top : top + height, left : left + width], matrix)


def self_reenactment(networks: Networks | None, clip: Footage, judge: IdentityJudge) -> Row:
    """Figures of a clip that drives its own calmest frame; landmarks are smoothed as in the live path."""
    good = clip.has_face.nonzero()[0]
    first = int(good[np.argmin(clip.mouth[good] - 0.2 * clip.eyes[good])])
    portrait = prepare_tracked(clip.picture(first), clip.landmarks[first], 512)
    renderer = PortraitRenderer(portrait, networks)
    tracker = FaceTracker(hold=0)
    offset = np.array([*portrait.box[:2], 0], np.float32)
    truth, outputs = [], []
    for k in range(len(clip)):
        face = tracker.update(clip.picture(k), k / 25).landmarks
        if face is not None:
            truth.append(clip.picture(k))
            view = read_mouth(clip.picture(k), face)
            outputs.append(renderer((face - offset).astype(np.float32), view=view).picture)
    tracker.close()
    outputs = outputs[renderer.delay :] + [frame.picture for frame in renderer.flush()]
    row = {
        "l1": float(np.mean([np.abs(a.astype(int) - b).mean() for a, b in zip(outputs, truth, strict=True)])),
        "psnr": float(np.mean([psnr(a, b, np.ones(a.shape[:2], bool)) for a, b in zip(outputs, truth, strict=True)])),
        "ssim": float(np.mean([similarity_map(a, b).mean() for a, b in zip(outputs[::5], truth[::5], strict=True)])),
    }
    theirs, ours = track_again(truth), track_again(outputs)
    both = [(a, b) for a, b in zip(theirs, ours, strict=True) if a is not None and b is not None]
    real, avatar = Signals.of([a for a, _ in both]), Signals.of([b for _, b in both])
    row |= {
        "face_found": len(both) / max(sum(a is not None for a in theirs), 1),
        "expression_error": float(np.abs(real.expression - avatar.expression).mean()),
        "gaze_error": float(np.abs(real.gaze - avatar.gaze).mean()),
        "yaw_error": float(np.abs(real.yaw - avatar.yaw).mean()),
        "pitch_error": float(np.abs(real.pitch - avatar.pitch).mean()),
        "jitter_ratio": avatar.jitter / max(real.jitter, 1e-6),
    }
    row |= {
        f"{name}_correlation": value for name, value in following_figures(real, avatar).items() if "range" not in name
    }
    found = judge.distances(portrait.picture, outputs[::25])
    return row | ({"identity": float(np.mean(found))} if found else {})


def cross_reenactment(
    networks: Networks | None, stills: list[Footage], clips: list[Footage], frames: int, judge: IdentityJudge
) -> tuple[list[Row], Image]:
    """Every clip drives ``len(stills) / len(clips)`` portraits through the whole live path; one row per portrait,
    and a contact sheet.
    """
    rows, strips = [], []
    for number, still in enumerate(stills):
        clip = clips[number % len(clips)]
        portrait = prepare_tracked(still.picture(0), still.landmarks[0], 512)
        outputs = list(_drive(networks, portrait, [clip.picture(k) for k in range(min(frames, len(clip)))]))
        rows.append(_driving_figures(portrait, clip, outputs, judge))
        chosen = np.linspace(10, len(outputs) - 1, 6).astype(int)
        cells = [portrait.picture] + [x for k in chosen for x in (clip.picture(int(k)), outputs[k])]
        strips.append(np.hstack([cv2.resize(cell, (160, 160), interpolation=cv2.INTER_AREA) for cell in cells]))
        line = " ".join(f"{key}={value:.2f}" for key, value in rows[-1].items())
        print(f"{clip.name} drives portrait {number}: {line}", flush=True)
    return rows, np.vstack(strips).astype(np.uint8)


def _driving_figures(portrait: Portrait, clip: Footage, outputs: list[Image], judge: IdentityJudge) -> Row:
    found = track_again(outputs)
    seen = [k for k, face in enumerate(found) if face is not None and clip.has_face[k]]
    driver = Signals.of([clip.landmarks[k] for k in seen])
    avatar = Signals.of([face for k in seen if (face := found[k]) is not None])
    row = {"face_found": sum(face is not None for face in found) / len(found)} | following_figures(driver, avatar)
    row["jitter_ratio"] = avatar.jitter / max(driver.jitter, 1e-6)
    # Split identity by head rotation, because small rotations make any method look good.
    turned = dict(zip(seen, np.abs(avatar.yaw), strict=True))
    for name, low, high in (
        ("identity", 0, 90),
        ("identity_0_10", 0, 10),
        ("identity_10_20", 10, 20),
        ("identity_20", 20, 90),
    ):
        chosen = [outputs[k] for k in seen if low <= turned[k] < high][::20]
        if distances := judge.distances(portrait.picture, chosen):
            row[name] = float(np.mean(distances))
    return row


def gaze_sweep(networks: Networks | None, stills: list[Footage], frames: int = 60) -> list[Row]:
    """Portraits whose landmarks look from side to side with a still head: correlation and range of the tracked gaze.

    In the clips gaze moves by a hundredth of an eye's width, so correlations there would only measure noise.
    """
    rows = []
    for still in stills:
        portrait = prepare_tracked(still.picture(0), still.landmarks[0], 512)
        renderer = PortraitRenderer(portrait, networks)
        pose = geometry.head_pose(portrait.landmarks)
        asked, outputs = [], []
        for k in range(frames):
            face = pose.apply_inverse(portrait.landmarks)
            width = float(np.linalg.norm(face[33] - face[133]))
            phase = 2 * np.pi * k / 30
            face[468:478, :2] += np.array([0.1 * np.sin(phase), 0.02 * np.sin(0.7 * phase)], np.float32) * width
            target = pose.apply(face)
            asked.append(float(geometry.gaze(target)[0]))
            outputs.append(renderer(target).picture)
        outputs = outputs[renderer.delay :] + [frame.picture for frame in renderer.flush()]
        found = track_again(outputs)
        both = [(a, float(geometry.gaze(face)[0])) for a, face in zip(asked, found, strict=True) if face is not None]
        wanted, seen = np.array(both).T
        rows.append(
            {"gaze": float(np.corrcoef(wanted, seen)[0, 1]), "gaze_range": float(np.std(seen) / np.std(wanted))}
        )
    return rows


def roll_out(networks: Networks, still: Footage, clip: Footage, minutes: float, judge: IdentityJudge) -> Row:
    """A portrait driven for ``minutes`` by a clip played back and forth; identity in the first and last minute."""
    portrait = prepare_tracked(still.picture(0), still.landmarks[0], 512)
    there = [clip.picture(k) for k in range(len(clip))]
    period = there + there[::-1]
    total = round(minutes * 60 * 25)
    minute = min(1500, total // 2)
    kept: dict[str, list[Image]] = {"first": [], "last": []}
    for k, picture in enumerate(_drive(networks, portrait, (period[k % len(period)] for k in range(total)))):
        # Keep the same phases of the clip in both minutes, so that only time differs.
        if k % 10 == 0 and (k < minute or k >= total - minute):
            kept["first" if k < minute else "last"].append(picture)
    row = {"minutes": minutes}
    for name, pictures in kept.items():
        row[f"identity_{name}"] = float(np.mean(judge.distances(portrait.picture, pictures[::3])))
    row["identity_drift"] = row["identity_last"] - row["identity_first"]
    return row


def _drive(networks: Networks | None, portrait: Portrait, frames: Any) -> Iterator[Image]:
    avatar = Avatar(portrait, networks)
    for k, frame in enumerate(frames):
        picture = avatar.draw(avatar.follow(frame, k / 25)).picture
        if k >= avatar.renderer.delay:
            yield picture
    for finished in avatar.renderer.flush():
        yield finished.picture
    avatar.close()
