"""The ``avatar-stream engine`` commands, and the report for GPU machines on this CPU."""

import json
from pathlib import Path

import pytest

from avatar_stream.cli.main import main
from avatar_stream.runtime import choose, tensorrt_build
from engines import gpu_report

pytestmark = pytest.mark.slow

needs_rtx = pytest.mark.skipif(tensorrt_build.tensorrt_module() is None, reason="no TensorRT for this platform")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "avatar-stream" / "engines"


@needs_rtx
def test_engines_are_built_listed_and_removed(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["engine", "build", "--target", "sm89", "--json"]) == 0
    built = json.loads(capsys.readouterr().out)
    assert Path(built["path"]).stat().st_size > 1_000_000
    assert main(["engine", "build", "--target", "sm89"]) == 0  # cached: not built again
    assert built["name"] in capsys.readouterr().out
    assert main(["engine", "list", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert listed["built"][built["name"]]["sound"]
    assert listed["engines"][-1] == "onnxruntime"
    Path(built["path"]).write_bytes(b"cut short")
    assert main(["engine", "list"]) == 0
    assert "damaged" in capsys.readouterr().out
    assert main(["engine", "remove", "nonsense"]) == 2
    assert "avatar-stream engine list" in capsys.readouterr().err
    assert main(["engine", "remove", "--all"]) == 0
    assert not list(cache.iterdir())
    assert main(["engine", "remove"]) == 2


@pytest.mark.skipif(tensorrt_build.gpu_name() is not None, reason="there is a GPU")
def test_engine_build_without_a_gpu_says_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["engine", "build"]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "--target" in error or "pip install" in error


@needs_rtx
@pytest.mark.parametrize(("sm", "runs"), [("75", True), ("89", True), ("90", False), ("100", False), ("122", True)])
def test_tensorrt_for_rtx_is_not_used_on_unsupported_gpus(
    sm: str, runs: bool, cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tensorrt_build, "gpu_name", lambda: f"NVIDIA Some GPU sm{sm}")
    monkeypatch.setattr(tensorrt_build, "TENSORRT_MODULES", ("tensorrt_rtx",))
    assert ("tensorrt" in choose.available_runtimes()) is runs
    if not runs:
        assert main(["engine", "build"]) == 1
        assert f"does not run on NVIDIA Some GPU sm{sm}" in capsys.readouterr().err
        # It can still build for another machine.
        assert main(["engine", "build", "--target", "sm89"]) == 0


def test_engine_check_compares_every_engine_that_runs_here(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["engine", "check", "--ticks", "12", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert any(row["engine"] == "openvino int8" for row in found["engines"])
    for row in found["engines"]:
        assert row["passed"] or not row["used"]
        assert row["ticks"] == 12
        assert 20 < row["psnr"] < 99


def test_the_gpu_report_runs_on_a_cpu(tmp_path: Path) -> None:
    gpu_report.main([str(tmp_path / "out"), "--seconds", "0.1", "--ticks", "10", "--frames", "12"])
    found = json.loads((tmp_path / "out" / "report.json").read_text())
    assert found["floor"]["operations_per_s"] > 1e9
    assert set(found["engines"]) >= {"onnxruntime fp32"}
    for engine in found["engines"].values():
        assert engine["loop"]["256"]["fps"] > 0
        assert engine["share_of_floor"]["1"] > 0
    assert "ms per run" in (tmp_path / "out" / "report.md").read_text()
