import importlib.util
from pathlib import Path

import pytest

from avatar_stream.cli.main import main
from avatar_stream.settings import Settings

SCRIPT = Path(__file__).parent.parent.parent / "scripts" / "settings_page.py"


def test_the_settings_page_is_the_settings() -> None:
    spec = importlib.util.spec_from_file_location("settings_page", SCRIPT)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.PAGE.read_text() == module.page(), "run python scripts/settings_page.py"


def test_every_setting_is_a_flag(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["serve", "--help"])
    said = capsys.readouterr().out
    for name in Settings.__dataclass_fields__:
        assert f"--{name.replace('_', '-')}" in said


@pytest.mark.parametrize(
    "flags", [["--port", "99999"], ["--size", "129"], ["--drain", "soon"], ["--drain", "-1"], ["--log", "xml"]]
)
def test_values_out_of_range_are_refused(flags: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["serve", *flags])
    assert stopped.value.code == 2
    assert flags[0] in capsys.readouterr().err


def test_private_addresses_are_for_loopback_servers() -> None:
    assert Settings().private_allowed
    assert not Settings(host="0.0.0.0").private_allowed
    assert Settings(host="0.0.0.0", allow_private=True).private_allowed
