"""GStreamer's webrtcbin publishes and watches. Its DTLS is OpenSSL with an RSA certificate, its ICE libnice."""

from pathlib import Path

import pytest

from tests.clients.conftest import ENOUGH, count_pictures, finish, gone, program, read_until
from tests.serving import RunningServer

CLIENT = str(Path(__file__).parent / "webrtcbin.py")


@pytest.mark.parametrize("codec", ["VP8", "H264"])
async def test_gstreamer_publishes_and_watches(server: RunningServer, camera_pictures: Path, codec: str) -> None:
    name = f"gstreamer-{codec.lower()}"
    publish = (CLIENT, "publish", f"{server.url}whip?session={name}", codec, str(camera_pictures))
    with program("/usr/bin/python3", *publish) as publisher:
        await count_pictures(server, name, publisher)
        with program("/usr/bin/python3", CLIENT, "view", f"{server.url}whep/{name}", codec) as viewer:
            said = read_until(viewer, f"picture {ENOUGH}")
            assert said.endswith("384 384\n"), said
            finish(viewer)
        finish(publisher)
    await gone(server, name)
