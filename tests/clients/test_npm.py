"""WHIP and WHEP clients from npm (whip-whep, Eyevinn's), in Chromium, on a page of another origin."""

import http.server
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.browser.camera import driver_frames, write_camera
from tests.browser.conftest import FAKE_CAMERA, chromium
from tests.clients.conftest import MIN_PICTURES, count_pictures, run_in_thread, wait_until_ended
from tests.serving import RunningServer
from tests.waiting import TEST_TIMEOUT

NPM_FOLDER = Path(__file__).parent / "npm"
BUILD_FOLDER = Path(__file__).parents[2] / "build" / "clients"
TIMEOUT_MS = TEST_TIMEOUT * 1000

PUBLISH_JS = {
    "whip-whep": """async ([url]) => {
      const camera = await navigator.mediaDevices.getUserMedia({ video: true, audio: true });
      const pc = new RTCPeerConnection();
      for (const track of camera.getTracks()) pc.addTransceiver(track, { direction: 'sendonly', streams: [camera] });
      const client = new clients.WHIPClient();
      await client.publish(pc, url);
      window.stop = () => client.stop();
    }""",
    "eyevinn": """async ([url]) => {
      const camera = await navigator.mediaDevices.getUserMedia({ video: true, audio: true });
      const client = new clients.EyevinnPublisher({ endpoint: url, opts: {} });
      await client.setIceServersFromEndpoint();
      await client.ingest(camera);
      window.stop = () => client.destroy();
    }""",
}
WATCH_JS = {
    "whip-whep": """async ([url]) => {
      const video = document.querySelector('video');
      const pc = new RTCPeerConnection();
      pc.addTransceiver('audio', { direction: 'recvonly' });
      pc.addTransceiver('video', { direction: 'recvonly' });
      pc.ontrack = ({ track, streams }) => { if (track.kind === 'video') video.srcObject = streams[0]; };
      const client = new clients.WHEPClient();
      await client.view(pc, url);
      window.leave = () => client.stop();
    }""",
    "eyevinn": """async ([url]) => {
      const player = new clients.WebRTCPlayer({ video: document.querySelector('video'), type: 'whep' });
      await player.load(new URL(url));
      window.leave = () => player.unload();
    }""",
}
HAS_PICTURES_JS = f"""() => {{
  const video = document.querySelector('video');
  const enough = video.getVideoPlaybackQuality().totalVideoFrames >= {MIN_PICTURES};
  return video.videoWidth > 0 && enough && video.videoWidth;
}}"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a page with the clients, which are installed once, from their lock file."""
    npm = shutil.which("npm")
    assert npm, "no npm found: scripts/setup.sh clients"
    BUILD_FOLDER.mkdir(parents=True, exist_ok=True)
    lock = (NPM_FOLDER / "package-lock.json").read_text()
    installed = BUILD_FOLDER / "node_modules" / ".installed"
    if not installed.exists() or installed.read_text() != lock:
        for name in ("package.json", "package-lock.json"):
            shutil.copy(NPM_FOLDER / name, BUILD_FOLDER)
        command = [npm, "ci", "--no-audit", "--no-fund", "--ignore-scripts"]
        subprocess.run(command, cwd=BUILD_FOLDER, check=True, capture_output=True, timeout=2 * TEST_TIMEOUT)
        installed.write_text(lock)
    folder = tmp_path_factory.mktemp("site")
    shutil.copy(NPM_FOLDER / "clients.js", BUILD_FOLDER)
    bundle = ["--bundle", "--format=iife", "--global-name=clients", f"--outfile={folder / 'bundle.js'}"]
    subprocess.run(
        [BUILD_FOLDER / "node_modules/.bin/esbuild", "clients.js", *bundle],
        cwd=BUILD_FOLDER,
        check=True,
        capture_output=True,
    )
    page = "<!doctype html><video autoplay muted playsinline></video><script src=bundle.js></script>"
    (folder / "index.html").write_text(page)

    class Site(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *given: Any) -> None:
            super().__init__(*given, directory=str(folder))

        def log_message(self, *given: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Site) as served:
        threading.Thread(target=served.serve_forever, daemon=True).start()
        yield f"http://localhost:{served.server_port}"
        served.shutdown()


