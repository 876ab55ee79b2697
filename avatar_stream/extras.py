"""Commands that install optional packages (the extras in ``pyproject.toml``), for messages to users."""

import re
import sys
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

CLONE_FOLDER = Path(__file__).resolve().parent.parent


def reinstall_command() -> str:
    """The command that installs this package and its dependencies again."""
    if (CLONE_FOLDER / "pyproject.toml").is_file():
        return f"{_cd_prefix()}{_pip_path()} install -e ."
    return "install its wheel again"


def install_command(extra: str) -> str:
    """The command that installs an extra, ready to be typed.

    In a clone it installs the clone with the extra. For an installed wheel it names the extra's packages, because
    ``avatar-stream`` itself is in no package index.
    """
    if (CLONE_FOLDER / "pyproject.toml").is_file():
        return f'{_cd_prefix()}{_pip_path()} install -e ".[{extra}]"'
    try:
        listed = requires("avatar-stream") or []
    except PackageNotFoundError:
        listed = []
    of_extra = re.compile(rf"extra\s*==\s*['\"]{re.escape(extra)}['\"]")
    packages = [one.split(";")[0].strip() for one in listed if of_extra.search(one)]
    return " ".join([_pip_path(), "install", *(f'"{one}"' for one in packages)])


def pip_command(*words: str) -> str:
    """A pip command for this Python environment."""
    return " ".join([_pip_path(), *words])


def installed_version() -> str:
    """The version of this package."""
    try:
        return version("avatar-stream")
    except PackageNotFoundError:
        return "of a folder that is not installed"


def _cd_prefix() -> str:
    """``cd`` into the clone, unless it is the current folder."""
    return "" if Path.cwd() == CLONE_FOLDER else f"cd {_quoted(CLONE_FOLDER)} && "


def _pip_path() -> str:
    """The pip of this environment, as a user in the clone types it."""
    scripts = Path(sys.prefix) / ("Scripts" if sys.platform == "win32" else "bin")
    if sys.prefix == sys.base_prefix or not any((scripts / name).exists() for name in ("pip", "pip.exe")):
        return f"{_quoted(Path(sys.executable))} -m pip"
    if scripts.is_relative_to(CLONE_FOLDER):
        scripts = scripts.relative_to(CLONE_FOLDER)
    return _quoted(scripts / "pip")


def _quoted(path: Path) -> str:
    return f'"{path}"' if " " in str(path) else str(path)
