"""Flags for all settings, and parsers for flag values."""

import argparse
from collections.abc import Callable
from typing import Any

from avatar_stream.settings import settings_schema


def add_settings(serve: argparse.ArgumentParser) -> None:
    """Add a flag for every setting. The result has only those given; ``load_settings`` checks them."""
    groups: dict[str, Any] = {}
    for name, schema in settings_schema().items():
        default, group = schema["default"], schema["group"]
        if group not in groups:
            groups[group] = serve.add_argument_group(group)
        flag, what = f"--{name.replace('_', '-')}", str(schema["description"]).replace("%", "%%")
        if default not in ("", [], False):
            what += f" (default {'on' if default is True else default})"
        more: dict[str, Any] = {"default": argparse.SUPPRESS, "help": what}
        if schema["type"] == "boolean":
            more["action"] = argparse.BooleanOptionalAction if default else "store_true"
        elif schema["type"] == "array":
            more |= {"action": "append", "metavar": "VALUE"}
        elif "enum" in schema:
            more["choices"] = schema["enum"]
        else:
            more["metavar"] = "N" if schema["type"] in ("integer", "number") else name.split("_")[-1].upper()
        groups[group].add_argument(flag, **more)


def whole_number(low: int, high: int) -> Callable[[str], int]:
    """A parser of whole numbers from ``low`` to ``high``."""

    def parse(text: str) -> int:
        if not text.isdecimal() or not low <= int(text) <= high:
            raise argparse.ArgumentTypeError(f"a whole number from {low} to {high}")
        return int(text)

    return parse


def number(low: float, high: float) -> Callable[[str], float]:
    """A parser of numbers from ``low`` to ``high``."""

    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = float("nan")
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"a number from {low:g} to {high:g}")
        return value

    return parse


def picture_side(text: str) -> int:
    """Parse the side of a picture in pixels."""
    side = int(text) if text.isdecimal() else 0
    if not 128 <= side <= 2048 or side % 2:
        raise argparse.ArgumentTypeError("an even number from 128 to 2048")
    return side
