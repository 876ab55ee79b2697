"""How well a picture is drawn: the whole network at full resolution, or less of either."""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class DrawingQuality:
    """One way to draw.

    ``slots`` of the window (0: the warp alone), ``scale`` of the moved region's resolution, the network on every
    ``every``-th frame (between them the last residual is painted once more).
    """

    name: str
    slots: int
    scale: float = 1
    every: int = 1


DRAWING_QUALITIES: Final = (
    DrawingQuality("full", 1),
    DrawingQuality("smaller", 1, scale=0.7),
    DrawingQuality("half rate", 1, scale=0.7, every=2),
    DrawingQuality("warp", 0),
)
