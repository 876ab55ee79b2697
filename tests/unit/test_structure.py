"""Imports point inward, as docs/architecture.md says: each package knows only what is listed here."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.waiting import PATIENCE

ROOT = Path(__file__).parent.parent.parent
PACKAGE = ROOT / "avatar_stream"
KNOWS = {
    "face": {"errors", "quiet"},
    "media": {"errors", "extras", "rates"},
    "runtime": {"errors", "extras"},
    "portrait": {"errors", "quiet", "face", "runtime"},
    "identity": {"errors", "face", "portrait"},
    "voice": {"errors", "face", "media"},
    "rigs": {"errors", "strict_json", "face", "media"},
    "server": {
        "errors",
        "rates",
        "strict_json",
        "settings",
        "live",
        "face",
        "media",
        "runtime",
        "portrait",
        "identity",
    },
}


def imported(file: Path) -> Iterator[str]:
    """The parts of this project that a module imports, wherever in it."""
    for node in ast.walk(ast.parse(file.read_text())):
        names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        yield from (name.split(".")[1] for name in names if name.startswith("avatar_stream."))


def test_every_package_is_listed() -> None:
    assert {folder.parent.name for folder in PACKAGE.glob("*/__init__.py")} == set(KNOWS)


@pytest.mark.parametrize("package", KNOWS)
def test_a_package_knows_only_what_it_may(package: str) -> None:
    found = {
        (file.name, name)
        for file in (PACKAGE / package).glob("*.py")
        for name in imported(file)
        if name not in KNOWS[package] | {package}
    }
    assert not found
    opening = ast.get_docstring(ast.parse((PACKAGE / package / "__init__.py").read_text())) or ""
    assert "Owns" in opening
    assert "nown" in opening or "nows" in opening or "business" in opening


def test_nothing_that_runs_knows_the_training() -> None:
    for file in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            assert not [name for name in names if name.split(".")[0] in ("torch", "engines", "tests")], file


def test_everything_that_runs_is_loaded_without_torch() -> None:
    modules = [
        ".".join(file.relative_to(ROOT).with_suffix("").parts)
        for file in PACKAGE.rglob("*.py")
        if file.name != "__init__.py" and "tensorrt" not in file.name
    ]
    code = f"import sys, {', '.join(modules)}; sys.exit('torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
