"""Messages about missing packages give a command that works in a clone, or with an installed wheel."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from avatar_stream import extras
from avatar_stream.cli.main import main
from avatar_stream.errors import BadInput
from avatar_stream.extras import install_command, reinstall_command
from avatar_stream.media.virtual_camera import VirtualCamera
from tests.waiting import TEST_TIMEOUT

ROOT = Path(__file__).parents[2]
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]


@pytest.mark.parametrize("folder", [ROOT, ROOT / "docs"])
def test_in_a_clone_the_install_line_is_for_the_clone(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "prefix", str(ROOT / ".venv"))
    monkeypatch.setattr(Path, "exists", lambda path: path.name == "pip")
    there = "" if folder == ROOT else f"cd {ROOT} && "
    assert install_command("camera") == f'{there}.venv/bin/pip install -e ".[camera]"'
    assert reinstall_command() == f"{there}.venv/bin/pip install -e ."


@pytest.mark.parametrize("extra", ["tensorrt-rtx", "tensorrt", "cuda", "camera", "heic", "provenance"])
def test_elsewhere_the_install_line_names_the_packages(
    extra: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(extras, "CLONE_FOLDER", tmp_path)
    line = install_command(extra)
    for wanted in EXTRAS[extra]:
        assert re.split("[>=]", wanted)[0] in line
    assert line.count('"') == 2 * len(EXTRAS[extra])


def test_no_text_says_to_install_from_the_package_index() -> None:
    files = [ROOT / "README.md", *ROOT.glob("docs/*.md"), *ROOT.glob("avatar_stream/**/*.py")]
    for file in files:
        assert not re.search(r"pip install [\"']*avatar-stream", file.read_text()), file


def test_a_missing_package_is_named_with_its_install_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyvirtualcam", None)
    with pytest.raises(BadInput, match=r"needs one more package: .*pip install -e \"\.\[camera\]"):
        VirtualCamera((64, 64), 25)


def test_the_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert re.fullmatch(r"avatar-stream \d+\.\d+\.\d+\n", capsys.readouterr().out)


def test_make_demo_prints_how_to_run_the_command() -> None:
    run = subprocess.run(
        ["make", "-n", "demo"], capture_output=True, text=True, timeout=TEST_TIMEOUT, check=True, cwd=ROOT
    )
    output = run.stdout
    assert output.index("write .venv/bin/avatar-stream, or once in each terminal: source .venv/bin/activate") < (
        output.index(".venv/bin/avatar-stream serve")
    )
    assert "source .venv/bin/activate" in (ROOT / "README.md").read_text()


@pytest.mark.parametrize(("module", "missing"), [("tests.soak", "psutil"), ("tests.fuzz", "atheris")])
def test_a_bench_names_its_missing_package(module: str, missing: str) -> None:
    program = (
        f"import runpy, sys; sys.modules[{missing!r}] = None; sys.argv = [{module!r}, '--help'];"
        f" runpy.run_module({module!r}, run_name='__main__')"
    )
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=TEST_TIMEOUT, check=False, cwd=ROOT
    )
    assert run.returncode == 1
    assert len(run.stderr.splitlines()) == 1
    assert f"{module} needs {missing}" in run.stderr
    assert "pip install -e" in run.stderr
