"""The fastest precision that computes correctly is chosen by measuring; a clear choice is cached."""

import json
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import openvino
import pytest
from openvino import opset13

from avatar_stream.runtime import openvino_cpu, precision, processor
from avatar_stream.runtime.network import tick_path
from avatar_stream.runtime.networks import WEIGHTS
from avatar_stream.runtime.precision import Measurement, measurements, ranked_precisions
from avatar_stream.runtime.rollout import IDENTICAL_PSNR, psnr
from avatar_stream.runtime.saturation import MAX_WEIGHT, reduce_weights
from avatar_stream.tools import doctor


class Machine:
    """Simulated measurements of speed and error; counts how often it is asked."""

    def __init__(self, patch: pytest.MonkeyPatch, cache: Path, **found: Measurement) -> None:
        self.found, self.asked = found, 0
        exact = "bf16" if "bf16" in found else "fp32"
        patch.setattr(openvino_cpu, "openvino_precision", lambda: exact)
        patch.setattr(precision, "measure", self.measure)
        patch.setattr(precision, "user_cache_path", lambda name: cache)
        ranked_precisions.cache_clear()
        measurements.cache_clear()

    def measure(self, folder: Path, paths: dict[str, Path], threads: int, slots: int) -> dict[str, Measurement]:
        self.asked += 1
        return {name: self.found[name] for name in paths}


def both_correct(bf16: float, int8: float) -> dict[str, Measurement]:
    return {"bf16": Measurement(bf16, 75.0), "int8": Measurement(int8, 47.0)}


