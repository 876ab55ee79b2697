"""Engines that become available or fail while the server runs: sessions go on."""

import logging
import time
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from avatar_stream.errors import EngineUnavailable
from avatar_stream.face import mesh
from avatar_stream.identity.library import sample_pictures
from avatar_stream.portrait.drawing_quality import DRAWING_QUALITIES
from avatar_stream.portrait.portrait import Portrait, prepare, read_picture
from avatar_stream.portrait.renderer import PortraitRenderer
from avatar_stream.runtime import choose, tensorrt_build
from avatar_stream.runtime.networks import Networks
from avatar_stream.runtime.plans import PlanKey
from avatar_stream.server.session import engine_upgrade as upgrading
from avatar_stream.server.session.engine_upgrade import upgrade
from tests.waiting import TEST_TIMEOUT

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def portrait() -> Portrait:
    return prepare(read_picture(next(iter(sample_pictures().values()))), 256, square=True)


def rest_error(renderer: PortraitRenderer, portrait: Portrait) -> float:
    """The mean error of the portrait at rest, in grey levels."""
    picture = renderer(portrait.landmarks).picture
    return float(np.abs(picture.astype(int) - portrait.picture).mean())


def test_a_failing_network_is_replaced_while_it_draws(portrait: Portrait, caplog: pytest.LogCaptureFixture) -> None:
    networks = Networks(runtime="openvino")
    renderer = PortraitRenderer(portrait, networks)
    assert rest_error(renderer, portrait) < 4

    def broken(jobs: Any) -> Any:
        raise RuntimeError("the device is gone")

    opened = portrait.landmarks.copy()
    opened[list(mesh.INNER_LIP_LOWER), 1] += 12
    talking = cycle((opened, portrait.landmarks))  # an unchanged face would not run the network
    networks.tickers[1].run = broken  # type: ignore[method-assign]
    failures, until = 0, time.monotonic() + TEST_TIMEOUT
    with caplog.at_level(logging.WARNING):
        while networks.name.startswith("openvino") and time.monotonic() < until:
            try:
                renderer(next(talking))
            except RuntimeError as error:
                failures += str(error) == "the device is gone"
            time.sleep(0.02)
    assert networks.name == "onnxruntime fp32"
    assert rest_error(renderer, portrait) < 4
    assert "the device is gone" in caplog.text
    assert failures >= 3


class Machine:
    """A simulated machine with a GPU, on which OpenVINO in fp32 replaces TensorRT."""

    def __init__(self, patch: pytest.MonkeyPatch, cache: Path) -> None:
        self.built = 0
        self.spoil = 0.0
        real = choose._load

        def load(name: str, folder: Path, precision: str | None, threads: int, slots: int) -> Any:
            if name != "tensorrt":
                return real(name, folder, precision, threads, slots)
            reference, ticker = real("openvino", folder, "fp32", threads, slots)
            ticker.name = "tensorrt fp16"
            run = ticker.run
            ticker.run = lambda jobs: [r + np.float32(self.spoil) for r in run(jobs)]  # type: ignore[method-assign]
            return reference, ticker

        def build(network: Path) -> bytes:
            self.built += 1
            return b"plan"

        patch.setenv("XDG_CACHE_HOME", str(cache))
        patch.setattr(upgrading, "CHECK_TICKS", 20)
        patch.setattr(choose, "_load", load)
        patch.setattr(tensorrt_build, "build", build)
        patch.setattr(tensorrt_build, "gpu_name", lambda: "Imagined sm89")
        patch.setattr(tensorrt_build, "tensorrt_module", lambda: tensorrt_build)
        key = PlanKey("network", "tensorrt", "gpu", "driver", "fp16", (1,))
        patch.setattr(tensorrt_build, "plan_key", lambda network: key)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Machine:
    return Machine(monkeypatch, tmp_path)


def test_a_session_switches_to_a_new_engine(machine: Machine, portrait: Portrait) -> None:
    networks = Networks(runtime="openvino")
    renderer = PortraitRenderer(portrait, networks)
    assert rest_error(renderer, portrait) < 4
    upgrade(networks)
    assert networks.name == "tensorrt fp16"
    assert machine.built == 1
    for level in (0, 1, 0):
        renderer.quality = DRAWING_QUALITIES[level]
        assert rest_error(renderer, portrait) < 4
    upgrade(Networks(runtime="openvino"))
    assert machine.built == 1, "the first build is cached"


def test_an_engine_that_computes_wrong_is_not_used(machine: Machine, caplog: pytest.LogCaptureFixture) -> None:
    machine.spoil = 3.0
    networks = Networks(runtime="openvino")
    before = networks.name
    with caplog.at_level(logging.WARNING):
        upgrade(networks)
    assert networks.name == before
    assert "failed its check" in caplog.text


def test_a_failed_build_logs_one_line_and_the_server_goes_on(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def build(network: Path) -> bytes:
        raise EngineUnavailable("TensorRT cannot build tick1.onnx: no space left")

    monkeypatch.setattr(tensorrt_build, "build", build)
    networks = Networks(runtime="openvino")
    before = networks.name
    with caplog.at_level(logging.WARNING):
        upgrade(networks)
    assert networks.name == before
    (record,) = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert record.getMessage().endswith("no space left")


def test_without_a_gpu_nothing_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensorrt_build, "gpu_name", lambda: None)
    networks = Networks(runtime="onnxruntime")
    upgrade(networks)
    assert networks.name == "onnxruntime fp32"
    assert set(networks.tickers) == {1}
