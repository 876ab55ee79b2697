"""A character's record, checked whole: the same for an enrolment, an imported file and a row of the database.

Everything has its type, range, length and depth, so that what passes can be sent, shown and kept anywhere.
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

MAX_NAME_LENGTH: Final = 80  # characters at most, as the lengths below
MAX_TEXT_LENGTH: Final = 2000
MAX_OWNER_LENGTH: Final = 256
MAX_TAGS: Final = 20
MIN_CONSENT_LENGTH: Final = 10  # characters of a statement that says something
MAX_SOURCES: Final = 5  # pictures of a character
MAX_MEASURES: Final = 40  # entries of a picture's quality
MAX_TEXTS: Final = 20
MAX_MEASURE: Final = 1e6
MAX_TIMESTAMP: Final = 253_402_300_799.0  # seconds since 1970 at the end of the year 9999
VECTOR_LENGTHS: Final = {"z_id": (0, 512), "likeness": (128,), "shape": (0, 60), "mood": (45,)}
MAX_VECTOR_VALUE: Final = 1e4  # of those numbers
ID_PATTERN: Final = re.compile(r"c-[0-9a-f]{16}")
DIGEST_PATTERN: Final = re.compile(r"[0-9a-f]{64}")
_NUMBER_MEASURES: Final = frozenset(
    {"eyes", "detail", "yaw", "pitch", "opening", "mouth", "covered", "score", "style_distance"}
)
_TEXT_LISTS: Final = frozenset({"advice", "description", "unchecked"})


def checked_character(said: Mapping[str, Any], *, kept: bool = False) -> Character:
    """The character whose fields (see :class:`Character`) ``said`` names; raises :class:`BadInput` with a sentence.

    ``files`` are :class:`StoredFile`. With ``kept``, for what is in the library already, text that an older version
    let in is escaped and not refused.
    """
    id, files = said["id"], said["files"]
    if not isinstance(id, str) or (id and not ID_PATTERN.fullmatch(id)):
        raise BadInput("an id is c- and 16 hexadecimal digits")
    if not isinstance(said["protected"], bool):
        raise BadInput("protected is true or false")
    consent = said["consent"]
    if not isinstance(consent, Mapping) or set(consent) != {"statement", "by", "at"}:
        raise BadInput("a consent has statement, by and at")
    return Character(
        id=id,
        name=checked_name(said["name"], kept=kept),
        owner=checked_line(said["owner"], "an owner", 1, MAX_OWNER_LENGTH, kept=kept),
        consent=checked_consent(consent["statement"], consent["by"], consent["at"], kept=kept),
        created=checked_date(said["created"], "created"),
        used=checked_date(said["used"], "used"),
        tags=checked_tags(said["tags"], kept=kept),
        description=checked_text(said["description"], "a description", kept=kept),
        style=checked_style(checked_line(said["style"], "a style", 0, MAX_NAME_LENGTH)),
        protected=said["protected"],
        quality=checked_quality(said["quality"], kept=kept),
        settings=checked_settings(said["settings"]),
        **{name: _numbers(name, said[name]) for name in VECTOR_LENGTHS},
        files=tuple(_file(one) for one in files),
    )


def checked_name(name: Any, what: str = "a name", *, kept: bool = False) -> str:
    """A name as it is kept; raises :class:`BadInput` for one that is empty, endless or cannot be seen."""
    return checked_line(name, what, 1, MAX_NAME_LENGTH, kept=kept)


def checked_text(text: Any, what: str, *, kept: bool = False) -> str:
    """A sentence as it is kept; raises :class:`BadInput`."""
    return checked_line(text, what, 0, MAX_TEXT_LENGTH, kept=kept)


def checked_tags(tags: Any, *, kept: bool = False) -> tuple[str, ...]:
    """Tags as they are kept: each once, in small letters; raises :class:`BadInput`."""
    given = list(tags) if isinstance(tags, Iterable) and not isinstance(tags, str | bytes | Mapping) else None
    if given is None:
        raise BadInput("tags are a list of texts")
    if len(given) > MAX_TAGS:
        raise BadInput(f"a character has at most {MAX_TAGS} tags")
    return tuple(dict.fromkeys(_tag(tag, kept) for tag in given))


def checked_consent(statement: Any, by: Any, at: Any, *, kept: bool = False) -> Consent:
    """The consent of an enrolment; raises :class:`BadInput` where nothing was said."""
    statement = checked_text(statement, "a statement of consent", kept=kept)
    if len(statement) < MIN_CONSENT_LENGTH:
        raise BadInput(
            'say with what right this face is used, for example --consent "This is me" or '
            '"Ana Lima agreed in writing on 3 May 2026"'
        )
    by = checked_line(by, "who gave the consent", 1, MAX_OWNER_LENGTH, kept=kept)
    return Consent(statement, by, checked_date(at, "the consent's date"))


def checked_date(value: Any, what: str) -> float:
    """Seconds since 1970 up to the year 9999; raises :class:`BadInput`."""
    if not _is_number(value) or not 0 <= value <= MAX_TIMESTAMP:
        raise BadInput(f"{what} is a time in seconds since 1970")
    return float(value)


def checked_settings(settings: Any) -> dict[str, Any]:
    """Settings that go with a character; raises :class:`BadInput`."""
    if not isinstance(settings, Mapping) or not set(settings) <= {"background", "keep", "expression"}:
        raise BadInput("settings are background, keep and expression")
    found: dict[str, Any] = {}
    if "background" in settings:
        background = settings["background"]
        if not isinstance(background, str):
            raise BadInput("background is a text")
        found["background"] = checked_background(background)
        if found["background"].startswith(UPLOADED_BACKGROUND_PREFIX):
            raise BadInput("a picture as background is not kept with a character: choose another one to keep")
    if "keep" in settings:
        if not _is_number(settings["keep"]) or not 0 <= settings["keep"] <= 1:
            raise BadInput("keep is a number from 0 to 1")
        found["keep"] = float(settings["keep"])
    if "expression" in settings:
        found["expression"] = Expression.from_json(settings["expression"]).to_json()
    return found


def checked_quality(said: Any, *, kept: bool = False) -> dict[str, Any]:
    """What was measured of the pictures (see ``Quality.report``) and said of a description; raises
    :class:`BadInput`. A measure that is not known here is a number, a text, or a list of texts.
    """
    if not isinstance(said, Mapping) or len(said) > MAX_MEASURES:
        raise BadInput(f"quality has at most {MAX_MEASURES} measures")
    found: dict[str, Any] = {}
    for given, value in said.items():
        name = checked_line(given, "a measure's name", 1, MAX_NAME_LENGTH, kept=kept)
        what = f"the quality's {name}"
        if name == "attributes":
            found[name] = _attributes(value, what, kept)
        elif name in _TEXT_LISTS or (name not in _NUMBER_MEASURES and isinstance(value, list | tuple)):
            if not isinstance(value, list | tuple) or len(value) > MAX_TEXTS:
                raise BadInput(f"{what} is a list of at most {MAX_TEXTS} texts")
            found[name] = [checked_text(one, what, kept=kept) for one in value]
        elif name not in _NUMBER_MEASURES and isinstance(value, str | bool):
            found[name] = value if isinstance(value, bool) else checked_text(value, what, kept=kept)
        elif _is_number(value) and abs(value) <= MAX_MEASURE:
            found[name] = value
        else:
            raise BadInput(f"{what} is a number from -{MAX_MEASURE:.0f} to {MAX_MEASURE:.0f}")
    return found


def checked_sources(kinds: Iterable[str]) -> None:
    """Raise :class:`BadInput` unless a record's pictures are called ``source 0``, ``source 1`` and so on."""
    given = list(kinds)
    if not 1 <= len(given) <= MAX_SOURCES or set(given) != {f"source {k}" for k in range(len(given))}:
        raise BadInput(f"a character has 1 to {MAX_SOURCES} pictures, numbered from 0")


