"""What people write, as it is kept and as it is shown: none of it may steer a terminal, a log or a page.

Control characters (escape sequences among them), marks that turn the direction of writing, other characters that
nobody sees and lone surrogates are refused where something is given, and escaped where an older record has them.
"""

import time
import unicodedata
from typing import Any, Final

from avatar_stream.errors import BadInput

JOINERS: Final = "\u200c\u200d"  # invisible and needed: inside words of Persian and Hindi, inside emoji
_INVISIBLE_CATEGORIES: Final = frozenset({"Cc", "Cf", "Co", "Cs", "Zl", "Zp"})  # Unicode's general categories


def invisible_characters(text: str) -> set[str]:
    """The characters of a text that cannot be seen. A joiner counts where it joins nothing."""
    if text.isascii() and text.isprintable():
        return set()
    found = {one for one in text if one not in JOINERS and unicodedata.category(one) in _INVISIBLE_CATEGORIES}
    for before, one, after in zip(" " + text, text, text[1:] + " ", strict=False):
        if one in JOINERS and any(other.isspace() or other in JOINERS for other in (before, after)):
            found.add(one)
    return found


def escaped(text: str, *, keep: str = "") -> str:
    r"""The text with what cannot be seen written as ``\x1b`` or ``\u202e``; characters in ``keep`` stay."""
    hidden = invisible_characters(text) - set(keep)
    return "".join(_escape(one) if one in hidden else one for one in text) if hidden else text


def checked_line(value: Any, what: str, least: int, most: int, *, stored: bool = False) -> str:
    """A text of ``least`` to ``most`` characters in one line, normalised; raises :class:`BadInput`.

    ``what`` names it, as in "a name". With ``stored``, for what an older version let in, unseen characters are escaped
    and not refused.
    """
    if not isinstance(value, str):
        raise BadInput(f"{what} is a text")
    if len(value) > 10 * most + 100:  # before any work on it
        raise BadInput(f"{what} has {least} to {most} characters")
    line = unicodedata.normalize("NFC", " ".join(value.split()))
    if not least <= len(line) <= most:
        raise BadInput(
            f"{what} has {least} to {most} characters" if least else f"{what} has at most {most} characters"
        )
    hidden = invisible_characters(line)
    if hidden and not stored:
        raise BadInput(f"{what} has a character that cannot be seen ({_escape(min(hidden))}): leave it out")
    return escaped(line)


def _escape(one: str) -> str:
    code = ord(one)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def format_date(at: float) -> str:
    """A time in seconds since 1970 as a date for a person, in UTC."""
    return time.strftime("%d %B %Y", time.gmtime(at)).lstrip("0")
