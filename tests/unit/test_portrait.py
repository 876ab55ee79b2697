"""Pictures that users upload as portraits."""

import io
import struct
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image as Pictures
from PIL import ImageCms

from avatar_stream.errors import BadPicture
from avatar_stream.face import geometry
from avatar_stream.face.geometry import Pose
from avatar_stream.identity.library import sample_pictures
from avatar_stream.portrait.portrait import Image, formats, prepare, read_picture
from avatar_stream.portrait.warp import PortraitWarp


@pytest.fixture(scope="module")
def sample() -> Image:
    return read_picture(next(iter(sample_pictures().values())))


def encode(image: npt.NDArray[np.unsignedinteger[Any]], kind: str = "JPEG", **options: object) -> bytes:
    out = io.BytesIO()
    Pictures.fromarray(image).save(out, kind, **options)
    return out.getvalue()


@pytest.mark.parametrize("name", sorted(sample_pictures()))
def test_every_sample_can_be_used(name: str) -> None:
    portrait = prepare(read_picture(sample_pictures()[name]), 384, square=True)
    assert portrait.picture.shape == (384, 384, 3)
    assert 0.3 < (portrait.matte > 128).mean() < 0.95


def test_a_picture_without_a_face_is_refused(sample: Image) -> None:
    with pytest.raises(BadPicture, match="no face found"):
        prepare(np.full((400, 400, 3), 128, np.uint8), 384)


def test_a_picture_with_two_faces_is_refused(sample: Image) -> None:
    with pytest.raises(BadPicture, match=r"2 faces.*one person"):
        prepare(np.hstack([sample, sample]), 384)


def test_a_small_face_in_the_background_is_ignored(sample: Image) -> None:
    wide = np.hstack([sample, np.full((512, 200, 3), 150, np.uint8)])
    wide[300:420, 540:660] = cv2.resize(sample, (120, 120), interpolation=cv2.INTER_AREA)
    prepare(wide, 384)


def test_a_profile_is_refused() -> None:
    """A sample's mesh, turned far, imitates a profile."""
    portrait = prepare(read_picture(sample_pictures()["noor"]), 512)
    pose = geometry.head_pose(portrait.landmarks)
    turned = geometry.from_rotation_vector([0, 1.15, 0]) @ pose.rotation
    target = Pose(pose.scale, np.asarray(turned, np.float32), pose.translation).apply(
        pose.apply_inverse(portrait.landmarks)
    )
    warp = PortraitWarp(portrait.crop, portrait.plate, portrait.matte, portrait.landmarks)
    with pytest.raises(BadPicture, match=r"turned too far|no clear face|no face"):
        prepare(warp(target).image, 512)


def test_a_picture_of_forty_pixels_is_refused(sample: Image) -> None:
    small = cv2.resize(sample, (40, 40), interpolation=cv2.INTER_AREA).astype(np.uint8)
    with pytest.raises(BadPicture, match="only 40x40"):
        read_picture(encode(small, "PNG"))


def test_forty_megapixels_are_scaled_down(sample: Image) -> None:
    large = cv2.resize(sample, (6400, 6400)).astype(np.uint8)
    portrait = prepare(read_picture(encode(large, quality=60)), 384, square=True)
    assert portrait.picture.shape == (384, 384, 3)


