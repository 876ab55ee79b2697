"""Lazy import of modules that dependencies import and this program does not use.

MediaPipe imports ``matplotlib.pyplot`` to draw landmarks. That costs a third of a second of processor time at every
start, and 20 MB in every process.
"""

import importlib.util
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Final

LAZY_MODULES: Final = ("matplotlib.pyplot",)


class _LazyFinder:
    """A module finder (see ``sys.meta_path``) that loads ``LAZY_MODULES`` on their first use."""

    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        spec = PathFinder.find_spec(name, path) if name in LAZY_MODULES else None
        if spec is not None and spec.loader is not None:
            spec.loader = importlib.util.LazyLoader(spec.loader)
        return spec


def load_lazily() -> None:
    """Install the finder in this process. A second call does nothing."""
    if _LazyFinder not in sys.meta_path:
        sys.meta_path.insert(0, _LazyFinder)
