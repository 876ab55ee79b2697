"""FFmpeg's WHIP client publishes. It uses GnuTLS, is the DTLS server, and has a certificate on P-224."""

import sys

import pytest

from tests.clients.conftest import count_pictures, finish, running_program, wait_until_ended
from tests.serving import RunningServer


@pytest.mark.parametrize(("profile", "more"), [("Baseline", []), ("High", ["sound"])])
async def test_ffmpeg_publishes(server: RunningServer, profile: str, more: list[str]) -> None:
    name = f"ffmpeg-{profile.lower()}"
    whip = f"{server.url}whip?session={name}"
    with running_program(sys.executable, "-m", "tests.clients.ffmpeg_publishes", whip, profile, *more) as ffmpeg:
        await count_pictures(server, name, ffmpeg)
        assert "pictures" in finish(ffmpeg)
    await wait_until_ended(server, name)
