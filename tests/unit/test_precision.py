"""The fastest precision is measured, not guessed, and a clear answer is kept."""

import json
from pathlib import Path

import pytest

from avatar_stream.portrait.window import WEIGHTS
from avatar_stream.runtime import openvino_cpu, precision
from avatar_stream.runtime.precision import fastest


class Machine:
    """Takes as long as it is told; counts how often it is asked."""

    def __init__(self, patch: pytest.MonkeyPatch, cache: Path, **times: float) -> None:
        self.times, self.asked = times, 0
        patch.setattr(openvino_cpu, "openvino_precision", lambda: "bf16")
        patch.setattr(openvino_cpu, "run_times", self.measure)
        patch.setattr(precision, "user_cache_path", lambda name: cache)
        fastest.cache_clear()

    def measure(self, paths: dict[str, Path], threads: int) -> dict[str, float]:
        self.asked += 1
        return {name: self.times[name] for name in paths}


@pytest.mark.parametrize(
    ("bf16", "int8", "first"), [(17.0, 6.0, "int8"), (4.0, 9.0, "bf16"), (10.0, 9.5, "bf16"), (10.0, 8.0, "int8")]
)
def test_the_faster_one_is_taken(
    bf16: float, int8: float, first: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    Machine(monkeypatch, tmp_path, bf16=bf16, int8=int8)
    assert next(iter(fastest(WEIGHTS, 2))) == first


def test_a_clear_answer_is_kept_and_a_doubtful_one_is_not(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for times, again in (({"bf16": 17.0, "int8": 6.0}, 0), ({"bf16": 10.0, "int8": 8.5}, 1)):
        folder = tmp_path / str(again)
        for count in (1, again):
            machine = Machine(monkeypatch, folder, **times)
            found = fastest(WEIGHTS, 2)
            assert machine.asked == count
            assert found == times
    # Another number of threads is another question; what is damaged is asked again.
    machine = Machine(monkeypatch, tmp_path / "0", bf16=3.0, int8=9.0)
    assert next(iter(fastest(WEIGHTS, 1))) == "bf16"
    assert len(json.loads((tmp_path / "0" / "precision.json").read_text())) == 2
    for damaged in ("", "[]", '{"a": 3}'):
        (tmp_path / "0" / "precision.json").write_text(damaged)
        machine = Machine(monkeypatch, tmp_path / "0", bf16=3.0, int8=9.0)
        fastest(WEIGHTS, 2)
        assert machine.asked == 1


def test_a_folder_that_cannot_be_written_stops_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    Machine(monkeypatch, tmp_path / "file" / "folder", bf16=17.0, int8=6.0)
    assert next(iter(fastest(WEIGHTS, 2))) == "int8"


@pytest.fixture(autouse=True)
def _forgotten() -> None:  # type: ignore[misc]
    yield
    fastest.cache_clear()
