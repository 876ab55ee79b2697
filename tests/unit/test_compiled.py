"""Cached compiled networks: read back unchanged, and compiled again if they are damaged."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from avatar_stream.runtime import compiled, openvino_cpu
from avatar_stream.runtime.network import Arrays
from avatar_stream.runtime.networks import WEIGHTS

REFERENCE_NETWORK = WEIGHTS / "reference.onnx"


class Cache:
    """A cache folder, and a count of compilations."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
        self.made = 0
        self.folder = folder / "compiled"
        monkeypatch.setattr(compiled, "user_cache_path", lambda name: folder)
        real = openvino_cpu.read_model

        def read_model(path: Path, sessions: int = 1) -> Any:
            self.made += 1
            return real(path, sessions)

        monkeypatch.setattr(openvino_cpu, "read_model", read_model)

    def run(self, threads: int = 1) -> Arrays:
        face = np.random.default_rng(1).integers(0, 255, (1, 192, 192, 3)).astype(np.uint8)
        return openvino_cpu.OpenVinoNetwork(REFERENCE_NETWORK, threads).run({"reference": face})


@pytest.fixture
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Cache:
    return Cache(monkeypatch, tmp_path)


def test_a_cached_network_computes_the_same(cache: Cache) -> None:
    first, again = cache.run(), cache.run()
    assert cache.made == 1
    for name in ("code", "sink", "z_id", "modulation"):  # OpenVINO renames inner tensors
        np.testing.assert_array_equal(first[name], again[name])
    cache.run(threads=2)
    assert cache.made == 2


def test_a_damaged_cache_entry_is_compiled_again(cache: Cache) -> None:
    cache.run()
    (kept,) = cache.folder.glob("*.bin")
    whole = kept.read_bytes()
    for made, damaged in enumerate((b"", whole[:40], whole[:-1], whole[:5000] + b"x" + whole[5001:]), 2):
        kept.unlink()
        kept.write_bytes(damaged)
        cache.run()
        assert cache.made == made
        assert kept.read_bytes() != damaged


def test_the_oldest_cache_entries_are_removed(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "MAX_CACHED_FILES", 2)
    for threads in (1, 2, 3):
        cache.run(threads)
    assert len(list(cache.folder.iterdir())) == 2


def test_without_a_writable_cache_networks_are_compiled_each_time(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    cache = Cache(monkeypatch, tmp_path / "file")
    assert cache.run().keys() == cache.run().keys()
    assert cache.made == 2
