"""JSON from outside, read strictly: what a later step could not hold is refused where it is read.

Python's own reader takes NaN and Infinity, makes infinity of 1e999, keeps integers that no float holds, and lone
surrogates that no file, terminal or other process takes. RFC 8259 knows none of the first, and warns of the rest.
"""

import json
import math
from typing import Any, Final, NoReturn

from avatar_stream.errors import BadInput

MAX_DEPTH: Final = 16
"""Objects and lists in one another; a message of ours has four."""
MAX_DIGITS: Final = 300
"""Of an integer: any of so many digits fits a float."""


def read_json(text: str | bytes, what: str) -> Any:
    """The value that ``text`` says; ``what`` names it in errors: ``a control message``.

    Raises:
        BadInput: with one sentence, where it is no JSON, or has a number that is none or is out of range, text that
            is no Unicode, or too much nesting.
    """

    def constant(name: str) -> NoReturn:
        raise BadInput(f"{what} has {name}, which is no number")

    def integer(digits: str) -> int:
        if len(digits) > MAX_DIGITS:
            raise BadInput(f"{what} has a number of {len(digits)} digits: {MAX_DIGITS} at most")
        return int(digits)

    def real(digits: str) -> float:
        value = float(digits)
        if not math.isfinite(value):
            raise BadInput(f"{what} has a number that is too large")
        return value

    try:
        found = json.loads(text, parse_constant=constant, parse_int=integer, parse_float=real)
    except (ValueError, RecursionError):
        raise BadInput(f"{what} must be JSON") from None
    _check(found, what)
    return found


def _check(found: Any, what: str) -> None:
    """Raise :class:`BadInput` for text that is no Unicode, and for too much nesting."""
    level = [found]
    for _ in range(MAX_DEPTH + 1):
        texts = [one for one in level if isinstance(one, str)]
        texts += [key for one in level if isinstance(one, dict) for key in one]
        try:
            "".join(texts).encode()
        except UnicodeEncodeError:
            raise BadInput(f"{what} has half of a character (a lone surrogate)") from None
        inside = [one.values() if isinstance(one, dict) else one for one in level if isinstance(one, dict | list)]
        level = [one for values in inside for one in values]
        if not level:
            return
    raise BadInput(f"{what} is nested too deep: {MAX_DEPTH} levels at most")
