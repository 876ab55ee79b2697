"""Writes output files completely or not at all."""

import contextlib
import secrets
from collections.abc import Iterator
from pathlib import Path

from avatar_stream.errors import BadInput


@contextlib.contextmanager
def atomic_file(output: Path, *inputs: Path) -> Iterator[Path]:
    """A temporary file to write to, in the folder of ``output``.

    It becomes ``output`` if the block succeeds, else it is deleted. Raises :class:`BadInput` if ``output`` cannot be
    written or is one of the ``inputs``, before the block if possible.
    """
    try:
        folder, within = output.is_dir(), output.resolve().parent.is_dir()
    except OSError as error:
        raise BadInput(f"cannot write {output}: {error.strerror or error}") from error
    if folder:
        raise BadInput(f"cannot write {output}: it is a folder; name a file in it")
    if not within:
        raise BadInput(f"there is no folder {output.resolve().parent}: create it first")
    for one in inputs:
        if _is_same_file(output, one):
            raise BadInput(f"{output} is also an input: name another output file")
    unfinished = output.with_name(f".{secrets.token_hex(6)}.part{output.suffix}")
    try:
        try:
            unfinished.open("xb").close()
            yield unfinished
            unfinished.replace(output)
        except OSError as error:
            raise BadInput(f"cannot write {output}: {error.strerror or error}") from error
    finally:
        with contextlib.suppress(OSError):
            unfinished.unlink(missing_ok=True)


def _is_same_file(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:
        return one.resolve() == other.resolve()
