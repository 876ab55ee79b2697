"""Sample portraits of people who do not exist: averages of at least 24 tier-A stills that look alike.

``python -m engines.data.composites PACKS OUT_FOLDER``. Each still is warped to a neutral expression, as the live path
does for a neutral driver, and then by its mesh to the mean shape of its group. The face is the mean of the warped
pictures, hair and clothes are closer to their median, the backdrop is painted. A group's members have similar
thumbnails, so that hair and collars match.
"""

import argparse
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from avatar_stream.face import geometry, mesh
from avatar_stream.face.mesh import Floats
from avatar_stream.face.motion import Motion
from avatar_stream.face.retarget import Retargeter
from avatar_stream.portrait.interior.closed_lips import close_lips
from avatar_stream.portrait.interior.layer import Interior
from avatar_stream.portrait.portrait import segment_person
from avatar_stream.portrait.warp import PortraitWarp
from engines.data.packs import load_packs

Image = npt.NDArray[np.uint8]

GROUP_SIZE = 24  # people per composite
FRAME_SIZE = 656  # pixels; the frame that stills are placed in
FACE_HEIGHT_SHARE = 0.47  # forehead to chin, of that frame
FRINGE_PIXELS = 9  # inside the outline, where averages mix hair and backdrop
COMPOSITE_CROP = (slice(6, 518), slice(64, 576))  # the part that nearly all stills cover: the composite, 512 x 512


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("packs", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--candidates", type=int, default=24)
    parser.add_argument("--pick", nargs="*", default=[], metavar="NUMBER:NAME", help="write only these, as JPEG")
    parser.add_argument("--smile", nargs="*", type=int, default=[], help="numbers that keep a closed smile")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    pictures, faces = _placed_stills(arguments.packs)
    features = _features(pictures, faces)
    names = dict(pick.split(":") for pick in arguments.pick)
    for number, members in enumerate(_groups(features, arguments.candidates)):
        if names and str(number) not in names:
            continue
        keep = 0.7 if number in arguments.smile else 0.0
        placed = [neutralize(pictures[k], faces[k], keep) for k in members]
        image = even_backdrop(composite([p for p, _ in placed], [f for _, f in placed]))
        path = arguments.out / (f"{names[str(number)]}.jpg" if names else f"candidate-{number:02d}.png")
        cv2.imwrite(str(path), cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 92])
        print(path, len(members), "people", flush=True)


def composite(pictures: list[Image], faces: list[Floats]) -> Image:
    """One portrait from many aligned pictures ``(FRAME_SIZE, FRAME_SIZE, 4)`` (RGB, known) with landmarks."""
    assert len(pictures) >= 20
    shape = np.mean(faces, 0).astype(np.float32)
    everything = np.full((FRAME_SIZE, FRAME_SIZE), 255, np.uint8)
    warped = []
    for picture, face in zip(pictures, faces, strict=True):
        person = segment_person(picture[..., :3])
        known = picture[..., 3]
        moved = PortraitWarp(picture[..., :3], picture[..., :3], everything, face)(shape).image
        masks = PortraitWarp(cv2.merge([person, known, known]), picture[..., :3], everything, face)(shape).image
        seen = np.where(masks[..., 1:2] > 250, _even_light(moved, shape).astype(np.float32), np.nan)
        warped.append((seen, np.where(masks[..., 1] > 250, masks[..., 0] / 255, np.nan)))
    stack = np.stack([w for w, _ in warped])
    # Below the shoulders some pictures end; use the others, and a plain colour where fewer than five are left.
    stack[:, np.isfinite(stack[..., 0]).sum(0) < 5] = 60
    matte = _trimmed_mean(np.stack([m for _, m in warped]).astype(np.float32), 0.1)
    # Extend clothes down to the bottom edge.
    bottom = round(0.7 * FRAME_SIZE)
    matte[bottom:] = np.maximum.accumulate(matte[bottom:], 0)
    # Above the hair, where fewer than half of the pictures reach, assume backdrop.
    half = np.isfinite(stack[..., 0]).sum(0) < len(pictures) / 2
    matte[half & (np.arange(FRAME_SIZE)[:, None] < 0.7 * FRAME_SIZE)] = 0
    mean, median = _trimmed_mean(stack, 0.5), _trimmed_mean(stack, 0.1)
    inside = np.zeros((FRAME_SIZE, FRAME_SIZE), np.uint8)
    cv2.fillPoly(inside, [np.round(shape[list(mesh.FACE_OVAL), :2]).astype(np.int32)], 255)
    soft = cv2.GaussianBlur(inside, (0, 0), 12).astype(np.float32)[..., None] / 255
    image = mean * soft + (0.35 * mean + 0.65 * median) * (1 - soft)
    # Sharpen: restore about the detail that averaging two dozen faces loses.
    detail = image - cv2.GaussianBlur(image, (0, 0), 2.0)
    image = image + detail * (0.9 * soft + 0.35)
    image = _without_fringe(image, matte)
    matte = cv2.GaussianBlur(np.clip((matte - 0.45) / 0.25, 0, 1), (0, 0), 1.6)[..., None]
    return np.clip(image * matte + _backdrop(mean) * (1 - matte), 0, 255).astype(np.uint8)[COMPOSITE_CROP]


