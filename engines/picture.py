"""Makes the pictures of README and model card from the shipped samples.

``python -m engines.picture example docs/example.jpg``: the sample driver above, portraits below it.
``python -m engines.picture moving docs/moving.webp``: driver and portraits side by side, moving.
``python -m engines.picture steps docs/steps.jpg``: the steps of the loop for one frame.
``python -m engines.picture failures docs/failures.jpg``: known weaknesses of the model, one portrait per row.
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
CELL_PIXELS = 232
STEPS_FRAME = 138
MOVING_FRAMES, MOVING_CELL_PIXELS = slice(20, 244), 200
EXAMPLE_FRAMES = (10, 60, 138, 166, 218)


def example(names: list[str], networks: Networks) -> list[list[Image]]:
    """Rows of pictures: the driver, then each portrait driven by it."""
    clip = Clip(SAMPLES / "driver.mp4")
    driver = [picture for _, picture in clip.frames()]
    clip.close()
    square = [driver[k][:, 80:560] for k in EXAMPLE_FRAMES]
    rows = [[np.full_like(square[0], 255), *square]]
    for name in names:
        portrait = prepare(read_picture(sample_pictures()[name]), 512, square=True)
        avatar = Avatar(portrait, networks)
        pictures = [avatar.draw(avatar.follow(frame, k / 25)).picture for k, frame in enumerate(driver)]
        avatar.close()
        rows.append([portrait.picture] + [pictures[k + avatar.renderer.delay] for k in EXAMPLE_FRAMES])
    return rows


def moving(names: list[str], networks: Networks, out: Path) -> None:
    """Write an animated WebP of the sample driver and the portraits driven by it, with every second frame."""
    clip = Clip(SAMPLES / "driver.mp4")
    driver = [picture for _, picture in clip.frames()][MOVING_FRAMES]
    clip.close()
    columns = [[frame[:, 80:560] for frame in driver]]
    for name in names:
        portrait = prepare(read_picture(sample_pictures()[name]), 384, square=True)
        with Avatar(portrait, networks) as avatar:
            columns.append(list(avatar.stream((k / 25, frame) for k, frame in enumerate(driver))))
    size = (MOVING_CELL_PIXELS, MOVING_CELL_PIXELS)
    frames = [
        np.hstack([cv2.resize(cell, size, interpolation=cv2.INTER_AREA) for cell in row])
        for row in list(zip(*columns, strict=True))[::2]
    ]
    first, *others = (Pictures.fromarray(frame) for frame in frames)
    first.save(out, save_all=True, append_images=others, duration=80, loop=0, quality=72, method=6)


def steps(names: list[str], networks: Networks) -> list[list[Image]]:
    """A row per portrait: the driver with landmarks, the mouth view, the portrait, the mesh of retargeted landmarks,
    the warp, the warp with drawn mouth and eyes, and the final picture with the network's light.
    """
    clip = Clip(SAMPLES / "driver.mp4")
    driver = [picture for _, picture in clip.frames()][: STEPS_FRAME + 1]
    clip.close()
    landmarks = landmarks_of_still(driver[-1])
    assert landmarks is not None
    seen = driver[-1].copy()
    for x, y in np.round(landmarks[:, :2]).astype(int):
        cv2.circle(seen, (int(x), int(y)), 1, (255, 255, 255), -1, cv2.LINE_AA)
    rows = []
    for name in names:
        portrait = prepare(read_picture(sample_pictures()[name]), 512, square=True)
        with Avatar(portrait, networks) as avatar:
            for k, frame in enumerate(driver):
                face = avatar.follow(frame, k / 25)
                drawn = avatar.warp(face)
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
    """Rows of pictures: a portrait, turned far, tilted back, with a very wide mouth, with shut eyes, and that last
    picture as a portrait whose eyes are opened.
    """
    rows = []
    for name in names:
        portrait = prepare(read_picture(sample_pictures()[name]), 512, square=True)
        rest = portrait.landmarks
        targets = [turn_head(rest, 0, 38), turn_head(rest, -28, 0), open_mouth(rest, 0.42)]
        asleep = render(portrait, scale_eye_opening(rest, 0), networks)
        row = [portrait.picture, *(render(portrait, target, networks) for target in targets), asleep]
        rows.append([*row, render(prepare(asleep, 512, square=True), rest, networks)])
    return rows


def render(portrait: Portrait, target: Floats, networks: Networks) -> Image:
    """Render the portrait with landmarks ``target (478, 3)``."""
    renderer = PortraitRenderer(portrait, networks)
    for _ in range(networks.slots):
        picture = renderer(target).picture
    return picture


def turn_head(landmarks: Floats, pitch: float, yaw: float) -> Floats:
    """Landmarks with the head turned by ``pitch`` and ``yaw`` degrees."""
    pose = geometry.head_pose(landmarks)
    turn = geometry.from_rotation_vector(np.radians([pitch, yaw, 0]))
    return geometry.Pose(pose.scale, turn @ pose.rotation, pose.translation).apply(pose.apply_inverse(landmarks))


def open_mouth(landmarks: Floats, wide: float) -> Floats:
    """Landmarks with the mouth opened to ``wide`` eye distances by lowering the jaw."""
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


def scale_eye_opening(landmarks: Floats, share: float) -> Floats:
    """Landmarks with the opening of the eyes scaled by ``share``."""
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
    cells = [
        [cv2.resize(cell, (CELL_PIXELS, CELL_PIXELS), interpolation=cv2.INTER_AREA) for cell in row] for row in rows
    ]
    sheet = np.vstack([np.hstack(row) for row in cells])
    cv2.imwrite(str(arguments.out), cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 88])


if __name__ == "__main__":
    main()
