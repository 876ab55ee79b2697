"""Write docs/settings.md from the settings themselves: ``python scripts/settings_page.py``."""

from dataclasses import fields
from pathlib import Path

from avatar_stream.settings import Settings

PAGE = Path(__file__).parent.parent / "docs" / "settings.md"


def page() -> str:
    """The page as it must be."""
    lines = [
        "# Settings of `avatar-stream serve`",
        "",
        "Made by `python scripts/settings_page.py` from `avatar_stream/settings.py`. Every limit is checked before",
        "what it limits is parsed. The environment may bring two secrets: `AVATAR_STREAM_TOKEN`, a token with all",
        "scopes, and `AVATAR_STREAM_TURN_SECRET`.",
    ]
    group = None
    for one in fields(Settings):
        if one.metadata["group"] != group:
            group = one.metadata["group"]
            lines += ["", f"## {group[0].upper()}{group[1:]}", "", "| flag | default | what |", "| --- | --- | --- |"]
        default: object = one.default
        if isinstance(default, bool):
            default = "on" if default else "off"
        elif isinstance(default, tuple) or default == "":
            default = "none"
        elif one.name == "threads":
            default = "half of the processors, 2 at most"
        elif one.name == "processes":
            default = "as many as processors, 0 where there is one"
        lines.append(f"| `--{one.name.replace('_', '-')}` | {default} | {one.metadata['what']} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page())
