"""A cache of networks that OpenVINO has compiled.

Compiling the networks takes 1.5 s of CPU time in every command that draws. Loading them from the cache takes a fifth
of that, and the results are the same, bit for bit.
"""

import contextlib
import hashlib
import os
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from platformdirs import user_cache_path

from avatar_stream.runtime.plans import write_atomically

MAX_CACHED_FILES: Final = 8  # least recently used ones are deleted; two per configuration, 7 to 22 MB each
DIGEST_BYTES: Final = hashlib.sha256().digest_size  # at the beginning of a file: digest of the rest


def compile_cached(core: Any, key: str, settings: dict[str, Any], make: Callable[[], Any]) -> Any:
    """The network that ``make()`` compiles for the CPU with ``settings``, from the cache if ``key`` is there.

    ``key`` must contain everything that the network depends on. A file that is damaged, or that OpenVINO rejects, is
    replaced. If the folder cannot be written, the network is compiled each time.
    """
    from openvino import Tensor

    file = user_cache_path("avatar-stream") / "compiled" / f"{hashlib.sha256(key.encode()).hexdigest()[:24]}.bin"
    with contextlib.suppress(OSError, ValueError, RuntimeError):
        data: Any = _memory_mapped(file, file.stat().st_ino)
        if hashlib.sha256(data[DIGEST_BYTES:]).digest() == data[:DIGEST_BYTES].tobytes():
            with contextlib.suppress(OSError):
                os.utime(file)
            return core.import_model(Tensor(data[DIGEST_BYTES:], shared_memory=True), "CPU", settings)
    made = make()
    with contextlib.suppress(OSError, RuntimeError):
        _store(file, made.export_model().getvalue())
    return made


@cache
def _memory_mapped(file: Path, number: int) -> npt.NDArray[np.uint8]:
    """The mapped bytes of the file with inode ``number``, which a loaded network keeps using.

    They are mapped so that all processes share them. OpenVINO requires a writable buffer but does not write to it.
    """
    return np.memmap(file, np.uint8, "c")


def _store(file: Path, data: bytes) -> None:
    """Write a file, and delete the least recently used ones beyond ``MAX_CACHED_FILES``."""
    file.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(file, hashlib.sha256(data).digest() + data)
    kept = sorted(file.parent.glob("*.bin"), key=lambda one: one.stat().st_mtime, reverse=True)
    for old in kept[MAX_CACHED_FILES:]:
        old.unlink(missing_ok=True)
