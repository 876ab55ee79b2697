"""The report of ``bench`` as a table, and its comparison with an earlier report."""

import json
from pathlib import Path
from typing import Any, Final

from avatar_stream.errors import BadInput

COMPARABLE_KEYS: Final = ("processor", "engine", "size", "threads")
"""Keys that must be equal in two reports for their milliseconds to be comparable."""


def table(report: dict[str, Any]) -> str:
    """The report as text."""
    spread = report["spread"]

    def line(name: str, value: float, unit: str, key: str) -> str:
        low, high = spread[key]
        return f"  {name:<14}{value:>8.2f} {unit:<4}({low:.2f} to {high:.2f})"

    lines = [
        f"engine {report['engine']}, picture {report['size']} x {report['size']}, {report['frames']} frames; "
        f"medians of {report['rounds']} rounds (minimum to maximum)",
        "",
    ]
    lines += [line(name, ms, "ms", name) for name, ms in report["stages"].items()]
    lines.append(line("sum", report["sum_ms"], "ms", "sum_ms"))
    lines += ["", line("whole loop", report["fps"], "fps", "fps")]
    lines.append(line("processor", report["processor_ms"], "ms", "processor_ms"))
    lines += ["", f"the warp alone on one core: {report['warp_alone_ms']} ms"]
    if "qualities" in report:
        lines += ["", "drawing one frame, by quality:"]
        lines += [f"  {name:<14}{ms:>8.2f} ms" for name, ms in report["qualities"].items()]
    if "share_of_ceiling" in report:
        low, high = spread["share_of_ceiling"]
        lines += [
            "",
            f"network: {report['network_gmacs']} GMACs a tick at {report['network_gflops']:.1f} GFLOP/s, "
            f"{report['share_of_ceiling']:.0%} ({low:.0%} to {high:.0%}) of a plain matrix product's "
            f"{report['ceiling_gflops']:.0f} in the same round",
        ]
    return "\n".join(lines)


def read(path: Path) -> dict[str, Any]:
    """A report that ``bench --json`` wrote.

    Raises:
        BadInput: the file is not a report, or is one of an older release.
    """
    try:
        found = json.loads(path.read_text())
    except OSError as error:
        raise BadInput(f"cannot read {path}: {error.strerror}") from None
    except ValueError:
        raise BadInput(f"{path} is not a report: write one with avatar-stream bench --json > {path}") from None
    if not isinstance(found, dict) or not {"stages", "spread", "fps", "processor_ms"} <= found.keys():
        raise BadInput(f"{path} is not a report of this release's bench: write one with avatar-stream bench --json")
    return found


def compare(new: dict[str, Any], old: dict[str, Any]) -> str:
    """The figures of both reports, their ratio, and whether the ranges of their rounds are apart."""
    lines = [f"  {'':<14}{'before':>9}{'now':>9}{'ratio':>8}"]
    names = [*new["stages"], "sum_ms", "processor_ms", "fps", "share_of_ceiling"]
    for name in names:
        before, now = (one["stages"].get(name, one.get(name)) for one in (old, new))
        if not before or now is None:
            continue
        (old_low, old_high), (new_low, new_high) = old["spread"][name], new["spread"][name]
        apart = "" if new_low <= old_high and old_low <= new_high else "  differs"
        lines.append(f"  {name:<14}{before:>9.2f}{now:>9.2f}{now / before:>8.2f}{apart}")
    lines += ["", "'differs': the ranges of the rounds do not overlap."]
    for name in COMPARABLE_KEYS:
        if new[name] != old.get(name):
            lines.append(f"The {name} differs: {old.get(name)} before, {new[name]} now. Compare with care.")
    return "\n".join(lines)
