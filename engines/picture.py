"""The pictures of README and model card, from the shipped samples alone.

``python -m engines.picture example docs/example.jpg``: the sample driver above, portraits below it.
``python -m engines.picture moving docs/moving.webp``: driver and portraits side by side, moving.
``python -m engines.picture steps docs/steps.jpg``: one frame on its way through the loop.
``python -m engines.picture failures docs/failures.jpg``: what the model is known to do badly, a portrait a row.
"""

import argparse
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image as Pictures

from avatar_stream.face import geometry, mesh
from avatar_stream.face.mesh import Floats
from avatar_stream.face.mouth_view import VIEW_COLUMNS, VIEW_ROWS
from avatar_stream.face.tracker import landmarks_of_still
from avatar_stream.identity.library import SAMPLES, sample_pictures
from avatar_stream.media.files import Clip
from avatar_stream.pipeline.avatar import Avatar, RetargetedFace
from avatar_stream.portrait.compositor import paste_back
from avatar_stream.portrait.portrait import Portrait, prepare, read_picture
from avatar_stream.portrait.renderer import PortraitRenderer
from avatar_stream.runtime.networks import Networks

Image = npt.NDArray[np.uint8]
CELL = 232
STEP = 138
MOVING, MOVING_CELL = slice(20, 244), 200
FRAMES = (10, 60, 138, 166, 218)


def example(names: list[str], networks: Networks) -> list[list[Image]]:
    """Rows of pictures: the driver, then every portrait driven by it."""
    clip = Clip(SAMPLES / "driver.mp4")
    driver = [picture for _, picture in clip.frames()]
    clip.close()
    square = [driver[k][:, 80:560] for k in FRAMES]
    rows = [[np.full_like(square[0], 255), *square]]
    for name in names:
        portrait = prepare(read_picture(sample_pictures()[name]), 512, square=True)
        avatar = Avatar(portrait, networks)
        pictures = [avatar.draw(avatar.follow(frame, k / 25)).picture for k, frame in enumerate(driver)]
        avatar.close()
        rows.append([portrait.picture] + [pictures[k + avatar.renderer.delay] for k in FRAMES])
    return rows


def moving(names: list[str], networks: Networks, out: Path) -> None:
    """The sample driver and portraits driven by it, half the frames, as an animated WebP."""
    clip = Clip(SAMPLES / "driver.mp4")
    driver = [picture for _, picture in clip.frames()][MOVING]
    clip.close()
    columns = [[frame[:, 80:560] for frame in driver]]
    for name in names:
        portrait = prepare(read_picture(sample_pictures()[name]), 384, square=True)
        with Avatar(portrait, networks) as avatar:
            columns.append(list(avatar.stream((k / 25, frame) for k, frame in enumerate(driver))))
    size = (MOVING_CELL, MOVING_CELL)
    frames = [
        np.hstack([cv2.resize(cell, size, interpolation=cv2.INTER_AREA) for cell in row])
        for row in list(zip(*columns, strict=True))[::2]
    ]
    first, *others = (Pictures.fromarray(frame) for frame in frames)
    first.save(out, save_all=True, append_images=others, duration=80, loop=0, quality=72, method=6)


def steps(names: list[str], networks: Networks) -> list[list[Image]]:
    """A row for each portrait: the driver with its landmarks, what its mouth shows, the portrait, its mesh moved, the
    warp, mouth and eyes drawn, and the light of the network.
    """
    clip = Clip(SAMPLES / "driver.mp4")
    driver = [picture for _, picture in clip.frames()][: STEP + 1]
    clip.close()
    face = landmarks_of_still(driver[-1])
    assert face is not None
    seen = driver[-1].copy()
    for x, y in np.round(face[:, :2]).astype(int):
        cv2.circle(seen, (int(x), int(y)), 1, (255, 255, 255), -1, cv2.LINE_AA)
    rows = []
    for name in names:
        portrait = prepare(read_picture(sample_pictures()[name]), 512, square=True)
        with Avatar(portrait, networks) as avatar:
            for k, frame in enumerate(driver):
                face = avatar.follow(frame, k / 25)
                drawn = avatar.pose(face)
                lit = avatar.paint(drawn).picture
        cells = np.zeros((VIEW_ROWS, VIEW_COLUMNS, 3), np.float32) if face.view is None else face.view[..., [0, 1, 1]]
        cells = cv2.resize(np.clip(cells * 235, 0, 255).astype(np.uint8), (512, 512), interpolation=cv2.INTER_NEAREST)
        with Avatar(portrait, None) as plain:
            warped = plain.draw(RetargetedFace(plain.renderer, face.target, None)).picture
        mesh_of = warped // 3
        offset = np.array(portrait.box[:2])
        for a, b, c in mesh.skin_triangles():
            corners = np.round((face.target[[a, b, c], :2] + offset) * 8).astype(np.int32)
            cv2.polylines(mesh_of, [corners], True, (170, 200, 255), 1, cv2.LINE_AA, 3)
        mouthed = paste_back(portrait, drawn.crop.image)
        rows.append([seen[:, 80:560], cells, portrait.picture, mesh_of, warped, mouthed, lit])
    return rows


