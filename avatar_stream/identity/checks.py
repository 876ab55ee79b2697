"""Validation of a character's record, the same for an enrolment, an imported file and a row of the database.

It checks type, range, length and nesting of every field, so that a valid record can be sent, shown and stored
anywhere.
"""

import math
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

import numpy as np

from avatar_stream.errors import BadInput
from avatar_stream.face.expression import Expression
from avatar_stream.face.mesh import Floats
from avatar_stream.identity.records import Character, Consent, StoredFile
from avatar_stream.identity.style import checked_style
from avatar_stream.identity.visible_text import checked_line
from avatar_stream.portrait.background import UPLOADED_BACKGROUND_PREFIX, checked_background

MAX_NAME_LENGTH: Final = 80  # in characters, as the lengths below
MAX_TEXT_LENGTH: Final = 2000
MAX_OWNER_LENGTH: Final = 256
MAX_TAGS: Final = 20
MIN_CONSENT_LENGTH: Final = 10  # characters; a shorter statement says nothing
MAX_SOURCES: Final = 5  # pictures per character
MAX_MEASURES: Final = 40  # entries in a picture's quality
MAX_TEXTS: Final = 20  # texts in one entry
MAX_MEASURE: Final = 1e6  # magnitude of a measure
MAX_TIMESTAMP: Final = 253_402_300_799.0  # seconds since 1970 at the end of the year 9999
VECTOR_LENGTHS: Final = {"z_id": (0, 512), "likeness": (128,), "shape": (0, 60), "mood": (45,)}
MAX_VECTOR_VALUE: Final = 1e4  # magnitude
ID_PATTERN: Final = re.compile(r"c-[0-9a-f]{16}")
DIGEST_PATTERN: Final = re.compile(r"[0-9a-f]{64}")
_NUMBER_MEASURES: Final = frozenset(
    {"eyes", "detail", "yaw", "pitch", "opening", "mouth", "covered", "score", "style_distance"}
)
_TEXT_LISTS: Final = frozenset({"advice", "description", "unchecked"})


def checked_character(fields: Mapping[str, Any], *, stored: bool = False) -> Character:
    """The character with these ``fields`` (those of :class:`Character`); raises :class:`BadInput`.

    ``files`` are :class:`StoredFile`. ``stored`` says that the record comes from the library. Then invisible
    characters, which older versions accepted, are escaped; otherwise they are refused.
    """
    id, files = fields["id"], fields["files"]
    if not isinstance(id, str) or (id and not ID_PATTERN.fullmatch(id)):
        raise BadInput("an id must be c- and 16 hexadecimal digits")
    if not isinstance(fields["protected"], bool):
        raise BadInput("protected must be true or false")
    consent = fields["consent"]
    if not isinstance(consent, Mapping) or set(consent) != {"statement", "by", "at"}:
        raise BadInput("a consent must have statement, by and at")
    return Character(
        id=id,
        name=checked_name(fields["name"], stored=stored),
        owner=checked_line(fields["owner"], "an owner", 1, MAX_OWNER_LENGTH, stored=stored),
        consent=checked_consent(consent["statement"], consent["by"], consent["at"], stored=stored),
        created=checked_date(fields["created"], "created"),
        used=checked_date(fields["used"], "used"),
        tags=checked_tags(fields["tags"], stored=stored),
        description=checked_text(fields["description"], "a description", stored=stored),
        style=checked_style(checked_line(fields["style"], "a style", 0, MAX_NAME_LENGTH)),
        protected=fields["protected"],
        quality=checked_quality(fields["quality"], stored=stored),
        settings=checked_settings(fields["settings"]),
        **{name: _numbers(name, fields[name]) for name in VECTOR_LENGTHS},
        files=tuple(_file(one) for one in files),
    )


def checked_name(name: Any, what: str = "a name", *, stored: bool = False) -> str:
    """The name, normalised; raises :class:`BadInput` if it is empty, too long or has invisible characters."""
    return checked_line(name, what, 1, MAX_NAME_LENGTH, stored=stored)


def checked_text(text: Any, what: str, *, stored: bool = False) -> str:
    """The text, normalised to one line; raises :class:`BadInput` if it is too long or has invisible characters."""
    return checked_line(text, what, 0, MAX_TEXT_LENGTH, stored=stored)


def checked_tags(tags: Any, *, stored: bool = False) -> tuple[str, ...]:
    """The tags in lower case without duplicates; raises :class:`BadInput`."""
    given = list(tags) if isinstance(tags, Iterable) and not isinstance(tags, str | bytes | Mapping) else None
    if given is None:
        raise BadInput("tags must be a list of texts")
    if len(given) > MAX_TAGS:
        raise BadInput(f"a character has at most {MAX_TAGS} tags")
    return tuple(dict.fromkeys(_tag(tag, stored) for tag in given))


def checked_consent(statement: Any, by: Any, at: Any, *, stored: bool = False) -> Consent:
    """The consent of an enrolment; raises :class:`BadInput` if the statement is too short."""
    statement = checked_text(statement, "a statement of consent", stored=stored)
    if len(statement) < MIN_CONSENT_LENGTH:
        raise BadInput(
            'say with what right this face is used, for example --consent "This is me" or '
            '"Ana Lima agreed in writing on 3 May 2026"'
        )
    by = checked_line(by, "who gave the consent", 1, MAX_OWNER_LENGTH, stored=stored)
    return Consent(statement, by, checked_date(at, "the consent's date"))


