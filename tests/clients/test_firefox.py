"""The demo page in Firefox ESR: publish, watch, change the portrait, privacy mode, stop."""

from collections.abc import Iterator

import pytest

from tests.clients.conftest import MIN_PICTURES, count_pictures, wait_until_ended
from tests.clients.firefox import Firefox
from tests.serving import RunningServer

IS_LIVE_JS = "document.querySelector('body[data-state=live][data-playing]') !== null"
IS_IDLE_JS = "document.querySelector('body[data-state=idle]') !== null"
# Whether the shown avatar has followed enough camera pictures, whose numbers are read from it.
FOLLOWS_CAMERA_JS = """(async () => {
  const video = document.getElementById('avatar') ?? document.querySelector('avatar-view').video;
  const small = document.createElement('canvas'); small.width = 240; small.height = 8;
  const context = small.getContext('2d', { willReadFrequently: true });
  const seen = new Set();
  for (let k = 0; k < 100 && seen.size < MIN_PICTURES; k += 1) {
    await new Promise((done) => setTimeout(done, 50));
    const strip = video.videoHeight / 16;
    if (!strip) continue;
    context.drawImage(video, 0, strip * 0.3, video.videoWidth, strip * 0.4, 0, 0, 240, 8);
    const pixels = context.getImageData(0, 0, 240, 8).data;
    let number = 0, ones = 0;
    for (let bit = 0; bit < 12; bit += 1) {
      const one = pixels[(4 * 240 + bit * 20 + 10) * 4] > 128;
      ones += one;
      if (one && bit < 11) number |= 1 << bit;
    }
    if (ones % 2 === 0) seen.add(number);
  }
  return seen.size >= MIN_PICTURES;
})()""".replace("MIN_PICTURES", str(MIN_PICTURES))


@pytest.fixture(scope="module")
def firefox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Firefox]:
    with Firefox(tmp_path_factory.mktemp("firefox")) as running:
        running.use_camera()
        yield running


AVATAR_PIXELS_JS = """(() => {
  const small = document.createElement('canvas'); small.width = small.height = 16;
  small.getContext('2d').drawImage(document.getElementById('avatar'), 0, 0, 16, 16);
  return [...small.getContext('2d').getImageData(0, 0, 16, 16).data];
})()"""
# Bytes and frames of video sent, and frames decoded.
VIDEO_STATS_JS = """(async () => {
  let sent = 0, decoded = 0;
  for (const pc of window.connections) for (const report of (await pc.getStats()).values()) {
    if (report.type === 'outbound-rtp' && report.kind === 'video') sent += report.bytesSent + report.framesEncoded;
    if (report.type === 'inbound-rtp' && report.kind === 'video') decoded += report.framesDecoded;
  }
  return [sent, decoded];
})()"""


def start(firefox: Firefox, server: RunningServer, private: bool = False) -> str:
    """Open the page and start a session; returns the page."""
    page = firefox.open(server.url)
    firefox.wait(page, "document.querySelector('.face input:checked') !== null")
    if private:
        firefox.run(page, "document.getElementById('private').click()")
    firefox.run(page, "document.getElementById('start').click()")
    firefox.wait(page, IS_LIVE_JS)
    return page


def stop(firefox: Firefox, page: str) -> None:
    """End the session with the page's button and check that the page had no errors."""
    firefox.run(page, "document.getElementById('stop').click()")
    firefox.wait(page, IS_IDLE_JS)
    assert firefox.run(page, "window.faults") == []


async def test_publish_watch_change_the_portrait_and_stop(firefox: Firefox, server: RunningServer) -> None:
    page = start(firefox, server)
    firefox.wait(page, FOLLOWS_CAMERA_JS)
    firefox.run(page, "document.getElementById('share').click()")
    link = firefox.wait(page, "!document.getElementById('link').hidden && document.getElementById('link').value")
    name = link.rsplit("/", 1)[1].split("#")[0]
    viewer = firefox.open(link)
    firefox.wait(viewer, "document.body.dataset.state === 'live'")
    firefox.wait(viewer, FOLLOWS_CAMERA_JS)
    await count_pictures(server, name)

    before = firefox.run(page, AVATAR_PIXELS_JS)
    firefox.run(page, "document.querySelector('input[value=walter]').click()")
    firefox.wait(
        page, f"{AVATAR_PIXELS_JS}.reduce((sum, level, k) => sum + Math.abs(level - {before}[k]), 0) / 768 > 6"
    )
    firefox.wait(page, FOLLOWS_CAMERA_JS)
    stop(firefox, page)
    await wait_until_ended(server, name)
    firefox.wait(viewer, "document.body.dataset.state === 'connecting'")


def test_privacy_mode_sends_no_picture(firefox: Firefox, server: RunningServer) -> None:
    page = start(firefox, server, private=True)
    firefox.wait(page, "/^[1-9]/.test(document.getElementById('sent').textContent)")  # kbit/s of the face
    _, before = firefox.run(page, VIDEO_STATS_JS)
    seen: set[tuple[int, ...]] = set()
    while len(seen) < 4:  # the avatar moves
        seen.add(tuple(firefox.run(page, AVATAR_PIXELS_JS)))
    firefox.wait(page, f"{VIDEO_STATS_JS}.then(([, decoded]) => decoded >= {before + MIN_PICTURES})")
    assert firefox.run(page, VIDEO_STATS_JS)[0] == 0
    stop(firefox, page)
