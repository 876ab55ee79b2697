"""Modules that others import and nobody here uses: they are loaded when something of them is asked for.

MediaPipe imports matplotlib's pyplot to draw landmarks: a third of a second of a processor at every start, and 20 MB
in every process.
"""

import importlib.util
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Final

LAZY_MODULES: Final = ("matplotlib.pyplot",)


class _LazyFinder:
    """A finder (see ``sys.meta_path``) for those modules."""

    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        spec = PathFinder.find_spec(name, path) if name in LAZY_MODULES else None
        if spec is not None and spec.loader is not None:
            spec.loader = importlib.util.LazyLoader(spec.loader)
        return spec


def load_lazily() -> None:
    """From now on in this process. Safe to call twice."""
    if _LazyFinder not in sys.meta_path:
        sys.meta_path.insert(0, _LazyFinder)
