"""Measure a release on people it was not trained on: ``python -m engines.evaluate --packs runs/packs``.

Measures self-reenactment on differing pairs and on whole clips, cross-reenactment through the live path, and a long
roll-out, each against the warp alone. Writes ``report.json``, a table and contact sheets to ``--out``. With
``--against``, the report of the previous release, it exits with status 1 and the reasons if this release is worse.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from avatar_stream.runtime.network import WINDOW_SLOTS
from avatar_stream.runtime.networks import WEIGHTS, Networks
from engines.data.packs import load_packs
from engines.judges import IdentityJudge, Image
from engines.measure import contact_sheet, dev_cases
from engines.reenactment import Row, cross_reenactment, gaze_sweep, pair_figures, roll_out, self_reenactment

# Figures that must not get worse: path in the report, whether more is better, scatter of the measurement.
GUARDED_FIGURES = (
    ("pairs mouth/mouth gain_db", True, 0.1),
    ("pairs mouth/hole gain_db", True, 0.15),
    ("pairs lids/eyes gain_db", True, 0.1),
    ("pairs mouth/rest gain_db", True, 0.05),
    ("pairs any/rest gain_db", True, 0.05),
    ("clips identity", False, 0.02),
    ("clips jitter_ratio", False, 0.05),
    ("cross identity", False, 0.02),
    ("cross mouth", True, 0.02),
    ("cross blink", True, 0.03),
    ("sweep gaze", True, 0.04),
    ("cross yaw", True, 0.02),
)


def figure_at(report: dict[str, Any], path: str) -> float | None:
    """A figure of a report by its path; None if it was not measured."""
    found: Any = report
    for key in path.split():
        if not isinstance(found, dict) or key not in found:
            return None
        found = found[key]
    return float(found)


def regressions(report: dict[str, Any], previous: dict[str, Any]) -> list[str]:
    """One line per guarded figure in which ``report`` is worse than ``previous`` by more than the scatter."""
    lines = []
    for path, more, scatter in GUARDED_FIGURES:
        now, before = figure_at(report, path), figure_at(previous, path)
        if now is None or before is None:
            continue
        if (before - now if more else now - before) > scatter:
            lines.append(f"{path}: {now:g}, was {before:g}")
    return lines


def mean_of(rows: list[Row]) -> Row:
    """Mean of every figure over the rows that contain it."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    return {name: round(float(np.mean([row[name] for row in rows if name in row])), 4) for name in names}


def table(report: dict[str, Any]) -> str:
    """The report as Markdown: pairs, then clips, cross-reenactment and gaze sweep beside the warp alone."""
    lines = [
        "| pairs, PSNR in dB | pairs | warp | engine | gain | SSIM warp | engine | contrast | edges |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, row in report.get("pairs", {}).items():
        lines.append(
            f"| {name} | {row['pairs']} | {row['warp_db']:.2f} | {row['engine_db']:.2f} | {row['gain_db']:+.2f} "
            f"| {row['warp_ssim']:.3f} | {row['engine_ssim']:.3f} | {row['contrast']:.2f} | {row['edges']:.2f} |"
        )
    for kind in ("clips", "cross", "sweep"):
        if kind in report:
            lines += ["", f"| {kind} | engine | warp alone |", "|---|---|---|"]
            beside = report.get(f"{kind}_warp", {})
            lines += [f"| {name} | {value} | {beside.get(name, '')} |" for name, value in report[kind].items()]
    if "roll_out" in report:
        lines += ["", "roll-out: " + ", ".join(f"{name} {value}" for name, value in report["roll_out"].items())]
    return "\n".join(lines) + "\n"


def write_png(path: Path, picture: Image) -> None:
    """Write an RGB picture."""
    cv2.imwrite(str(path), cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))


def main(given: list[str] | None = None) -> None:
    """Measure and print; exit with status 1 if the release is worse than ``--against``."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--packs", type=Path, required=True)
    parser.add_argument("--weights", type=Path, default=WEIGHTS)
    parser.add_argument("--precision", choices=("fp32", "int8"), help="default: the fastest one here")
    parser.add_argument(
        "--slots", type=int, choices=WINDOW_SLOTS, default=WINDOW_SLOTS[0], help="length of the window"
    )
    parser.add_argument("--out", type=Path, default=Path("runs/evaluation"))
    parser.add_argument("--pairs", type=int, default=10, help="self-reenactment pairs per clip and kind; 0: none")
    parser.add_argument("--clips", type=int, default=7, help="clips driven by themselves")
    parser.add_argument("--portraits", type=int, default=14, help="portraits driven by others")
    parser.add_argument("--frames", type=int, default=200)
    parser.add_argument("--minutes", type=float, default=0, help="length of the roll-out; 10 for a release")
    parser.add_argument("--against", type=Path, help="report.json of the previous release")
    arguments = parser.parse_args(given)
    arguments.out.mkdir(parents=True, exist_ok=True)
    networks = Networks(folder=arguments.weights, precision=arguments.precision, slots=(arguments.slots,))
    report: dict[str, Any] = {"engine": networks.name}
    clips = load_packs(arguments.packs, "dev", "clip")
    stills = load_packs(arguments.packs, "dev", "still")
    judge = IdentityJudge()
    if arguments.pairs:
        cases = dev_cases(arguments.packs, arguments.pairs)
        report["pairs"], painted = pair_figures(networks, cases)
        shown = [k for k in range(len(cases)) if cases[k].kind != "any"][::3]
        write_png(
            arguments.out / "pairs.png", contact_sheet([cases[k] for k in shown], [painted[k] for k in shown], 3)
        )
    if arguments.clips:
        for name, used in (("clips", networks), ("clips_warp", None)):
            report[name] = mean_of([self_reenactment(used, clip, judge) for clip in clips[: arguments.clips]])
    if arguments.portraits:
        chosen = [stills[k] for k in np.linspace(0, len(stills) - 1, arguments.portraits).astype(int)]
        for name, used in (("cross", networks), ("cross_warp", None)):
            rows, strip = cross_reenactment(used, chosen, clips, arguments.frames, judge)
            report[name] = mean_of(rows) | {"pairs": len(rows)}
            write_png(arguments.out / f"{name}.png", strip)
        for name, used in (("sweep", networks), ("sweep_warp", None)):
            report[name] = mean_of(gaze_sweep(used, chosen)) | {"portraits": len(chosen)}
    if arguments.minutes:
        row = roll_out(networks, stills[0], clips[0], arguments.minutes, judge)
        report["roll_out"] = {name: round(value, 4) for name, value in row.items()}
    (arguments.out / "report.json").write_text(json.dumps(report, indent=1) + "\n")
    (arguments.out / "report.md").write_text(table(report))
    print(table(report))
    if arguments.against:
        lines = regressions(report, json.loads(arguments.against.read_text()))
        if lines:
            raise SystemExit("worse than the previous release:\n" + "\n".join(lines))
        print("not worse than the previous release")


if __name__ == "__main__":
    main()
