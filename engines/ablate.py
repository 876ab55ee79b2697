"""What each part buys: ``python -m engines.ablate RUNS --packs runs/packs --init JOINT --teacher TEACHER``.

Trains every variant from the same checkpoint over the same number of windows and writes ``RUNS/ablations.md``: dB
over the warp on the dev pairs, one slot denoised alone.
"""

import argparse
import csv
from pathlib import Path

from engines.report import table
from engines.train import in_own_process

# Variant: stage and options. "from the truth": the older slot of a window starts from the noised truth instead of the
# model's own guess.
VARIANTS: dict[str, list[str]] = {
    "joint": ["joint"],
    "without identity": ["motion", "--frames", "2", "--self-rolled", "0.95"],
    "without made targets": ["joint", "--made", "0"],
    "without reopened stills": ["joint", "--stills", "0"],
    "older slot from the truth": ["joint", "--self-rolled", "0"],
    "distil, no critic": ["distil", "--adversarial", "0"],
    "distil": ["distil"],
    "slide, no critic": ["slide", "--adversarial", "0"],
    "slide": ["slide"],
}
COLUMNS = ("mouth/mouth", "mouth/hole", "lids/eyes", "any/mouth", "any/eyes")


def main(given: list[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path)
    parser.add_argument("--packs", type=Path, required=True)
    parser.add_argument("--init", type=Path, required=True)
    parser.add_argument("--teacher", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=240)
    parser.add_argument("--only", nargs="*", choices=list(VARIANTS), help="default: all")
    arguments, more = parser.parse_known_args(given)
    rows = []
    for name in arguments.only or VARIANTS:
        stage, *options = VARIANTS[name]
        run = arguments.runs / name.replace(", ", "-").replace(" ", "-")
        command = [stage, str(run), "--packs", str(arguments.packs), "--init", str(arguments.init), "--decay"]
        command += ["--steps", str(arguments.steps), "--teacher", str(arguments.teacher)]
        command += ["--check-every", str(1 << 30), *options, *more]
        if not (run / "log.csv").exists():
            in_own_process(command)
        with open(run / "log.csv") as stream:
            last = list(csv.DictReader(stream))[-1]
        rows.append([name, last["samples"], *(_cell(last.get(column)) for column in COLUMNS)])
        text = table(["variant", "windows", *COLUMNS], rows)
        (arguments.runs / "ablations.md").write_text(text)
    print(text)


def _cell(value: str | None) -> str:
    return "-" if value is None else f"{float(value):+.2f}"


if __name__ == "__main__":
    main()
