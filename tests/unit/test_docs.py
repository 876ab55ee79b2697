"""What the documents tell people to type is understood by the command."""

import re
import shlex
from pathlib import Path

import pytest

from avatar_stream.cli import _parser

ROOT = Path(__file__).parent.parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), ROOT / "examples" / "README.md"]
COMMAND = re.compile(r"(?:^|`)((?:\.venv/bin/)?avatar-stream [^`\n|]+)(?:`|$)", re.MULTILINE)


def commands() -> list[tuple[str, str]]:
    """(page, command) of every whole command in the documents."""
    joined = {str(page.relative_to(ROOT)): page.read_text().replace("\\\n", " ") for page in PAGES}
    return [
        (name, found.strip()) for name, text in joined.items() for found in COMMAND.findall(text) if "…" not in found
    ]


def test_there_are_commands_to_check() -> None:
    said = {command.split()[1] for _, command in commands()}
    assert {"serve", "render", "camera", "record-motion", "bench", "doctor"} <= said


@pytest.mark.parametrize(("page", "command"), commands())
def test_a_documented_command_is_understood(page: str, command: str) -> None:
    words = shlex.split(command.split("#")[0])[1:]
    try:
        _parser().parse_args(words)
    except SystemExit as error:
        if error.code:  # --help ends with 0
            pytest.fail(f"{page}: {command} ends with status {error.code}")


def test_every_link_between_documents_leads_somewhere() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\((?!https?:|#|mailto:)([^)#\s]+)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"
