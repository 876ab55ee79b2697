"""The dependencies of pyproject.toml can be resolved against the package index; nothing is installed."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.waiting import TEST_TIMEOUT

ROOT = Path(__file__).parent.parent.parent
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
LINUX, ARM, MAC, WINDOWS = (
    "x86_64-manylinux_2_36",
    "aarch64-manylinux_2_36",
    "aarch64-apple-darwin",
    "x86_64-pc-windows-msvc",
)


def resolve(*flags: str, output: Path | None = None) -> str:
    """The pinned packages to which uv resolves the project."""
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "uv",
            "pip",
            "compile",
            "pyproject.toml",
            "--quiet",
            "--no-header",
            "--no-annotate",
            *flags,
        ]
        + (["--output-file", str(output)] if output else []),
        cwd=ROOT,
        # Use the system's certificates like pip: some networks have their own certificate.
        env=os.environ | {"MACOSX_DEPLOYMENT_TARGET": "14.0", "UV_SYSTEM_CERTS": "1", "UV_NATIVE_TLS": "1"},
        capture_output=True,
        text=True,
        timeout=TEST_TIMEOUT,
        check=False,
    )
    if "error sending request" in done.stderr:
        pytest.skip("the package index cannot be reached from here")
    assert done.returncode == 0, done.stderr
    return output.read_text() if output else done.stdout


def wheels(platform: str, *flags: str, python: str = "3.11") -> str:
    """As :func:`resolve`, with wheels only, for one platform."""
    return resolve("--only-binary", ":all:", "--python-platform", platform, "--python-version", python, *flags)


@pytest.mark.parametrize("python", ["3.11", "3.12"])
@pytest.mark.parametrize("platform", [LINUX, ARM, MAC, WINDOWS])
def test_wheels_exist_for(platform: str, python: str) -> None:
    found = wheels(platform, python=python)
    assert "torch" not in found
    assert f"mediapipe==0.10.{18 if platform == ARM else 21}" in found


@pytest.mark.parametrize("extra", EXTRAS)
def test_each_extra_resolves(extra: str) -> None:
    found = resolve("--extra", extra, "--python-platform", LINUX, "--python-version", "3.11")
    for package in EXTRAS[extra]:
        name = re.match(r"[\w-]+", package).group().replace("_", "-")  # type: ignore[union-attr]
        assert f"\n{name}==" in "\n" + found


@pytest.mark.parametrize(
    ("extra", "brings"), [("tensorrt-rtx", "tensorrt-rtx"), ("tensorrt", "tensorrt"), ("cuda", "nvidia-cudnn")]
)
def test_gpu_extras_bring_their_libraries(extra: str, brings: str) -> None:
    found = (
        wheels(LINUX, "--extra", extra) if extra == "cuda" else resolve("--extra", extra, "--python-platform", LINUX)
    )
    assert f"\n{brings}" in found
    assert "\ncuda-bindings==" in found


def test_the_lock_file_is_up_to_date(tmp_path: Path) -> None:
    lock = tmp_path / "requirements.lock"
    lock.write_text((ROOT / "requirements.lock").read_text())
    before = lock.read_text()
    after = resolve("--universal", "--python-version", "3.11", output=lock)
    assert pins(after) == pins(before), "run: make lock"


def pins(text: str) -> list[str]:
    return [line for line in text.splitlines() if line and not line.lstrip().startswith("#")]
