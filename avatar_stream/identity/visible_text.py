"""Text from users with only visible characters, so that none of it controls a terminal, a log or a page.

Control characters (such as escape sequences), bidirectional marks, other invisible characters and lone surrogates are
refused in new text, and escaped in older records.
"""

import time
import unicodedata
from typing import Any, Final

from avatar_stream.errors import BadInput

JOINER_CHARACTERS: Final = "\u200c\u200d"  # invisible, but needed inside words of Persian and Hindi and inside emoji
_INVISIBLE_CATEGORIES: Final = frozenset({"Cc", "Cf", "Co", "Cs", "Zl", "Zp"})  # Unicode's general categories


def invisible_characters(text: str) -> set[str]:
    """The invisible characters of a text. A joiner counts only where it joins nothing."""
    if text.isascii() and text.isprintable():
        return set()
    found = {
        one for one in text if one not in JOINER_CHARACTERS and unicodedata.category(one) in _INVISIBLE_CATEGORIES
    }
    for before, one, after in zip(" " + text, text, text[1:] + " ", strict=False):
        if one in JOINER_CHARACTERS and any(
            other.isspace() or other in JOINER_CHARACTERS for other in (before, after)
        ):
            found.add(one)
    return found


def escaped(text: str, *, keep: str = "") -> str:
    r"""The text with invisible characters written as ``\x1b`` or ``\u202e``; those in ``keep`` stay."""
    hidden = invisible_characters(text) - set(keep)
    return "".join(_escape(one) if one in hidden else one for one in text) if hidden else text


def checked_line(value: Any, what: str, min_length: int, max_length: int, *, stored: bool = False) -> str:
    """The text in one line, normalised, if it has ``min_length`` to ``max_length`` characters.

    Errors call it ``what``, as in "a name". ``stored``: it comes from an older record, so invisible characters are
    escaped and not refused. Raises :class:`BadInput`.
    """
    if not isinstance(value, str):
        raise BadInput(f"{what} must be a text")
    if len(value) > 10 * max_length + 100:  # before the work of normalising it
        raise BadInput(f"{what} must have {min_length} to {max_length} characters")
    line = unicodedata.normalize("NFC", " ".join(value.split()))
    if not min_length <= len(line) <= max_length:
        lengths = f"{min_length} to {max_length}" if min_length else f"at most {max_length}"
        raise BadInput(f"{what} must have {lengths} characters")
    hidden = invisible_characters(line)
    if hidden and not stored:
        raise BadInput(f"{what} has an invisible character ({_escape(min(hidden))}): leave it out")
    return escaped(line)


def _escape(one: str) -> str:
    code = ord(one)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def format_date(at: float) -> str:
    """A time in seconds since 1970 as a readable date in UTC."""
    return time.strftime("%d %B %Y", time.gmtime(at)).lstrip("0")
