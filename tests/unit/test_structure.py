"""Imports point inward, as in docs/architecture.md: each package imports only what is listed here."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.waiting import TEST_TIMEOUT

ROOT = Path(__file__).parent.parent.parent
PACKAGE = ROOT / "avatar_stream"
IMPORTABLE_EVERYWHERE = {"errors", "typed_input"}
ALLOWED_IMPORTS = {
    "face": {"native_output"},
    "media": {"extras", "rate_limits"},
    "runtime": {"extras"},
    "portrait": {"native_output", "face", "runtime"},
    "pipeline": {"native_output", "face", "media", "runtime", "portrait", "identity", "rigs", "voice", "client"},
    "identity": {"face", "portrait", "runtime", "strict_json"},
    "voice": {"face", "media"},
    "rigs": {"strict_json", "face", "media"},
    "server": {
        "rate_limits",
        "strict_json",
        "settings",
        "face",
        "media",
        "rigs",
        "runtime",
        "portrait",
        "pipeline",
        "identity",
        "tools",
    },
    "tools": {"extras", "face", "media", "runtime", "portrait", "pipeline", "identity"},
}
# What the server's packages import of one another, besides its access, metrics and logs.
ALLOWED_SERVER_IMPORTS = {
    "rtc": set(),
    "session": {"rtc"},
    "ipc": {"rtc", "session"},
    "http": {"rtc", "session", "ipc"},
}


def module_name(file: Path) -> str:
    """A file's module name, such as ``avatar_stream.face.mesh``."""
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported_modules(tree: ast.AST) -> Iterator[str]:
    """Full names of this project's modules that the code imports, at any place in it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "avatar_stream":
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                yield whole if (ROOT / whole.replace(".", "/")).with_suffix(".py").is_file() else str(node.module)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.startswith("avatar_stream"))


def test_every_package_is_listed() -> None:
    packages = {folder.parent.name for folder in PACKAGE.glob("*/__init__.py")}
    assert packages == set(ALLOWED_IMPORTS) | {"cli"}  # the command line imports all, and none imports it
    assert {folder.parent.name for folder in (PACKAGE / "server").glob("*/__init__.py")} == set(
        ALLOWED_SERVER_IMPORTS
    )


@pytest.mark.parametrize("package", ALLOWED_IMPORTS)
def test_a_package_imports_only_what_it_may(package: str) -> None:
    found = {
        (file.name, name)
        for file in (PACKAGE / package).rglob("*.py")
        for name in imported_modules(ast.parse(file.read_text()))
        if "." in name and name.split(".")[1] not in ALLOWED_IMPORTS[package] | IMPORTABLE_EVERYWHERE | {package}
    }
    assert not found


@pytest.mark.parametrize("package", ALLOWED_SERVER_IMPORTS)
def test_a_server_package_imports_only_what_it_may(package: str) -> None:
    others = {
        f"avatar_stream.server.{name}."
        for name in set(ALLOWED_SERVER_IMPORTS) - ALLOWED_SERVER_IMPORTS[package] - {package}
    }
    found = {
        (file.name, name)
        for file in (PACKAGE / "server" / package).glob("*.py")
        for name in imported_modules(ast.parse(file.read_text()))
        if name.startswith(tuple(others))
    }
    assert not found


def test_every_package_docstring_says_what_it_covers() -> None:
    """In a first line, and in a second paragraph: what else is in it, and what it does not know."""
    for file in PACKAGE.glob("**/__init__.py"):
        if file.parent not in (PACKAGE, PACKAGE / "samples", PACKAGE / "weights"):
            opening = ast.get_docstring(ast.parse(file.read_text())) or ""
            assert len(opening.split("\n\n")) >= 2, file


def test_there_are_no_import_cycles() -> None:
    """Counts imports at the top of modules, also those for types only."""
    arrows = {}
    for file in PACKAGE.rglob("*.py"):
        body = ast.Module([node for node in ast.parse(file.read_text()).body if not _in_function(node)], [])
        arrows[module_name(file)] = set(imported_modules(body)) - {module_name(file)}
    del arrows["avatar_stream"]  # imports each of its names on first use
    # A module that imports none of the rest cannot be part of a cycle.
    while leaves := {name for name, names in arrows.items() if not names & arrows.keys()}:
        arrows = {name: names for name, names in arrows.items() if name not in leaves}
    assert not arrows


def _in_function(node: ast.stmt) -> bool:
    return isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)


def test_the_architecture_page_names_existing_paths_and_names() -> None:
    """Paths and names in docs/architecture.md exist."""
    page = (ROOT / "docs" / "architecture.md").read_text()
    answers = page.split("## Where to find it", 1)[1].split("\n## ", 1)[0]
    found = re.findall(r"`(avatar_stream/[\w/]+\.py)`, `([\w.]+)`", answers)
    assert len(found) >= 7
    for path, name in found:
        tree = ast.parse((ROOT / path).read_text())
        names: set[str] = set()
        for node in tree.body:
            names |= {getattr(node, "name", "")}
            if isinstance(node, ast.ClassDef):
                names |= {f"{node.name}.{getattr(one, 'name', '')}" for one in node.body}
        assert name in names, f"{path} has no {name}"
    for path in re.findall(r"`((?:avatar_stream|client_demo|tests|engines|examples)/[\w/.]+)`", page):
        assert (ROOT / path).exists(), path


def test_the_package_does_not_import_the_training_code() -> None:
    for file in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            assert not [name for name in names if name.split(".")[0] in ("torch", "engines", "tests")], file


def test_the_package_is_imported_without_torch() -> None:
    modules = [
        module_name(file)
        for file in PACKAGE.rglob("*.py")
        if file.name not in ("__init__.py", "__main__.py") and "tensorrt" not in file.name
    ]
    code = f"import sys, {', '.join(modules)}; sys.exit('torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=TEST_TIMEOUT, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]


RETIRED_WORDS = {"worker", "workers", "home", "relay", "rung", "rungs", "posed", "told", "somebody"}
"""Words of docs/architecture.md's glossary that had several meanings, or none that the field knows."""
FOREIGN_NAMES = {"decoder_worker", "_aiortc_decoder_worker"}


def test_code_uses_no_retired_word() -> None:
    found = set()
    for file in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            names = [getattr(node, name, None) for name in ("id", "attr", "name", "arg")]
            for name in names:
                if isinstance(name, str) and name not in FOREIGN_NAMES:
                    parts = {part.lower() for part in re.findall(r"[A-Z]?[a-z]+|[A-Z]+", name)}
                    found |= {(file.name, name) for part in parts & RETIRED_WORDS}
    assert not found