@pytest.mark.parametrize(
    ("bf16", "int8", "first"), [(17.0, 6.0, "int8"), (4.0, 9.0, "bf16"), (10.0, 9.5, "bf16"), (10.0, 8.0, "int8")]
)
def test_the_faster_precision_is_chosen(
    bf16: float, int8: float, first: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    Machine(monkeypatch, tmp_path, **both_correct(bf16, int8))
    assert next(iter(ranked_precisions(WEIGHTS, 2))) == first


@pytest.mark.parametrize(
    ("exact", "decibels", "found"),
    [
        ("fp32", (IDENTICAL_PSNR, 39.9), ["fp32"]),
        ("fp32", (IDENTICAL_PSNR, math.nan), ["fp32"]),
        ("fp32", (IDENTICAL_PSNR, 40.0), ["int8", "fp32"]),
        ("bf16", (30.0, 47.0), ["int8"]),
        ("bf16", (75.0, 0.0), ["bf16"]),
        ("bf16", (math.nan, 20.0), ["fp32"]),
    ],
)
def test_a_precision_that_computes_wrong_is_not_chosen(
    exact: str, decibels: tuple[float, float], found: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    machine = {exact: Measurement(47.0, decibels[0]), "int8": Measurement(20.0, decibels[1])}
    for _ in range(2):  # measured, and read from the file
        Machine(monkeypatch, tmp_path, **machine)
        assert list(ranked_precisions(WEIGHTS, 2)) == found


def test_doctor_reports_the_precision_and_why_others_are_not_used(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    cases = [
        (
            {"fp32": Measurement(47.0, IDENTICAL_PSNR), "int8": Measurement(20.0, 39.6)},
            "int8  not used: it is inaccurate",
            "39.6 dB",
        ),
        (
            {"fp32": Measurement(47.0, IDENTICAL_PSNR), "int8": Measurement(20.0, 47.0)},
            "int8  used (20.0 ms",
            "47.0 dB",
        ),
        (
            {"bf16": Measurement(20.0, 75.0), "int8": Measurement(math.inf, 0.0)},
            "int8  not used: it cannot run",
            "bf16  used",
        ),
        (
            {"bf16": Measurement(20.0, math.nan), "int8": Measurement(9.0, 3.0)},
            "bf16  not used",
            "fp32  used: it is exact",
        ),
    ]
    for number, (found, verdict, more) in enumerate(cases):
        Machine(monkeypatch, tmp_path / str(number), **found)
        report = doctor.examine()
        assert verdict in doctor.sentences(report)
        assert more in doctor.sentences(report)
        json.loads(json.dumps(report, allow_nan=False))
        assert report["engine"] == f"openvino {next(one['precision'] for one in report['precisions'] if one['used'])}"


def test_a_clear_choice_is_cached_and_a_close_one_is_not(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for times, again in ((both_correct(17.0, 6.0), 0), (both_correct(10.0, 8.5), 1)):
        folder = tmp_path / str(again)
        for count in (1, again):
            machine = Machine(monkeypatch, folder, **times)
            found = ranked_precisions(WEIGHTS, 2)
            assert machine.asked == count
            assert found == times
    # The cache depends on the number of threads, the slots and the instructions.
    times = both_correct(3.0, 9.0)
    for threads, slots, told in ((1, 1, ""), (2, 2, ""), (2, 1, "AVX2")):
        if told:
            monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", told)
        machine = Machine(monkeypatch, tmp_path / "0", **times)
        assert next(iter(ranked_precisions(WEIGHTS, threads, slots))) == "bf16"
        assert machine.asked == 1
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA")
    assert len(json.loads((tmp_path / "0" / "precision.json").read_text())) == 4
    # A damaged entry, or one of an older release, is measured again.
    for damaged in ("", "[]", '{"a": 3}', '{"a": {"int8": 4.0}}', "[" * 10_000, '{"a": {"int8": {"ms": 1}}}'):
        (tmp_path / "0" / "precision.json").write_text(damaged)
        machine = Machine(monkeypatch, tmp_path / "0", **times)
        ranked_precisions(WEIGHTS, 2)
        assert machine.asked == 1


def test_the_cache_depends_on_the_processors_instructions(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    cpuinfo = {"model name": "Some CPU", "flags": "avx2 avx512_vnni"}
    monkeypatch.setattr(processor, "_cpuinfo", lambda name: cpuinfo.get(name, ""))
    times = both_correct(17.0, 6.0)
    for flags, asked in (("avx2 avx512_vnni", 1), ("avx2 avx512_vnni", 0), ("avx2", 1)):
        cpuinfo["flags"] = flags
        machine = Machine(monkeypatch, tmp_path, **times)
        ranked_precisions(WEIGHTS, 2)
        assert machine.asked == asked


def test_without_a_writable_cache_the_precision_is_measured_each_time(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    Machine(monkeypatch, tmp_path / "file" / "folder", **both_correct(17.0, 6.0))
    assert next(iter(ranked_precisions(WEIGHTS, 2))) == "int8"


def test_an_engine_that_computes_nan_has_infinite_error() -> None:
    assert psnr([math.nan]) == psnr([1.0, math.inf]) == 0.0
    assert psnr([0.0]) == IDENTICAL_PSNR


def test_a_precision_that_cannot_run_is_not_chosen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    real = openvino_cpu.OpenVinoTicker

    def load(path: Path, threads: int, *, full_precision: bool = False) -> openvino_cpu.OpenVinoTicker:
        if ".int8." in path.name:
            raise RuntimeError("Exception from src/plugin.cpp:54:\nbad combination\n")
        return real(path, threads, full_precision=full_precision)

    monkeypatch.setattr(precision, "user_cache_path", lambda name: tmp_path)
    monkeypatch.setattr(openvino_cpu, "OpenVinoTicker", load)
    for _ in range(2):  # measured, and read from the file
        ranked_precisions.cache_clear()
        measurements.cache_clear()
        assert "int8" not in ranked_precisions(WEIGHTS, 1)


def test_the_shipped_networks_compute_right_on_this_processor(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(precision, "user_cache_path", lambda name: tmp_path)
    ranked_precisions.cache_clear()
    measurements.cache_clear()
    found = ranked_precisions(WEIGHTS, 1)
    assert {openvino_cpu.openvino_precision(), "int8"} == set(found), "both precisions are usable"


@pytest.mark.parametrize("slots", [1, 2])
def test_the_shipped_int8_networks_cannot_saturate(slots: int) -> None:
    """``vpmaddubsw`` adds two neighbouring weights, each times up to 255, in 16 bits."""
    model = openvino_cpu.read_model(tick_path(WEIGHTS, slots, "int8"))
    weights = [
        node.data.astype(int)
        for node in model.get_ordered_ops()
        if node.get_type_name() == "Constant" and node.data.dtype == np.int8 and node.data.ndim > 1
    ]
    assert len(weights) == 28
    for value in weights:
        assert 255 * 2 * np.abs(value).max() <= 2**15 - 1


def test_halved_weights_compute_the_same() -> None:
    random = np.random.default_rng(4)
    weights = random.integers(-127, 128, (8, 4, 3, 3)).astype(np.int8)
    scale = np.full((8, 1, 1, 1), 0.01, np.float32)
    picture = random.uniform(0, 1, (1, 4, 9, 9)).astype(np.float32)
    outputs, values = [], []
    for reduced in (False, True):
        given = opset13.parameter([1, 4, 9, 9], openvino.Type.f32)
        stored = opset13.convert(opset13.constant(weights), "f32")
        scaled = opset13.multiply(opset13.subtract(stored, opset13.constant(np.zeros_like(scale))), scale)
        model = openvino.Model([opset13.convolution(given, scaled, [1, 1], [0, 0], [0, 0], [1, 1])], [given])
        if reduced:
            assert reduce_weights(model) == 1
            assert reduce_weights(model) == 0, "weights that fit are unchanged"
        values += [n.data for n in model.get_ordered_ops() if n.get_type_name() == "Constant" and n.data.ndim == 4]
        compiled = openvino_cpu.openvino_core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        outputs.append(compiled([picture])[0])
    assert max(np.abs(value).max() for value in values if value.dtype == np.int8) == 127
    error = np.abs(outputs[1] - outputs[0])
    assert 0 < error.max() < 0.05 * np.abs(outputs[0]).max()
    assert MAX_WEIGHT == 64


@pytest.fixture(autouse=True)
def _forgotten() -> Iterator[None]:
    yield
    ranked_precisions.cache_clear()
    measurements.cache_clear()
