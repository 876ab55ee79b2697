import importlib.util
import pickle
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from avatar_stream.cli.main import main
from avatar_stream.errors import BadInput
from avatar_stream.settings import Settings, load_settings

SCRIPT = Path(__file__).parent.parent.parent / "scripts" / "settings_page.py"


def test_the_settings_page_is_up_to_date() -> None:
    spec = importlib.util.spec_from_file_location("settings_page", SCRIPT)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.PAGE.read_text() == module.page(), "run python scripts/settings_page.py"


def test_every_setting_is_a_flag(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["serve", "--help"])
    output = capsys.readouterr().out
    for name in Settings.__dataclass_fields__:
        assert f"--{name.replace('_', '-')}" in output


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--port", "99999"], "--port: a whole number from 0 to 65535"),
        (["--size", "129"], "--size: an even number from 128 to 2048"),
        (["--drain", "soon"], "--drain: a number from 0 to 3600"),
        (["--drain", "-1"], "--drain: a number from 0 to 3600"),
        (["--fps", "24.5"], "--fps: a whole number from 1 to 60"),
        (["--body-timeout", "nan"], "--body-timeout: a number from 0.1 to 600"),
    ],
)
def test_flags_out_of_range_are_refused(flags: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", *flags]) == 2
    assert message in capsys.readouterr().err


def test_an_unknown_choice_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["serve", "--log", "xml"])
    assert stopped.value.code == 2
    assert "--log" in capsys.readouterr().err


@pytest.mark.parametrize(
    "wrong",
    [{"fps": 0}, {"fps": "many"}, {"size": 129}, {"engine": "steam"}, {"log": "xml"}, {"ports": 1}, {"drain": -1}],
)
def test_invalid_settings_raise(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        Settings(**wrong)
    with pytest.raises(ValidationError):
        replace(Settings(), **wrong)


def test_flags_override_the_environment_which_overrides_the_file(tmp_path: Path) -> None:
    file = tmp_path / "settings.toml"
    file.write_text('port = 1000\nfps = 20\nlabel = "made"\nallow_host = ["one", "two"]\nwatermark = false\n')
    environment = {"AVATAR_STREAM_FPS": "30", "AVATAR_STREAM_TURN": "turn:a, turn:b", "AVATAR_STREAM_PORT": "2000"}
    secrets = {"AVATAR_STREAM_TOKEN": "x" * 30, "HOME": "/"}
    settings = load_settings({"port": 3000}, environment | secrets, file)
    assert (settings.port, settings.fps, settings.label) == (3000, 30, "made")
    assert (settings.allow_host, settings.turn) == (("one", "two"), ("turn:a", "turn:b"))
    assert not settings.watermark
    assert settings == replace(Settings(), **{f.name: getattr(settings, f.name) for f in fields(Settings)})


@pytest.mark.parametrize(
    ("text", "environment", "message"),
    [
        ("prot = 1", {}, "prot in .*settings.toml is no setting: is it port?"),
        ("port = [", {}, "is no TOML file"),
        ("port = true", {}, "port in .*: a whole number from 0 to 65535"),
        ("", {"AVATAR_STREAM_FPSS": "1"}, "AVATAR_STREAM_FPSS is no setting: is it fps?"),
        ("", {"AVATAR_STREAM_FPS": "0"}, "AVATAR_STREAM_FPS: a whole number from 1 to 60"),
        ("", {"AVATAR_STREAM_FRAME_MARKS": "perhaps"}, "AVATAR_STREAM_FRAME_MARKS: "),
        ("engine = 'steam'", {}, "engine in .*: one of auto, "),
    ],
)
def test_an_invalid_setting_is_named_with_its_source(
    text: str, environment: dict[str, str], message: str, tmp_path: Path
) -> None:
    file = tmp_path / "settings.toml"
    file.write_text(text)
    with pytest.raises(BadInput, match=message.replace("?", r"\?")):
        load_settings({}, environment, file)


def test_a_missing_settings_file_is_reported_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", "--settings", str(tmp_path / "none.toml")]) == 2
    assert "cannot read" in capsys.readouterr().err


def test_settings_can_be_pickled() -> None:
    settings = Settings(port=1234, turn=("turn:a",))
    assert pickle.loads(pickle.dumps(settings)) == settings


def test_private_addresses_are_allowed_on_loopback_servers_only() -> None:
    assert Settings().private_allowed
    assert not Settings(host="0.0.0.0").private_allowed
    assert Settings(host="0.0.0.0", allow_private=True).private_allowed
