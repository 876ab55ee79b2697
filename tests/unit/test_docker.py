"""The files in docker/ fit the program. No Docker engine is needed."""

import re
from pathlib import Path

import yaml

from avatar_stream.cli.main import main
from avatar_stream.settings import Settings

DOCKER_FOLDER = Path(__file__).parent.parent.parent / "docker"


def test_the_compose_file_uses_existing_flags_and_files(monkeypatch, capsys) -> None:  # type: ignore[no-untyped-def]
    services = yaml.safe_load((DOCKER_FOLDER / "compose.yaml").read_text())["services"]
    avatar, turn = services["avatar"], services["turn"]
    for flag in avatar["command"][1:]:
        assert flag.split("=")[0][2:].replace("-", "_") in Settings.__dataclass_fields__, flag
    assert (DOCKER_FOLDER / "cpu.Dockerfile").is_file()
    for service in services.values():
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            assert not source.startswith(".") or (DOCKER_FOLDER / source).is_file(), source
    # The relay may reach the server's address and no other private one.
    address = avatar["networks"]["inside"]["ipv4_address"]
    assert [x for x in turn["command"] if "allowed" in x] == [f"--allowed-peer-ip={address}"]
    assert not re.search(r"^allowed-peer-ip", (DOCKER_FOLDER / "turnserver.conf").read_text(), re.MULTILINE)
    # With its flags and an address that this machine lacks, the server gets as far as listening.
    monkeypatch.setenv("AVATAR_STREAM_TOKEN", "x" * 40)
    monkeypatch.setenv("AVATAR_STREAM_TURN_SECRET", "y" * 40)
    flags = [flag.replace("${DOMAIN:?say DOMAIN=your.domain}", "a.example").replace("${DOMAIN}", "a.example")
             for flag in avatar["command"]]  # fmt: skip
    flags[flags.index("--host=0.0.0.0")] = "--host=192.0.2.55"
    assert main([*flags, "--engine=warp"]) == 1
    assert "cannot listen" in capsys.readouterr().err