def failures(names: list[str], networks: Networks) -> list[list[Image]]:
    """Rows of pictures: a portrait, far turned, tilted back, with a mouth torn open, and its own shut eyes opened."""
    rows = []
    for name in names:
        portrait = prepare(read_picture(sample_pictures()[name]), 512, square=True)
        rest = portrait.landmarks
        targets = [turned(rest, 0, 38), turned(rest, -28, 0), opened(rest, 0.42)]
        asleep = shown(portrait, lids(rest, 0), networks)
        row = [portrait.picture, *(shown(portrait, target, networks) for target in targets), asleep]
        rows.append([*row, shown(prepare(asleep, 512, square=True), rest, networks)])
    return rows


def shown(portrait: Portrait, target: Floats, networks: Networks) -> Image:
    """The portrait as the renderer shows it with landmarks ``target (478, 3)``."""
    renderer = PortraitRenderer(portrait, networks)
    for _ in range(networks.slots):
        picture = renderer(target).picture
    return picture


def turned(landmarks: Floats, pitch: float, yaw: float) -> Floats:
    """The head turned, in degrees."""
    pose = geometry.head_pose(landmarks)
    turn = geometry.from_rotation_vector(np.radians([pitch, yaw, 0]))
    return geometry.Pose(pose.scale, turn @ pose.rotation, pose.translation).apply(pose.apply_inverse(landmarks))


def opened(landmarks: Floats, wide: float) -> Floats:
    """The mouth opened to ``wide`` eye distances by lowering the jaw."""
    pose = geometry.head_pose(landmarks)
    face = pose.apply_inverse(landmarks)
    drop = (wide - geometry.mouth_opening(landmarks)) * geometry.eye_distance(face)
    corner, chin = float(face[[78, 308], 1].mean()), float(face[152, 1])
    follows = np.clip((face[:, 1] - corner) / (0.3 * (chin - corner)), 0, 1)
    follows[[*mesh.INNER_LIP_UPPER, *mesh.OUTER_LIP_UPPER]] = 0
    for ring in (mesh.INNER_LIP_LOWER, mesh.OUTER_LIP_LOWER):
        follows[list(ring)] = np.sin(np.linspace(0, np.pi, len(ring)))
    face[:, 1] += drop * follows
    return pose.apply(face)


def lids(landmarks: Floats, share: float) -> Floats:
    """The eyes opened to ``share`` of what they are."""
    out = landmarks.copy()
    for upper, lower in (
        (mesh.RIGHT_LID_UPPER, mesh.RIGHT_LID_LOWER),
        (mesh.LEFT_LID_UPPER, mesh.LEFT_LID_LOWER),
    ):
        above, below = list(upper[1:-1]), list(lower[1:-1])
        out[above] = out[below] + share * (out[above] - out[below])
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=("example", "moving", "steps", "failures"))
    parser.add_argument("out", type=Path)
    parser.add_argument("--portraits", nargs="*")
    arguments = parser.parse_args()
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    if arguments.kind == "moving":
        moving(arguments.portraits or ["noor", "walter", "mona-lisa"], Networks(), arguments.out)
        return
    make, names = {
        "example": (example, ["noor", "samuel", "mona-lisa"]),
        "steps": (steps, ["walter"]),
        "failures": (failures, ["noor", "walter"]),
    }[arguments.kind]
    rows = make(arguments.portraits or names, Networks())
    cells = [[cv2.resize(cell, (CELL, CELL), interpolation=cv2.INTER_AREA) for cell in row] for row in rows]
    sheet = np.vstack([np.hstack(row) for row in cells])
    cv2.imwrite(str(arguments.out), cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 88])


if __name__ == "__main__":
    main()
