"""Picture files become upright sRGB: colour profiles applied, 16-bit grey scaled, transparency laid on grey."""

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
MOST_PACKED: Final = 1000  # pixels in a byte: the smallest files of photographs have 400
MIN_SIDE: Final = 96
GROUND: Final = 200  # grey level laid under transparent pixels
DEEPEST: Final = 65535  # level of white in a picture with 16 bits a pixel
_NAMES: Final = {"JPEG": "JPEG", "PNG": "PNG", "WEBP": "WebP", "AVIF": "AVIF", "HEIF": "HEIC"}
# Pillow's pixels for the colour spaces that an ICC profile may name (ICC.1:2022 table 19).
_SPACES: Final = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK"}


@cache
def formats() -> tuple[str, ...]:
    """Pillow's names of the pictures that are taken: those of phones where a library can read them.

    AVIF comes with Pillow, HEIC with pillow-heif (the extra ``heic``).
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
        *first, last = (_NAMES[one] for one in formats())
        raise BadPicture(f"{name} is not a {', '.join(first)} or {last} picture: save it as one of these") from None
    with opened:
        width, height = opened.size
        if width * height > MAX_PIXELS:
            raise BadPicture(f"{name} has more than {MAX_PIXELS // 1_000_000} megapixels: scale it down")
        if width * height > MOST_PACKED * len(data):
            # Nothing is decoded, so nothing is allocated for pixels that a header only claims.
            raise BadPicture(f"{name} is damaged or cut short: {len(data)} bytes cannot hold {width}x{height} pixels")
        if min(width, height) < MIN_SIDE:
            raise BadPicture(f"{name} is only {width}x{height} pixels: use one of at least {MIN_SIDE} on each side")
        try:
            opened.draft("RGB", (2048, 2048))
            return np.asarray(_opaque(ImageOps.exif_transpose(opened)), np.uint8)
        except Exception:
            raise BadPicture(f"{name} is damaged or cut short: send the whole file again") from None


def _opaque(picture: Pictures.Image) -> Pictures.Image:
    """Any picture in sRGB, transparent pixels laid on grey."""
    profile = picture.info.get("icc_profile")
    picture = _eight_bits(picture)
    alpha = None
    if picture.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in picture.info:
        alpha = picture.convert("RGBA").getchannel("A")
    picture = _in_srgb(picture, profile) if profile else picture.convert("RGB")
    if alpha is None:
        return picture
    return Pictures.composite(picture, Pictures.new("RGB", picture.size, (GROUND,) * 3), alpha)


def _eight_bits(picture: Pictures.Image) -> Pictures.Image:
    """Grey pixels of 16 bits with 8: Pillow's own conversion cuts them off at 255."""
    if not picture.mode.startswith("I"):
        return picture
    levels = np.asarray(picture).astype(np.float32)
    grey = Pictures.fromarray(np.asarray(np.clip(levels * (255 / DEEPEST) + 0.5, 0, 255), np.uint8))
    clear = picture.info.get("transparency")
    if isinstance(clear, int):
        grey.putalpha(Pictures.fromarray(np.asarray(np.where(levels == clear, 0, 255), np.uint8)))
    return grey


def _in_srgb(picture: Pictures.Image, profile: bytes) -> Pictures.Image:
    """The colours that an ICC ``profile`` says are meant, in sRGB.

    They are left as they are where it is broken, or describes other pixels than these.
    """
    with contextlib.suppress(ImageCms.PyCMSError, OSError, ValueError, TypeError):
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        mode = _SPACES.get(source.profile.xcolor_space.strip())
        if mode is not None and _described(picture, mode):
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


def _described(picture: Pictures.Image, mode: str) -> bool:
    """Whether a profile of ``mode`` can be meant for these pixels; one of colours for grey ones, too."""
    grey = picture.mode in ("1", "L", "LA", "La")
    return {"RGB": picture.mode != "CMYK", "L": grey, "CMYK": picture.mode == "CMYK"}[mode]
