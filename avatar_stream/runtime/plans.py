"""The cache of TensorRT plans: one file per network, TensorRT version, GPU, driver and precision.

``$XDG_CACHE_HOME/avatar-stream/engines`` (or the platform's equivalent) holds ``KEY.plan``, and ``KEY.json`` with its
description. A plan whose checksum differs from the description is ignored.
"""

import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from platformdirs import user_cache_path

from avatar_stream.errors import EngineUnavailable
from avatar_stream.runtime.network import WEIGHTS_FILE


@dataclass(frozen=True, slots=True)
class PlanKey:
    """Everything that a plan depends on; if one of these changes, the plan must be rebuilt."""

    network: str  # first 16 hexadecimal digits of its SHA-256
    tensorrt: str  # module and version: "tensorrt_rtx 1.7.1.116"
    gpu: str  # name and compute capability: "NVIDIA L4 sm89"
    driver: str
    precision: str
    sessions: tuple[int, ...]

    @property
    def name(self) -> str:
        """File name without its extension."""
        return hashlib.sha256(json.dumps(asdict(self)).encode()).hexdigest()[:20]


def network_hash(path: Path) -> str:
    """The ``network`` of a :class:`PlanKey`."""
    weights = path.parent / WEIGHTS_FILE
    data = path.read_bytes() + (weights.read_bytes() if weights.is_file() else b"")
    return hashlib.sha256(data).hexdigest()[:16]


class PlanCache:
    """Plans on disk. Files are written atomically, so that processes can share the folder."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder or user_cache_path("avatar-stream") / "engines"

    def find(self, key: PlanKey) -> Path | None:
        """Path of the plan of ``key``; None if there is no valid one."""
        plan = self.folder / f"{key.name}.plan"
        try:
            noted = json.loads(plan.with_suffix(".json").read_text())
            if hashlib.sha256(plan.read_bytes()).hexdigest() == noted["sha256"]:
                return plan
        except (OSError, ValueError, KeyError, TypeError):
            pass
        return None

    def store(self, key: PlanKey, data: bytes) -> Path:
        """Store a plan; raises :class:`EngineUnavailable` if the folder cannot be written."""
        plan = self.folder / f"{key.name}.plan"
        noted = asdict(key) | {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            write_atomically(plan, data)
            write_atomically(plan.with_suffix(".json"), json.dumps(noted, indent=1).encode())
        except OSError as error:
            raise EngineUnavailable(
                f"the TensorRT plan cannot be written to {self.folder} ({error.strerror}): free some space there,"
                " make it writable, or set XDG_CACHE_HOME"
            ) from error
        return plan

    def entries(self) -> Iterator[tuple[str, dict[str, object]]]:
        """Name and description of every plan; ``sound`` in the description tells whether the plan is valid."""
        for note in sorted(self.folder.glob("*.json")):
            try:
                noted = json.loads(note.read_text())
                data = note.with_suffix(".plan").read_bytes()
                sound = hashlib.sha256(data).hexdigest() == noted["sha256"]
            except (OSError, ValueError, KeyError):
                noted, sound = {}, False
            yield note.stem, noted | {"sound": sound}

    def remove(self, name: str) -> bool:
        """Delete a plan; False if there was none."""
        found = [path for path in self.folder.glob(f"{name}.*") if path.suffix in (".plan", ".json")]
        for path in found:
            path.unlink(missing_ok=True)
        return bool(found)


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file completely or not at all; raises :class:`OSError`."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".new-")
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
