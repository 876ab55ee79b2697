"""Networks as OpenVINO has compiled them, kept between starts.

To compile the networks takes a second and a half of a processor, and every command that draws does it. To read back
what was compiled takes a fifth of that and computes the same, bit for bit.
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

MAX_CACHED_FILES: Final = 8  # files kept, those that were used last: two for each way to run, of 7 to 22 MB
DIGEST_BYTES: Final = hashlib.sha256().digest_size  # bytes at the beginning of a file, of all that follows


def compile_cached(core: Any, key: str, settings: dict[str, Any], make: Callable[[], Any]) -> Any:
    """What ``make()`` compiles for the CPU with ``settings``: read back where it was kept under ``key``.

    ``key`` names all that it depends on. A file that is damaged, or that OpenVINO refuses, is made anew; a folder
    that cannot be written costs the time only.
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
    """The bytes of the file of this inode ``number``, which stay: a network that was read back goes on using them.

    Mapped, so that all processes share them; never written to, though OpenVINO wants them so that it could.
    """
    return np.memmap(file, np.uint8, "c")


def _store(file: Path, data: bytes) -> None:
    """Keep a file; those used longest ago make room."""
    file.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(file, hashlib.sha256(data).digest() + data)
    kept = sorted(file.parent.glob("*.bin"), key=lambda one: one.stat().st_mtime, reverse=True)
    for old in kept[MAX_CACHED_FILES:]:
        old.unlink(missing_ok=True)