def checked_date(value: Any, what: str) -> float:
    """A time in seconds since 1970, up to the year 9999; raises :class:`BadInput`."""
    if not _is_number(value) or not 0 <= value <= MAX_TIMESTAMP:
        raise BadInput(f"{what} must be a time in seconds since 1970")
    return float(value)


def checked_settings(settings: Any) -> dict[str, Any]:
    """The settings stored with a character; raises :class:`BadInput`."""
    if not isinstance(settings, Mapping) or not set(settings) <= {"background", "keep", "expression"}:
        raise BadInput("settings can only be background, keep and expression")
    found: dict[str, Any] = {}
    if "background" in settings:
        background = settings["background"]
        if not isinstance(background, str):
            raise BadInput("background must be a text")
        found["background"] = checked_background(background)
        if found["background"].startswith(UPLOADED_BACKGROUND_PREFIX):
            raise BadInput("a background picture cannot be stored with a character: choose blur, a colour or own")
    if "keep" in settings:
        if not _is_number(settings["keep"]) or not 0 <= settings["keep"] <= 1:
            raise BadInput("keep must be a number from 0 to 1")
        found["keep"] = float(settings["keep"])
    if "expression" in settings:
        found["expression"] = Expression.from_json(settings["expression"]).to_json()
    return found


def checked_quality(quality: Any, *, stored: bool = False) -> dict[str, Any]:
    """A picture's quality (see ``PictureQuality.report``) with its remarks on a description.

    Unknown measures may be a number, a text or a list of texts. Raises :class:`BadInput`.
    """
    if not isinstance(quality, Mapping) or len(quality) > MAX_MEASURES:
        raise BadInput(f"quality must have at most {MAX_MEASURES} measures")
    found: dict[str, Any] = {}
    for given, value in quality.items():
        name = checked_line(given, "a measure's name", 1, MAX_NAME_LENGTH, stored=stored)
        what = f"the quality's {name}"
        if name == "attributes":
            found[name] = _attributes(value, what, stored)
        elif name in _TEXT_LISTS or (name not in _NUMBER_MEASURES and isinstance(value, list | tuple)):
            if not isinstance(value, list | tuple) or len(value) > MAX_TEXTS:
                raise BadInput(f"{what} must be a list of at most {MAX_TEXTS} texts")
            found[name] = [checked_text(one, what, stored=stored) for one in value]
        elif name not in _NUMBER_MEASURES and isinstance(value, str | bool):
            found[name] = value if isinstance(value, bool) else checked_text(value, what, stored=stored)
        elif _is_number(value) and abs(value) <= MAX_MEASURE:
            found[name] = value
        else:
            raise BadInput(f"{what} must be a number from -{MAX_MEASURE:.0f} to {MAX_MEASURE:.0f}")
    return found


def checked_sources(kinds: Iterable[str]) -> None:
    """Raise :class:`BadInput` unless the kinds of a record's pictures are ``source 0``, ``source 1`` and so on."""
    given = list(kinds)
    if not 1 <= len(given) <= MAX_SOURCES or set(given) != {f"source {k}" for k in range(len(given))}:
        raise BadInput(f"a character must have 1 to {MAX_SOURCES} pictures, numbered from 0")


def _tag(given: Any, stored: bool) -> str:
    return checked_name(given.lower() if isinstance(given, str) else given, "a tag", stored=stored)


def _attributes(attributes: Any, what: str, stored: bool) -> dict[str, bool]:
    is_valid = isinstance(attributes, Mapping) and len(attributes) <= MAX_MEASURES
    if not is_valid or not all(isinstance(value, bool) for value in attributes.values()):
        raise BadInput(f"{what} must be true or false")
    return {checked_line(name, what, 1, MAX_NAME_LENGTH, stored=stored): value for name, value in attributes.items()}


def _numbers(name: str, given: Any) -> Floats:
    """A vector as float32; raises :class:`BadInput`."""
    if isinstance(given, np.ndarray):
        is_valid = given.ndim == 1 and given.dtype.kind == "f"
    else:
        is_valid = isinstance(given, list | tuple) and all(
            _is_number(one) and abs(one) <= MAX_VECTOR_VALUE for one in given
        )
    if not is_valid or len(given) not in VECTOR_LENGTHS[name]:
        raise BadInput(f"{name} must have {' or '.join(str(one) for one in VECTOR_LENGTHS[name])} numbers")
    values = np.array(given, np.float32)
    if not np.all(np.abs(values) <= MAX_VECTOR_VALUE):  # False for NaN, too
        raise BadInput(f"{name} has a number that is not finite or too large")
    if name == "z_id" and len(values) and not 0.9 <= float(np.linalg.norm(values)) <= 1.1:
        raise BadInput("z_id must have the length 1")
    return values


def _file(one: StoredFile) -> StoredFile:
    kind = checked_line(one.kind, "the kind of a file", 1, MAX_NAME_LENGTH)
    if not isinstance(one.digest, str) or not DIGEST_PATTERN.fullmatch(one.digest):
        raise BadInput(f"the digest of its file {kind!r} must be 64 hexadecimal digits")
    return StoredFile(kind, one.digest)


def _is_number(value: Any) -> bool:
    """Whether it is a finite number; a bool is not."""
    if isinstance(value, int):
        return not isinstance(value, bool)
    return isinstance(value, float) and math.isfinite(value)