def _tag(given: Any, kept: bool) -> str:
    return checked_name(given.lower() if isinstance(given, str) else given, "a tag", kept=kept)


def _attributes(said: Any, what: str, kept: bool) -> dict[str, bool]:
    sound = isinstance(said, Mapping) and len(said) <= MAX_MEASURES
    if not sound or not all(isinstance(value, bool) for value in said.values()):
        raise BadInput(f"{what} are true or false")
    return {checked_line(name, what, 1, MAX_NAME_LENGTH, kept=kept): value for name, value in said.items()}


def _numbers(name: str, given: Any) -> Floats:
    """A field of numbers as float32; raises :class:`BadInput`."""
    if isinstance(given, np.ndarray):
        sound = given.ndim == 1 and given.dtype.kind == "f"
    else:
        sound = isinstance(given, list | tuple) and all(
            _is_number(one) and abs(one) <= MAX_VECTOR_VALUE for one in given
        )
    if not sound or len(given) not in VECTOR_LENGTHS[name]:
        raise BadInput(f"{name} has {' or '.join(str(one) for one in VECTOR_LENGTHS[name])} numbers")
    values = np.array(given, np.float32)
    if not np.all(np.abs(values) <= MAX_VECTOR_VALUE):  # false for what is not a number, too
        raise BadInput(f"{name} has a number that is not finite, or too large")
    if name == "z_id" and len(values) and not 0.9 <= float(np.linalg.norm(values)) <= 1.1:
        raise BadInput("z_id has not the length 1")
    return values


def _file(one: StoredFile) -> StoredFile:
    kind = checked_line(one.kind, "the kind of a file", 1, MAX_NAME_LENGTH)
    if not isinstance(one.digest, str) or not DIGEST_PATTERN.fullmatch(one.digest):
        raise BadInput(f"the digest of its file {kind!r} is not 64 hexadecimal digits")
    return StoredFile(kind, one.digest)


def _is_number(value: Any) -> bool:
    """A finite number; ``True`` is none."""
    if isinstance(value, int):
        return not isinstance(value, bool)
    return isinstance(value, float) and math.isfinite(value)