def _trimmed_mean(stack: Floats, share: float) -> Floats:
    """Mean over the middle ``share`` of each pixel's values, without NaN; 0 if all are NaN.

    With a share of half, glasses that a few people wear leave no trace.
    """
    ordered = np.sort(stack, axis=0)  # NaN goes last
    count = np.isfinite(stack).sum(0)
    cut = np.floor(count * (1 - share) / 2).clip(0, np.maximum((count - 1) // 2, 0))
    rank = np.arange(len(stack)).reshape(-1, *[1] * (stack.ndim - 1))
    chosen = (rank >= cut) & (rank < count - cut)
    return np.asarray(np.where(chosen, ordered, 0).sum(0) / np.maximum(chosen.sum(0), 1), np.float32)


def even_backdrop(picture: Image) -> Image:
    """Replace everything that is clearly not the person by a smooth surface."""
    matte = segment_person(picture).astype(np.float32) / 255
    count, label, stats, _ = cv2.connectedComponentsWithStats((matte > 0.3).astype(np.uint8))
    person = label == 1 + int(np.argmax(stats[1:, cv2.CC_STAT_AREA])) if count > 1 else label > 0
    alpha = cv2.GaussianBlur(cv2.dilate(person.astype(np.float32), np.ones((7, 7))), (0, 0), 2.5)[..., None]
    size = picture.shape[0]
    y, x = (np.mgrid[0:size, 0:size].astype(np.float32) / size - 0.5).reshape(2, -1)
    terms = np.stack([np.ones_like(x), x, y, x * x, y * y, x * y], 1)
    free = np.flatnonzero((alpha[..., 0] < 0.01) & (np.arange(size)[:, None] < 0.6 * size))
    colours = picture.reshape(-1, 3)[free].astype(np.float32)
    usual = np.abs(colours - np.median(colours, 0)).max(1) < 25
    weights, *_ = np.linalg.lstsq(terms[free][usual], colours[usual], rcond=None)
    surface = (terms @ weights).reshape(picture.shape)
    return np.clip(picture * alpha + surface * (1 - alpha), 0, 255).astype(np.uint8)


def neutralize(picture: Image, face: Floats, keep: float) -> tuple[Image, Floats]:
    """A still ``(FRAME_SIZE, FRAME_SIZE, 4)`` with a neutral expression, but ``keep`` of its smile; and its new
    landmarks.
    """
    target = Retargeter(face, keep=keep)(Motion.neutral())
    everything = np.full((FRAME_SIZE, FRAME_SIZE), 255, np.uint8)
    colours = np.ascontiguousarray(picture[..., :3])
    moved = PortraitWarp(colours, colours, everything, face, closed_lips=close_lips(colours, face))(target).image
    Interior(colours, face).draw(moved, target)
    return np.dstack([moved, picture[..., 3]]), target


def _without_fringe(image: Floats, matte: Floats) -> Floats:
    """Replace the hair's outline, where backdrops are mixed in, by colours from further inside."""
    inner = cv2.erode((matte > 0.5).astype(np.float32), np.ones((2 * FRINGE_PIXELS + 1, 2 * FRINGE_PIXELS + 1)))
    near = cv2.GaussianBlur(inner, (0, 0), FRINGE_PIXELS)[..., None]
    inside = cv2.GaussianBlur(image * inner[..., None], (0, 0), FRINGE_PIXELS) / np.maximum(near, 1e-3)
    share = (1 - cv2.GaussianBlur(inner, (0, 0), 2.5)[..., None]) * np.clip(near * 8, 0, 1)
    return np.asarray(image + 0.85 * share * (inside - image), np.float32)


def _backdrop(mean: Floats) -> Floats:
    y, x = np.mgrid[0:FRAME_SIZE, 0:FRAME_SIZE].astype(np.float32) / FRAME_SIZE - 0.5
    tone = np.array([150, 162, 172], np.float32) * 0.7 + mean[:40].reshape(-1, 3).mean(0) * 0.3
    light = 1.12 - 0.55 * (x * x + (y + 0.1) ** 2)
    return np.asarray(tone * light[..., None], np.float32)


def _even_light(picture: Image, shape: Floats) -> Image:
    """Bring the face's mean brightness to a common level, so that no single person's light dominates."""
    x0, y0 = shape[:468, :2].min(0).astype(int)
    x1, y1 = shape[:468, :2].max(0).astype(int)
    level = picture[y0:y1, x0:x1].mean()
    return np.clip(picture * (1 + 0.5 * (145 / max(level, 1) - 1)), 0, 255).astype(np.uint8)


def _placed_stills(packs: Path) -> tuple[list[Image], list[Floats]]:
    """Nearly frontal tier-A training stills, aligned by similarity transforms in the composite's frame."""
    target = mesh.template()
    height = float(np.linalg.norm(target[10] - target[152]))
    goal = target * (FACE_HEIGHT_SHARE * FRAME_SIZE / height)
    goal[:, :2] += [FRAME_SIZE / 2, 0.47 * FRAME_SIZE - goal[list(mesh.FACE_OVAL), 1].mean()]
    stable = list(mesh.STABLE_LANDMARKS)
    pictures, faces, seen = [], [], set()
    for footage in load_packs(packs, "train", "still"):
        face = footage.landmarks[0]
        if footage.tier != "A" or footage.identity in seen:
            continue
        pitch, yaw, _ = geometry.euler_degrees(geometry.head_pose(face).rotation)
        if abs(yaw) > 12 or abs(pitch) > 18:
            continue
        matrix, _ = cv2.estimateAffinePartial2D(face[stable, :2], goal[stable, :2], method=cv2.LMEDS)
        still = footage.picture(0)
        picture = cv2.warpAffine(
            still, matrix, (FRAME_SIZE, FRAME_SIZE), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE
        )
        known = cv2.warpAffine(np.full(still.shape[:2], 255, np.uint8), matrix, (FRAME_SIZE, FRAME_SIZE))
        picture = np.dstack([picture, known])
        scale = float(np.linalg.norm(matrix[:, 0]))
        placed = np.column_stack([geometry.transform_2d(matrix.astype(np.float32), face), face[:, 2] * scale])
        pictures.append(picture.astype(np.uint8))
        faces.append(placed.astype(np.float32))
        seen.add(footage.identity)
    return pictures, faces


def _features(pictures: list[Image], faces: list[Floats]) -> Floats:
    """Thumbnails (hair, skin, collar) and face shape, each normalised."""
    small = np.stack(
        [cv2.resize(p[COMPOSITE_CROP][..., :3], (20, 20), interpolation=cv2.INTER_AREA) for p in pictures]
    ).astype(np.float32)
    ground = small[:, :3, [0, 1, -2, -1]].mean((1, 2), keepdims=True)
    tone = (small - ground * 0.3).reshape(len(small), -1) / 60
    skin = small[:, 9:14, 7:13].reshape(len(small), -1, 3).mean(1) / 60
    shape = np.stack([f[:468, :2] for f in faces]).reshape(len(faces), -1)
    shape = (shape - shape.mean(0)) / 6
    return np.concatenate([tone / np.sqrt(tone.shape[1]), 0.5 * shape / np.sqrt(shape.shape[1]), skin], 1).astype(
        np.float32
    )


def _groups(features: Floats, count: int) -> list[npt.NDArray[np.intp]]:
    """Farthest-point sampling of seeds among dense regions; each group is a seed with its nearest neighbours."""
    distance = np.linalg.norm(features[:, None] - features[None], axis=-1)
    density = np.sort(distance, 1)[:, GROUP_SIZE]
    dense = np.flatnonzero(density < np.quantile(density, 0.8))
    seeds = [int(dense[np.argmin(density[dense])])]
    while len(seeds) < count:
        seeds.append(int(dense[np.argmax(distance[dense][:, seeds].min(1))]))
    return [np.argsort(distance[seed])[:GROUP_SIZE] for seed in seeds]


if __name__ == "__main__":
    main()
