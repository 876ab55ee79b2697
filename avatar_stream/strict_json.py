"""A strict JSON reader for untrusted input: it refuses values that later steps cannot represent.

Python's ``json`` accepts NaN and Infinity, reads 1e999 as infinity, and keeps integers too large for a float as well
as lone surrogates, which cannot be written to files, terminals or other processes. RFC 8259 has no NaN or Infinity,
and warns of the others.
"""

import json
import math
from typing import Any, Final, NoReturn

from avatar_stream.errors import BadInput

MAX_DEPTH: Final = 16
"""Levels of nested objects and lists; this project's messages have four."""
MAX_DIGITS: Final = 300
"""Digits of an integer; an integer of 300 digits still fits a float."""


def read_json(text: str | bytes, what: str) -> Any:
    """The value of JSON ``text``. Errors call it ``what``, such as ``a control message``.

    Raises:
        BadInput: ``text`` is not JSON, contains NaN, Infinity, a number out of range or a lone surrogate, or is
            nested too deep.
    """

    def constant(name: str) -> NoReturn:
        raise BadInput(f"{what} has {name}, which is not a number")

    def integer(digits: str) -> int:
        if len(digits) > MAX_DIGITS:
            raise BadInput(f"{what} has a number of {len(digits)} digits: use {MAX_DIGITS} at most")
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
    """Raise :class:`BadInput` for lone surrogates and for too much nesting."""
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
    raise BadInput(f"{what} is nested too deep: use {MAX_DEPTH} levels at most")
