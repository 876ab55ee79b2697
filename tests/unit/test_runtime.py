"""Runtimes: sessions' windows are separate in batches, plans are cached whole, and TensorRT builds the graphs."""

import gc
import json
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from avatar_stream.errors import EngineUnavailable
from avatar_stream.face.mesh import Floats
from avatar_stream.runtime import batcher as runtime_batcher
from avatar_stream.runtime import tensorrt_build
from avatar_stream.runtime.batcher import Batcher
from avatar_stream.runtime.choose import load
from avatar_stream.runtime.network import Arrays, HostStream, Job, Ticker, tick_path
from avatar_stream.runtime.networks import WEIGHTS
from avatar_stream.runtime.onnx_runtime import OnnxRuntimeTicker
from avatar_stream.runtime.openvino_cpu import OpenVinoTicker
from avatar_stream.runtime.plans import PlanCache, PlanKey
from avatar_stream.runtime.tensorrt_gpu import TensorRtTicker
from engines.export import export
from engines.networks.config import TOY
from engines.networks.model import Model
from tests.unit.fake_gpu import FakeCuda, FakeTensorRt
from tests.waiting import TEST_TIMEOUT, wait_until

pytestmark = pytest.mark.slow

# Operators that TensorRT and onnxruntime run without a plugin.
PLAIN_OPERATORS = {
    *("Add", "AveragePool", "Cast", "Clip", "Concat", "Constant", "ConstantOfShape", "Conv", "Cos", "DepthToSpace"),
    *("Div", "Equal", "Expand", "Flatten", "Gather", "Gemm", "InstanceNormalization", "LayerNormalization", "MatMul"),
    *(
        "Mod",
        "Mul",
        "Pow",
        "ReduceL2",
        "ReduceSum",
        "Reshape",
        "Shape",
        "Sigmoid",
        "Sin",
        "Slice",
        "Softmax",
        "Split",
    ),
    *("Sqrt", "Sub", "Transpose", "Unsqueeze", "Where"),
}
needs_rtx = pytest.mark.skipif(tensorrt_build.tensorrt_module() is None, reason="no TensorRT for this platform")


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An exported network in which every path has an effect."""
    torch.manual_seed(3)
    model = Model(TOY)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    folder = tmp_path_factory.mktemp("toy")
    export(model, folder)
    return folder


def identities(folder: Path, count: int, slots: int = 1) -> list[Arrays]:
    reference, _ = load(folder, runtime="onnxruntime")
    random = np.random.default_rng(5)
    faces = random.integers(0, 255, (count, 1, 192, 192, 3)).astype(np.uint8)
    outputs = [reference.run({"reference": face}) for face in faces]
    return [one | {"modulation": one["modulation"][:, -slots:]} for one in outputs]


def some_frames(count: int) -> list[Arrays]:
    random = np.random.default_rng(6)
    return [
        {
            "shown": random.integers(0, 255, (192, 192, 3)).astype(np.uint8),
            "raster": random.integers(0, 255, (7, 96, 96)).astype(np.uint8),
        }
        for _ in range(count)
    ]


def run_sessions(ticker: Ticker, faces: list[Arrays], frames: list[Arrays], together: bool) -> list[Floats]:
    """Residuals of several sessions over some frames; halfway the first session restarts."""
    streams = [ticker.open(face) for face in faces]
    out = []
    for k, frame in enumerate(frames):
        if k == len(frames) // 2:
            streams[0].reset()
        jobs = [Job(stream, frame) for stream in streams]
        out += ticker.run(jobs) if together else [ticker.run([job])[0] for job in jobs]
    return out


def assert_close(found: list[Floats], wanted: list[Floats], share: float) -> None:
    scale = max(float(np.abs(residual).max()) for residual in wanted)
    for a, b in zip(found, wanted, strict=True):
        np.testing.assert_allclose(a, b, atol=share * scale)


@pytest.mark.parametrize("slots", [1, 2])
@pytest.mark.parametrize("kind", ["openvino", "onnxruntime", "tensorrt"])
def test_batched_sessions_compute_the_same_as_alone(toy: Path, kind: str, slots: int) -> None:
    network, faces, frames = tick_path(toy, slots), identities(toy, 2, slots), some_frames(6)
    exact = run_sessions(OnnxRuntimeTicker(network, 1), faces, frames, together=False)
    ticker: Ticker
    if kind == "openvino":
        ticker = OpenVinoTicker(network, 1, full_precision=True, batches=(1, 2))
    elif kind == "onnxruntime":
        ticker = OnnxRuntimeTicker(network, 1, batches=(1, 2))
    else:
        cuda = FakeCuda()
        ticker = TensorRtTicker(b"plan", (1, 2), trt=FakeTensorRt(network, cuda), cuda=cuda)
    assert_close(run_sessions(ticker, faces, frames, together=False), exact, 0.02)
    assert_close(run_sessions(ticker, faces, frames, together=True), exact, 0.02)


def test_gpu_memory_is_freed_and_graphs_are_launched(toy: Path) -> None:
    cuda = FakeCuda()
    ticker = TensorRtTicker(b"plan", (1, 2), trt=FakeTensorRt(tick_path(toy), cuda), cuda=cuda)
    stream = ticker.open(identities(toy, 1)[0])
    for frame in some_frames(6):
        ticker.run([Job(stream, frame)])
    assert cuda.launches == 4, "after the first run in either order each tick is one graph"
    del stream
    gc.collect()
    assert not cuda.memory
    with pytest.raises(EngineUnavailable, match="cannot load the plan"):
        TensorRtTicker(b"", trt=FakeTensorRt(tick_path(toy), cuda), cuda=cuda)


class SlowTicker:
    """Records which jobs ran together; a frame of 13 fails."""

    name = "slow"
    slots = 1

    def __init__(self, batches: tuple[int, ...], seconds: float = 0.004) -> None:
        self.batches, self.seconds = batches, seconds
        self.runs: list[int] = []
        self.order: list[int] = []

    def open(self, identity: Arrays) -> HostStream:
        return HostStream({}, {})

    def run(self, jobs: Sequence[Job]) -> list[Floats]:
        assert len({id(job.stream) for job in jobs}) == len(jobs)
        time.sleep(self.seconds)
        values = [int(job.frame["shown"]) for job in jobs]
        if 13 in values:
            raise RuntimeError("unlucky")
        self.runs.append(len(jobs))
        self.order += values
        return [np.full(1, value, np.float32) for value in values]


def tick_in_thread(batcher: Batcher, count: int, stream: object) -> threading.Thread:
    """A session that makes ``count`` ticks, one after the other."""

    def session() -> None:
        for number in range(count):
            assert batcher.run(stream, {"shown": np.array(number + 20)})[0] == number + 20

    thread = threading.Thread(target=session, daemon=True)
    thread.start()
    return thread


def test_concurrent_sessions_get_their_own_results() -> None:
    ticker = SlowTicker((1, 2, 4))
    batcher = Batcher(ticker)
    for thread in [tick_in_thread(batcher, 30, object()) for _ in range(4)]:
        thread.join(TEST_TIMEOUT)
    batcher.close()
    assert sum(ticker.runs) == 120


def test_simultaneous_ticks_run_in_one_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MAX_BATCH_WAIT_SECONDS", "ACTIVE_SECONDS"):
        monkeypatch.setattr(runtime_batcher, name, TEST_TIMEOUT)
    ticker = SlowTicker((1, 2, 4))
    batcher, one, other = Batcher(ticker), object(), object()
    tick_in_thread(batcher, 1, one).join(TEST_TIMEOUT)
    waiting = tick_in_thread(batcher, 1, other)  # it waits for the first session, which has ticked lately
    tick_in_thread(batcher, 1, one).join(TEST_TIMEOUT)
    waiting.join(TEST_TIMEOUT)
    batcher.close()
    assert ticker.runs == [1, 2]


@pytest.mark.parametrize(("batches", "sessions"), [((1, 2, 4), 1), ((1,), 2)])
def test_a_tick_does_not_wait_for_a_batch_that_cannot_fill(
    batches: tuple[int, ...], sessions: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Alone, or if the ticker runs one job at a time; each wait would exceed this test's limit."""
    for name in ("MAX_BATCH_WAIT_SECONDS", "ACTIVE_SECONDS"):
        monkeypatch.setattr(runtime_batcher, name, 10 * TEST_TIMEOUT)
    ticker = SlowTicker(batches)
    batcher = Batcher(ticker)
    threads = [tick_in_thread(batcher, 30, object()) for _ in range(sessions)]
    for thread in threads:
        thread.join(TEST_TIMEOUT)
        assert not thread.is_alive()
    batcher.close()
    assert ticker.runs == [1] * 30 * sessions


