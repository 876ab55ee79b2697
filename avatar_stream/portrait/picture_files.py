"""Decodes picture files to upright sRGB: applies colour profiles, scales 16-bit grey, flattens transparency."""

import contextlib
import io
import warnings
from functools import cache
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image as Pictures
from PIL import ImageCms, ImageOps, features

from avatar_stream.errors import BadPicture

Image = npt.NDArray[np.uint8]

MAX_PIXELS: Final = 64_000_000
MAX_PIXELS_PER_BYTE: Final = 1000  # of the file: the smallest files of photographs have 400
MIN_SIDE_PIXELS: Final = 96
TRANSPARENCY_GREY: Final = 200  # level behind transparent pixels
WHITE_16_BIT: Final = 65535
_FORMAT_NAMES: Final = {"JPEG": "JPEG", "PNG": "PNG", "WEBP": "WebP", "AVIF": "AVIF", "HEIF": "HEIC"}
# Pillow's mode for each colour space that an ICC profile may name (ICC.1:2022 table 19).
_MODE_OF_COLOUR_SPACE: Final = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK"}


@cache
def formats() -> tuple[str, ...]:
    """Pillow's names of the picture formats that can be read here.

    AVIF, as phones write it, comes with most builds of Pillow, and HEIC with pillow-heif (the extra ``heic``).
    """
    known = ["JPEG", "PNG", "WEBP"]
    if features.check("avif"):
        known.append("AVIF")
    try:
        import pillow_heif
    except ImportError:
        pass
    else:
        pillow_heif.register_heif_opener()
        known.append("HEIF")
    return tuple(known)


def read_picture(source: Path | bytes) -> Image:
    """Decode a picture (see :func:`formats`) to upright RGB; raises :class:`BadPicture` with the reason."""
    name = source.name if isinstance(source, Path) else "the picture"
    try:
        data = source.read_bytes() if isinstance(source, Path) else source
    except OSError as error:
        raise BadPicture(f"cannot read {name}: {error.strerror or error}") from None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Pictures.DecompressionBombWarning)
            opened = Pictures.open(io.BytesIO(data), formats=formats())
    except Pictures.DecompressionBombError:
        raise BadPicture(f"{name} has more than {MAX_PIXELS // 1_000_000} megapixels: scale it down") from None
    except Exception:
        *first, last = (_FORMAT_NAMES[one] for one in formats())
        raise BadPicture(f"{name} is not a {', '.join(first)} or {last} picture: save it as one of these") from None
    with opened:
        width, height = opened.size
        if width * height > MAX_PIXELS:
            raise BadPicture(f"{name} has more than {MAX_PIXELS // 1_000_000} megapixels: scale it down")
        if width * height > MAX_PIXELS_PER_BYTE * len(data):
            # Raised before decoding, so that a header that claims too many pixels allocates nothing.
            raise BadPicture(f"{name} is damaged or cut short: {len(data)} bytes cannot hold {width}x{height} pixels")
        if min(width, height) < MIN_SIDE_PIXELS:
            raise BadPicture(
                f"{name} is only {width}x{height} pixels: use one of at least {MIN_SIDE_PIXELS} on each side"
            )
        try:
            opened.draft("RGB", (2048, 2048))
            return np.asarray(_opaque(ImageOps.exif_transpose(opened)), np.uint8)
        except Exception:
            raise BadPicture(f"{name} is damaged or cut short: send the whole file again") from None


def _opaque(picture: Pictures.Image) -> Pictures.Image:
    """Any picture in sRGB, with grey behind transparent pixels."""
    profile = picture.info.get("icc_profile")
    picture = _eight_bits(picture)
    alpha = None
    if picture.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in picture.info:
        alpha = picture.convert("RGBA").getchannel("A")
    picture = _in_srgb(picture, profile) if profile else picture.convert("RGB")
    if alpha is None:
        return picture
    return Pictures.composite(picture, Pictures.new("RGB", picture.size, (TRANSPARENCY_GREY,) * 3), alpha)


def _eight_bits(picture: Pictures.Image) -> Pictures.Image:
    """16-bit grey scaled to 8 bits; Pillow's own conversion clips at 255."""
    if not picture.mode.startswith("I"):
        return picture
    levels = np.asarray(picture).astype(np.float32)
    grey = Pictures.fromarray(np.asarray(np.clip(levels * (255 / WHITE_16_BIT) + 0.5, 0, 255), np.uint8))
    clear = picture.info.get("transparency")
    if isinstance(clear, int):
        grey.putalpha(Pictures.fromarray(np.asarray(np.where(levels == clear, 0, 255), np.uint8)))
    return grey


def _in_srgb(picture: Pictures.Image, profile: bytes) -> Pictures.Image:
    """The picture converted from its ICC ``profile`` to sRGB.

    The colours stay as they are if the profile is broken or is not for this kind of pixels.
    """
    with contextlib.suppress(ImageCms.PyCMSError, OSError, ValueError, TypeError):
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        mode = _MODE_OF_COLOUR_SPACE.get(source.profile.xcolor_space.strip())
        if mode is not None and _profile_fits(picture, mode):
            converted = ImageCms.profileToProfile(
                picture.convert(mode),
                source,
                ImageCms.createProfile("sRGB"),
                ImageCms.Intent.RELATIVE_COLORIMETRIC,
                "RGB",
                flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
            )
            if converted is not None:
                return converted
    return picture.convert("RGB")


def _profile_fits(picture: Pictures.Image, mode: str) -> bool:
    """A profile of ``mode`` fits these pixels; an RGB profile fits grey ones, too."""
    grey = picture.mode in ("1", "L", "LA", "La")
    return {"RGB": picture.mode != "CMYK", "L": grey, "CMYK": picture.mode == "CMYK"}[mode]
