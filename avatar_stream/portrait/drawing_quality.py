"""How well a picture is drawn: the network at full resolution for every frame, or less of either."""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class DrawingQuality:
    """One way to draw.

    The window has ``slots`` (0: the warp alone). The moved region is drawn at ``scale`` of its resolution. The
    network runs for every ``network_every``-th frame; the frames between get the last residual again.
    """

    name: str
    slots: int
    scale: float = 1
    network_every: int = 1


DRAWING_QUALITIES: Final = (
    DrawingQuality("full", 1),
    DrawingQuality("smaller", 1, scale=0.7),
    DrawingQuality("half rate", 1, scale=0.7, network_every=2),
    DrawingQuality("warp", 0),
)