def test_a_decompression_bomb_is_refused_before_it_is_decoded() -> None:
    bomb = io.BytesIO()
    Pictures.new("1", (30_000, 30_000)).save(bomb, "PNG")
    assert len(bomb.getvalue()) < 1_000_000
    with pytest.raises(BadPicture, match="more than 64 megapixels"):
        read_picture(bomb.getvalue())


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_claimed_pixels_of_a_truncated_file_are_not_allocated(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    claim = io.BytesIO()
    Pictures.new("RGB", (6000, 6000)).save(claim, kind)
    monkeypatch.setattr(Pictures.Image, "load", lambda self: pytest.fail("decoded"))
    with pytest.raises(BadPicture, match="cannot hold 6000x6000 pixels"):
        read_picture(claim.getvalue()[:20_000])


def test_a_truncated_jpeg_is_refused(sample: Image) -> None:
    data = encode(sample)
    with pytest.raises(BadPicture, match="cut short"):
        read_picture(data[: len(data) // 2])


@pytest.mark.parametrize("data", [b"", b"hello", b"\x89PNG\r\n\x1a\n", b"GIF89a" + b"0" * 100, b"<svg/>"])
def test_files_that_are_not_pictures_are_refused(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "letter.png"
    path.write_bytes(data)
    with pytest.raises(BadPicture, match=r"letter\.png is not a JPEG, PNG, WebP.* picture: save it"):
        read_picture(path)


def test_a_missing_file_is_reported(tmp_path: Path) -> None:
    with pytest.raises(BadPicture, match="No such file"):
        read_picture(tmp_path / "nobody.jpg")


def test_exif_rotation_is_applied(sample: Image) -> None:
    sideways = np.ascontiguousarray(np.rot90(sample))
    exif = Pictures.Exif()
    exif[0x0112] = 6  # rotate by 90 degrees clockwise for display
    upright = read_picture(encode(sideways, exif=exif.tobytes(), quality=95))
    assert np.abs(upright.astype(int) - sample).mean() < 4
    prepare(upright, 384)


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "CMYK", "I;16"])
def test_all_pixel_formats_are_accepted(sample: Image, mode: str) -> None:
    picture = Pictures.fromarray(sample)
    if mode == "I;16":
        grey = np.asarray(picture.convert("L"), np.uint16) * 257
        picture = Pictures.fromarray(grey)
    else:
        picture = picture.convert(mode)
    out = io.BytesIO()
    picture.save(out, "JPEG" if mode == "CMYK" else "PNG")
    assert read_picture(out.getvalue()).shape == (512, 512, 3)


@pytest.mark.parametrize("shape", [(640, 480), (480, 800)])
def test_pictures_of_any_shape_are_pasted_back_without_a_seam(sample: Image, shape: tuple[int, int]) -> None:
    height, width = shape
    picture = np.full((height, width, 3), (90, 120, 140), np.uint8)
    head = cv2.resize(sample, (300, 300), interpolation=cv2.INTER_AREA)
    picture[80:380, width // 2 - 150 : width // 2 + 150] = head
    portrait = prepare(picture, 1024)
    assert portrait.picture.shape == (height, width, 3)
    warp = PortraitWarp(portrait.crop, portrait.plate, portrait.matte, portrait.landmarks)
    moved = portrait.landmarks.copy()
    moved[:, 0] += 8
    image = warp(moved).image.astype(int)
    crop = portrait.crop.astype(int)
    edges = [abs(image - crop)[line].mean() for line in (np.s_[0], np.s_[-1], np.s_[:, 0], np.s_[:, -1])]
    assert max(edges) < 4, edges
    y, x = (int(v) for v in portrait.landmarks[1, 1::-1])
    assert np.abs(image - crop)[y - 20 : y + 20, x - 30 : x + 30].mean() > 2


@pytest.mark.parametrize("kind", ["AVIF", "HEIF"])
def test_heic_and_avif_pictures_are_accepted(kind: str, tmp_path: Path) -> None:
    assert kind in formats()
    picture = Pictures.open(sample_pictures()["noor"])
    path = tmp_path / "phone.picture"
    turned = Pictures.Exif()
    turned[0x0112] = 6
    if kind == "AVIF":
        picture.rotate(90, expand=True).save(path, kind, quality=80, exif=turned)
    else:  # pillow-heif rotates pictures when it writes and reads them
        picture.save(path, kind, quality=80)
    read = read_picture(path)
    assert read.shape == (picture.height, picture.width, 3)
    assert np.abs(read.astype(int) - np.asarray(picture)).mean() < 6
    whole = path.read_bytes()
    with pytest.raises(BadPicture, match=r"damaged|not a"):
        read_picture(whole[: len(whole) // 2])


# Primaries (x, y of red, green, blue) and gamma of colour spaces of cameras and editors: IEC 61966-2-5,
# SMPTE EG 432-1 (with the white of Display P3), ISO 22028-2.
COLOUR_SPACES = {
    "Adobe RGB": ((0.64, 0.33), (0.21, 0.71), (0.15, 0.06), 2.2),
    "Display P3": ((0.68, 0.32), (0.265, 0.69), (0.15, 0.06), 2.2),
    "ProPhoto": ((0.7347, 0.2653), (0.1596, 0.8404), (0.0366, 0.0001), 1.8),
}
D50 = np.array([0.9642, 1.0, 0.8249])


def matrix_profile(name: str) -> bytes:
    """An ICC profile (ICC.1:2001, version 2) of three primaries under D50 and one gamma."""
    *places, gamma = COLOUR_SPACES[name]
    columns = np.array([[x / y, 1, (1 - x - y) / y] for x, y in places]).T
    columns = columns * np.linalg.solve(columns, D50)

    def fixed(*numbers: float) -> bytes:
        return b"".join(struct.pack(">i", round(number * 65536)) for number in numbers)

    curve = b"curv" + bytes(4) + struct.pack(">IH", 1, round(gamma * 256)) + bytes(2)
    tags = {b"wtpt": b"XYZ " + bytes(4) + fixed(*D50)}
    for letter, column in zip("rgb", columns.T, strict=True):
        tags[f"{letter}XYZ".encode()] = b"XYZ " + bytes(4) + fixed(*column)
        tags[f"{letter}TRC".encode()] = curve
    text = name.encode() + b"\0"
    tags[b"desc"] = (b"desc" + bytes(4) + struct.pack(">I", len(text)) + text + bytes(78)).ljust(112, b"\0")
    tags[b"cprt"] = b"text" + bytes(4) + b"none" + bytes(4)
    table, data = struct.pack(">I", len(tags)), b""
    for tag, content in tags.items():
        table += tag + struct.pack(">II", 128 + 4 + 12 * len(tags) + len(data), len(content))
        data += content
    head = struct.pack(">I4sI4s4s4s", 128 + len(table) + len(data), bytes(4), 0x02100000, b"mntr", b"RGB ", b"XYZ ")
    head += bytes(12) + b"acsp" + bytes(28) + fixed(*D50)
    return head.ljust(128, b"\0") + table + data


@pytest.mark.parametrize("name", COLOUR_SPACES)
def test_a_colour_profile_is_applied(sample: Image, name: str) -> None:
    profile = matrix_profile(name)
    wide = ImageCms.profileToProfile(
        Pictures.fromarray(sample),
        ImageCms.createProfile("sRGB"),
        ImageCms.ImageCmsProfile(io.BytesIO(profile)),
        ImageCms.Intent.RELATIVE_COLORIMETRIC,
    )
    assert wide is not None
    stored = np.asarray(wide, np.uint8)
    assert np.abs(stored.astype(int) - sample).mean() > 3  # the profile has an effect
    read = read_picture(encode(stored, "PNG", icc_profile=profile))
    assert np.percentile(np.abs(read.astype(int) - sample), 99) <= 2
    clear = np.dstack([stored, np.full(stored.shape[:2], 255, np.uint8)])
    assert np.array_equal(read_picture(encode(clear, "PNG", icc_profile=profile)), read)


@pytest.mark.parametrize("profile", [b"", b"nonsense", bytes(4096), "cut", "other pixels"])
def test_an_unusable_colour_profile_is_ignored(sample: Image, profile: bytes | str) -> None:
    picture = sample
    if profile == "cut":
        profile = matrix_profile("Adobe RGB")[:300]
    if profile == "other pixels":
        grey = matrix_profile("Adobe RGB").replace(b"RGB XYZ", b"CMYKXYZ", 1)
        profile = grey
    assert isinstance(profile, bytes)
    assert np.array_equal(read_picture(encode(picture, "PNG", icc_profile=profile)), picture)


def test_a_grey_picture_with_an_rgb_profile_stays_grey(sample: Image) -> None:
    grey = np.asarray(Pictures.fromarray(sample).convert("L"))
    read = read_picture(encode(grey, "PNG", icc_profile=matrix_profile("ProPhoto")))
    assert (np.ptp(read.astype(int), axis=2)).max() <= 1
    # A gamma of 1.8 is lighter than sRGB's.
    assert read[..., 0].mean() > grey.mean() + 5


def test_16_bit_grey_pictures_are_converted(sample: Image) -> None:
    grey = np.asarray(Pictures.fromarray(sample).convert("L"))
    read = read_picture(encode(np.asarray(grey.astype(np.uint16) * 257, np.uint16), "PNG"))
    assert np.abs(read.astype(int) - grey[..., None]).max() <= 1
    prepare(read, 384)