def test_ticks_run_in_order_of_arrival() -> None:
    ticker, first, go_on = SlowTicker((1,), seconds=0), threading.Event(), threading.Event()
    run = ticker.run

    def held(jobs: Sequence[Job]) -> list[Floats]:
        first.set()
        go_on.wait(TEST_TIMEOUT)
        return run(jobs)

    ticker.run = held  # type: ignore[method-assign]
    batcher, threads = Batcher(ticker), []
    for number in (20, 21, 22, 23):
        thread = threading.Thread(target=batcher.run, args=(object(), {"shown": np.array(number)}))
        thread.start()
        threads.append(thread)
        # Each asks once the one before runs or waits.
        assert first.wait(TEST_TIMEOUT)
        wait_until(lambda: len(batcher._queue) == len(threads) - 1, "the tick waited")
    go_on.set()
    for thread in threads:
        thread.join(TEST_TIMEOUT)
    batcher.close()
    assert ticker.order == [20, 21, 22, 23]


def test_a_failing_tick_fails_only_its_session() -> None:
    batcher = Batcher(SlowTicker((1,)))
    with pytest.raises(RuntimeError, match="unlucky"):
        batcher.run(object(), {"shown": np.array(13)})
    assert batcher.run(object(), {"shown": np.array(5)})[0] == 5
    batcher.close()
    with pytest.raises(RuntimeError, match="closed"):
        batcher.run(object(), {"shown": np.array(5)})


