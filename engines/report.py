"""Draws the curves of a run from its log, and formats tables."""

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

CURVE_FIGURES = ("mouth/mouth", "mouth/hole", "lids/eyes", "mouth/rest", "any/mouth")


def draw_curve(run: Path) -> None:
    """Draw ``RUN/curve.png`` from ``RUN/log.csv``: losses on the left, dev figures on the right, over samples."""
    with open(run / "log.csv") as stream:
        rows = list(csv.DictReader(stream))
    samples = [int(row["samples"]) for row in rows]
    counted = ("step", "samples", "samples_per_s")
    losses = [name for name in rows[0] if name not in counted and "/" not in name]
    figures = [name for name in rows[0] if name in CURVE_FIGURES] or [name for name in rows[0] if "/" in name]
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4), layout="constrained")
    for axis, names, title in ((left, losses, "losses"), (right, figures, "dev, gain over the warp in dB")):
        for name in names:
            axis.plot(samples, [float(row[name]) for row in rows], label=name)
        axis.set(xlabel="samples", title=title)
        axis.grid(alpha=0.3)
        if names:
            axis.legend(fontsize=8)
    figure.savefig(run / "curve.png", dpi=80)
    plt.close(figure)


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table with the header ``head``."""
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(str(cell) for cell in line)} |\n" for line in lines)
