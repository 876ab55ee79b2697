"""What flags take: a flag for every setting, and numbers that are in range."""

import argparse
from collections.abc import Callable
from dataclasses import fields
from typing import Any

from avatar_stream.media.marking import LABEL_POSITIONS
from avatar_stream.runtime.choose import RUNTIMES
from avatar_stream.settings import Settings

ENGINES = ("auto", *RUNTIMES, "warp")


def add_settings(serve: argparse.ArgumentParser) -> None:
    """A flag for every setting."""
    choices = {"engine": ENGINES, "log": ("text", "json"), "label_position": LABEL_POSITIONS}
    numbers = {"size": picture_side}
    groups: dict[str, Any] = {}
    for one in fields(Settings):
        about, default = one.metadata, one.default
        group = about["group"]
        if group not in groups:
            groups[group] = serve.add_argument_group(group)
        flag, what = f"--{one.name.replace('_', '-')}", str(about["what"]).replace("%", "%%")
        if isinstance(default, bool):
            kind = argparse.BooleanOptionalAction if default else "store_true"
            groups[group].add_argument(flag, action=kind, default=default, help=what)
        elif isinstance(default, tuple):
            groups[group].add_argument(flag, action="append", default=[], metavar="VALUE", help=what)
        elif isinstance(default, str):
            shown = f"{what} (default {default})" if default else what
            metavar = None if one.name in choices else one.name.split("_")[-1].upper()
            groups[group].add_argument(
                flag, default=default, choices=choices.get(one.name), metavar=metavar, help=shown
            )
        else:
            parse = numbers.get(one.name) or (whole_number if isinstance(default, int) else number)(
                about["low"], about["high"]
            )
            groups[group].add_argument(
                flag, type=parse, default=default, metavar="N", help=f"{what} (default {default})"
            )


def whole_number(low: int, high: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not text.isdecimal() or not low <= int(text) <= high:
            raise argparse.ArgumentTypeError(f"a whole number from {low} to {high}")
        return int(text)

    return parse


def number(low: float, high: float) -> Callable[[str], float]:
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
    side = int(text) if text.isdecimal() else 0
    if not 128 <= side <= 2048 or side % 2:
        raise argparse.ArgumentTypeError("an even number from 128 to 2048")
    return side