PLAN_KEY = PlanKey("0123", "tensorrt_rtx 1", "NVIDIA L4 sm89", "550", "fp16", (1, 2))


def test_plans_are_cached_and_damaged_ones_ignored(tmp_path: Path) -> None:
    cache = PlanCache(tmp_path / "engines")
    assert cache.find(PLAN_KEY) is None
    plan = cache.store(PLAN_KEY, b"plan" * 100)
    assert cache.find(PLAN_KEY) == plan
    other = PlanKey(PLAN_KEY.network, PLAN_KEY.tensorrt, PLAN_KEY.gpu, "551", PLAN_KEY.precision, PLAN_KEY.sessions)
    assert cache.find(other) is None, "another driver needs another plan"
    ((name, noted),) = cache.entries()
    assert noted["sound"]
    assert noted["gpu"] == "NVIDIA L4 sm89"
    plan.write_bytes(b"plan" * 99)
    assert cache.find(PLAN_KEY) is None
    ((_, noted),) = cache.entries()
    assert not noted["sound"]
    assert cache.remove(name)
    assert not cache.remove(name)
    assert not list(cache.folder.iterdir())


def test_a_cache_that_cannot_be_written_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "engines").write_text("a file where the folder should be")
    cache = PlanCache(tmp_path / "engines")
    with pytest.raises(EngineUnavailable, match="set XDG_CACHE_HOME"):
        cache.store(PLAN_KEY, b"plan")
    assert cache.find(PLAN_KEY) is None
    assert list(cache.entries()) == []


def test_concurrent_builds_do_not_interfere(tmp_path: Path) -> None:
    cache = PlanCache(tmp_path)
    threads = [threading.Thread(target=cache.store, args=(PLAN_KEY, bytes([7]) * 2_000_000)) for k in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert cache.find(PLAN_KEY) is not None
    assert json.loads((tmp_path / f"{PLAN_KEY.name}.json").read_text())["bytes"] == 2_000_000
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("graph", ["tick2", "tick1", "reference"])
def test_exported_graphs_use_only_plain_operators(toy: Path, graph: str) -> None:
    for folder in (WEIGHTS, toy):
        model = onnx.load(str(folder / f"{graph}.onnx"))
        assert {node.op_type for node in model.graph.node} <= PLAIN_OPERATORS
        assert {node.domain for node in model.graph.node} <= {"", "ai.onnx"}


@needs_rtx
@pytest.mark.parametrize("graph", ["tick2", "tick1", "reference"])
def test_tensorrt_builds_every_exported_graph(graph: str) -> None:
    steps: list[tuple[str, int, int]] = []
    plan = tensorrt_build.build(WEIGHTS / f"{graph}.onnx", progress=lambda *step: steps.append(step))
    assert len(plan) > 1_000_000
    assert steps


@needs_rtx
def test_a_failed_tensorrt_build_is_reported_in_one_line(tmp_path: Path, toy: Path) -> None:
    (tmp_path / "broken.onnx").write_bytes((tick_path(toy)).read_bytes()[:5000])
    with pytest.raises(EngineUnavailable, match=r"cannot read broken\.onnx") as caught:
        tensorrt_build.build(tmp_path / "broken.onnx")
    assert "\n" not in str(caught.value)
    with pytest.raises(EngineUnavailable, match="cannot build for sm12"):
        tensorrt_build.build(tick_path(toy), target="sm12")


def test_an_unavailable_engine_is_reported_and_the_next_best_is_used(toy: Path) -> None:
    if tensorrt_build.gpu_name() is None:
        with pytest.raises(EngineUnavailable, match="the engine tensorrt cannot run here"):
            load(toy, runtime="tensorrt")
    assert load(toy)[1].slots == 1
