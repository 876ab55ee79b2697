"""GStreamer's webrtcbin publishes and watches. It uses OpenSSL with an RSA certificate, and libnice for ICE."""

from pathlib import Path

import pytest

from tests.clients.conftest import MIN_PICTURES, count_pictures, finish, read_until, running_program, wait_until_ended
from tests.serving import RunningServer

CLIENT_SCRIPT = str(Path(__file__).parent / "webrtcbin.py")


@pytest.mark.parametrize("codec", ["VP8", "H264"])
async def test_gstreamer_publishes_and_watches(server: RunningServer, camera_pictures: Path, codec: str) -> None:
    name = f"gstreamer-{codec.lower()}"
    publish = (CLIENT_SCRIPT, "publish", f"{server.url}whip?session={name}", codec, str(camera_pictures))
    with running_program("/usr/bin/python3", *publish) as publisher:
        await count_pictures(server, name, publisher)
        with running_program("/usr/bin/python3", CLIENT_SCRIPT, "view", f"{server.url}whep/{name}", codec) as viewer:
            line = read_until(viewer, f"picture {MIN_PICTURES}")
            assert line.endswith("384 384\n"), line
            finish(viewer)
        finish(publisher)
    await wait_until_ended(server, name)