@pytest.fixture(scope="module")
def open_server(site: str) -> Iterator[RunningServer]:
    """A server that allows the page's origin."""
    flags = ("--engine", "warp", "--processes", "0", "--sessions", "4", "--allow-origin", site)
    with RunningServer(*flags, marks=True) as server:
        yield server
        assert not [line for line in server.stderr_lines if "Traceback" in line], server.output


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    path = tmp_path_factory.mktemp("camera") / "driver.mjpeg"
    write_camera(path, driver_frames())
    flags = (*FAKE_CAMERA, f"--use-file-for-fake-video-capture={path}")
    with sync_playwright() as driver, chromium(driver, *flags) as running:
        yield running


@pytest.mark.parametrize("kind", PUBLISH_JS)
def test_clients_from_npm_publish_and_watch(browser: Any, site: str, open_server: RunningServer, kind: str) -> None:
    context = browser.new_context()
    context.set_default_timeout(TIMEOUT_MS)
    console: list[str] = []
    publisher, viewer = context.new_page(), context.new_page()
    try:
        for page in (publisher, viewer):
            page.on("console", lambda message: console.append(message.text))
            page.goto(site)
        publisher.evaluate(PUBLISH_JS[kind], [f"{open_server.url}whip?session=npm-{kind}"])
        run_in_thread(count_pictures(open_server, f"npm-{kind}"))
        viewer.evaluate(WATCH_JS[kind], [f"{open_server.url}whep/npm-{kind}"])
        assert viewer.wait_for_function(HAS_PICTURES_JS, timeout=TIMEOUT_MS).json_value() == 384
        viewer.evaluate("leave()")
        publisher.evaluate("stop()")
        run_in_thread(wait_until_ended(open_server, f"npm-{kind}"))
    except BaseException:
        print("\n".join(console))
        raise
    finally:
        context.close()


WATCH_EACH_H264_JS = """async ([url]) => {
  const kinds = RTCRtpReceiver.getCapabilities('video').codecs.filter(({ mimeType }) => mimeType === 'video/H264');
  const seen = {};
  for (const kind of kinds) {
    const pc = new RTCPeerConnection();
    const transceiver = pc.addTransceiver('video', { direction: 'recvonly' });
    transceiver.setCodecPreferences([kind]);
    const client = new clients.WHEPClient();
    await client.view(pc, url);
    for (let k = 0; k < 1200 && !(seen[kind.sdpFmtpLine] >= 3); k += 1) {
      await new Promise((done) => setTimeout(done, 50));
      for (const report of (await pc.getStats()).values()) {
        if (report.type === 'inbound-rtp') seen[kind.sdpFmtpLine] = report.framesDecoded;
      }
    }
    await client.stop();
  }
  return seen;
}"""


def test_chromium_plays_every_h264_that_it_offers(browser: Any, site: str, open_server: RunningServer) -> None:
    """Each profile and packetization mode is offered alone."""
    context = browser.new_context()
    context.set_default_timeout(TIMEOUT_MS)
    try:
        publisher, viewer = context.new_page(), context.new_page()
        publisher.goto(site)
        viewer.goto(site)
        publisher.evaluate(PUBLISH_JS["whip-whep"], [f"{open_server.url}whip?session=npm-h264"])
        seen = viewer.evaluate(WATCH_EACH_H264_JS, [f"{open_server.url}whep/npm-h264"])
        assert len(seen) >= 4, seen
        assert {line[line.index("packetization-mode") :][:20] for line in seen} == {
            "packetization-mode=0",
            "packetization-mode=1",
        }
        assert all(decoded >= 3 for decoded in seen.values()), seen
    finally:
        context.close()
