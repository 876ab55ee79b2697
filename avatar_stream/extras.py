"""How to get packages that not everybody needs: the extras of ``pyproject.toml``."""

import re
import sys
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

CLONE_FOLDER = Path(__file__).resolve().parent.parent


def reinstall_command() -> str:
    """What installs this package and all that it needs once more."""
    if (CLONE_FOLDER / "pyproject.toml").is_file():
        return f"{_cd_prefix()}{_pip_path()} install -e ."
    return "install its wheel again"


def install_command(extra: str) -> str:
    """The command that installs an extra here, to be typed as it is.

    In a clone it is pip's for that clone, elsewhere (an installed wheel) the extra's packages by their names: no
    package index has ``avatar-stream`` itself.
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
    """A command of the pip that this Python's packages come from."""
    return " ".join([_pip_path(), *words])


def installed_version() -> str:
    """This package's own version."""
    try:
        return version("avatar-stream")
    except PackageNotFoundError:
        return "of a folder that is not installed"


def _cd_prefix() -> str:
    """The way into the clone, where one is not in it."""
    return "" if Path.cwd() == CLONE_FOLDER else f"cd {_quoted(CLONE_FOLDER)} && "


def _pip_path() -> str:
    """The environment's own pip, as one types it in the clone."""
    scripts = Path(sys.prefix) / ("Scripts" if sys.platform == "win32" else "bin")
    if sys.prefix == sys.base_prefix or not any((scripts / name).exists() for name in ("pip", "pip.exe")):
        return f"{_quoted(Path(sys.executable))} -m pip"
    if scripts.is_relative_to(CLONE_FOLDER):
        scripts = scripts.relative_to(CLONE_FOLDER)
    return _quoted(scripts / "pip")


def _quoted(path: Path) -> str:
    return f'"{path}"' if " " in str(path) else str(path)
