"""Writes docs/settings.md from the settings' definitions: ``python scripts/settings_page.py``."""

from pathlib import Path

from avatar_stream.settings import settings_schema

PAGE = Path(__file__).parent.parent / "docs" / "settings.md"
INTRODUCTION = """# Settings of `avatar-stream serve`

`python scripts/settings_page.py` makes this page from `avatar_stream/settings.py`. There are three ways to give a
setting; where it is given twice, the first of these counts:

1. a flag: `avatar-stream serve --port 9000`
2. the environment: `AVATAR_STREAM_PORT=9000`; several values of one setting are separated by commas
3. a TOML file, `serve --settings FILE`: a line such as `port = 9000`, with `_` in names

An unknown name or a value out of range stops the server with one line. Two secrets come from the environment only:
`AVATAR_STREAM_TOKEN`, a token with all scopes, and `AVATAR_STREAM_TURN_SECRET`. The server checks every limit before
it parses what the limit is for."""
SAID = {"threads": "half of the processors, 2 at most", "processes": "as many as processors, 0 where there is one"}


def page() -> str:
    """The text of the page."""
    lines = [INTRODUCTION]
    group = None
    for name, schema in settings_schema().items():
        if schema["group"] != group:
            group = schema["group"]
            lines += [
                "",
                f"## {group[0].upper()}{group[1:]}",
                "",
                "| flag | default | range | what |",
                "| --- | --- | --- | --- |",
            ]
        default = schema["default"]
        if isinstance(default, bool):
            default = "on" if default else "off"
        elif default in ("", []):
            default = "none"
        allowed = (
            f"{schema['minimum']:g} to {schema['maximum']:g}"
            if "minimum" in schema
            else ", ".join(schema.get("enum", []))
        )
        lines.append(
            f"| `--{name.replace('_', '-')}` | {SAID.get(name, default)} | {allowed} | {schema['description']} |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page())
