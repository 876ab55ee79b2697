"""The whole loop in Chromium: the camera is sent, the avatar is received and compared with the camera."""

import base64
import json
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from avatar_stream.face import geometry
from avatar_stream.face.tracker import FaceTracker
from tests.browser.camera import driver_frames
from tests.browser.conftest import chromium, new_context, wait_until_on, wait_until_true
from tests.serving import RunningServer
from tests.waiting import TEST_TIMEOUT, wait_until

pytestmark = pytest.mark.browser

PROBE_JS = (Path(__file__).parent / "probe.js").read_text()


def sessions(server: RunningServer) -> int:
    with urllib.request.urlopen(server.url + "healthz", timeout=TEST_TIMEOUT) as response:
        count: int = json.load(response)["sessions"]
        return count


def wait_for_sessions(server: RunningServer, wanted: int) -> None:
    wait_until(lambda: sessions(server) == wanted, f"the server had {wanted} sessions")


def open_page(browser: Any, server: RunningServer, **options: Any) -> Any:
    page = new_context(browser, viewport={"width": 1200, "height": 860}, **options).new_page()
    page.faults = []
    page.on("pageerror", lambda error: page.faults.append(str(error)))
    page.goto(server.url)
    page.wait_for_selector(".face input:checked", state="attached")
    return page


def start(page: Any) -> None:
    page.click("#start")
    page.wait_for_selector("body[data-state=live][data-playing]")


def decode(picture: str) -> npt.NDArray[np.uint8]:
    data = np.frombuffer(base64.b64decode(picture.split(",")[1]), np.uint8)
    image = cv2.imdecode(data, cv2.IMREAD_COLOR)
    assert image is not None
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB).astype(np.uint8)


def mouth_openings(pictures: list[npt.NDArray[np.uint8]]) -> npt.NDArray[np.float64]:
    tracker = FaceTracker(smooth=False)
    found = [tracker.update(picture, k / 25).landmarks for k, picture in enumerate(pictures)]
    tracker.close()
    return np.array([np.nan if face is None else geometry.mouth_opening(face) for face in found])


@pytest.mark.measures
def test_the_avatar_plays_and_follows_the_driver(
    browser: Any, server: RunningServer, record_property: Any, tmp_path: Path
) -> None:
    page = open_page(browser, server)
    began = time.monotonic()
    start(page)
    playing = time.monotonic() - began
    page.wait_for_timeout(6000)
    drawn = page.inner_text("#fps"), page.inner_text("#latency")
    memory = server.memory_mb()
    print(f"\nserver ready after {server.ready_after:.1f} s, avatar {playing:.1f} s after Start; {memory:.0f} MB")
    print(f"live, no probe: {drawn[0]} pictures drawn a second, delay on the page {drawn[1]}", flush=True)
    page.evaluate("window.keepPictures = 90")
    page.evaluate(PROBE_JS)
    wait_until_true(page, "window.probe.pictures.length > 55", "pictures of the avatar were kept")
    probe = page.evaluate("window.probe")
    page.screenshot(path=str(tmp_path / "live.png"))
    page.context.close()
    assert page.faults == []

    shown: dict[int, float] = {}
    delays, first_seen = [], []
    camera = iter(probe["camera"] + [[-1, float("inf")]])
    event = next(camera)
    previous = None
    for number, at in probe["avatar"]:
        while event[1] < at:
            shown[event[0]] = event[1]
            event = next(camera)
        if number != previous and number in shown:
            delays.append(at - shown[number])
            first_seen.append(at)
        previous = number
    fps = (len(first_seen) - 1) / (first_seen[-1] - first_seen[0]) * 1e3
    p50, p95 = np.percentile(delays, [50, 95])
    print(f"\nlive: {fps:.1f} new pictures/s, motion-to-photon p50 {p50:.0f} ms, p95 {p95:.0f} ms", flush=True)
    record_property("fps", round(fps, 1))
    record_property("motion_to_photon_p95_ms", round(p95))

    # In the received pixels, the avatar's mouth opens when the driver's does.
    pictures = [(number, decode(data)) for number, data in probe["pictures"]]
    assert len(pictures) > 40
    driver = mouth_openings(driver_frames())
    avatar = mouth_openings([picture for _, picture in pictures])
    wanted = np.array([driver[number] for number, _ in pictures])
    seen = np.isfinite(avatar) & np.isfinite(wanted)
    assert seen.mean() >= 0.95
    correlation = np.corrcoef(avatar[seen], wanted[seen])[0, 1]
    print(f"mouth opening, avatar against driver: r = {correlation:.2f}", flush=True)
    assert wanted[seen].std() > 0.01
    assert correlation > 0.75


def test_a_reload_ends_the_session(browser: Any, server: RunningServer) -> None:
    wait_for_sessions(server, 0)
    page = open_page(browser, server)
    start(page)
    assert sessions(server) == 1
    page.reload()
    wait_for_sessions(server, 0)
    start(page)
    assert sessions(server) == 1
    page.click("#stop")
    wait_for_sessions(server, 0)
    page.context.close()


def moves(colour: Callable[[], npt.NDArray[np.float64]]) -> bool:
    """Whether one picture differs from the next."""
    return bool(np.abs(colour() - colour()).mean() > 0)


def test_change_portrait_and_upload_while_live(browser: Any, server: RunningServer, tmp_path: Path) -> None:
    page = open_page(browser, server)
    start(page)

    def colour() -> npt.NDArray[np.float64]:
        script = """() => { const v = document.getElementById('avatar'), c = document.createElement('canvas');
            c.width = c.height = 64; c.getContext('2d').drawImage(v, 0, 0, 64, 64);
            return c.toDataURL('image/png'); }"""
        return decode(page.evaluate(script)).astype(np.float64)

    wait_until_on(page, lambda: moves(colour), "the avatar moved")
    before = colour()
    faces = page.locator(".face input")
    assert faces.count() >= 4
    faces.nth(2).check(force=True)
    wait_until_on(page, lambda: np.abs(colour() - before).mean() > 6, "another portrait was shown")
    # A file that is not a picture gives an error message, and the stream goes on.
    text = tmp_path / "notes.png"
    text.write_text("this is no picture")
    page.set_input_files("#file", str(text))
    page.wait_for_selector("#alert:not([hidden])")
    assert "JPEG" in page.inner_text("#alert")
    assert page.get_attribute("body", "data-state") == "live"
    # The controls work from the keyboard.
    page.keyboard.press("m")
    assert page.get_attribute("#mirror", "aria-pressed") == "false"
    page.keyboard.press("n")
    page.keyboard.press("s")
    page.wait_for_selector("body[data-state=idle]")
    wait_for_sessions(server, 0)
    assert page.faults == []
    page.context.close()


def test_viewers_watch_with_a_link(browser: Any, server: RunningServer, tmp_path: Path) -> None:
    page = open_page(browser, server, permissions=["camera", "microphone", "clipboard-write"])
    start(page)
    page.click("#speak")
    page.wait_for_selector("#speak[aria-pressed=true]")
    page.click("#share")
    page.wait_for_selector("#link:not([hidden])")
    link = page.input_value("#link")
    assert link.startswith(f"{server.url}view/")
    assert page.is_hidden("#revoke")  # without tokens anyone may watch
    viewer = page.context.new_page()
    viewer.goto(link)
    viewer.wait_for_selector("body[data-state=live]")
    wait_until_true(
        viewer, "document.querySelector('avatar-view').video.videoWidth > 0", "the viewer showed the avatar"
    )
    viewer.screenshot(path=str(tmp_path / "view.png"))
    kinds = viewer.evaluate(
        "document.querySelector('avatar-view').video.srcObject.getTracks().map((t) => t.kind).sort()"
    )
    assert kinds == ["audio", "video"]
    assert viewer.evaluate("document.querySelector('avatar-view').video.videoWidth") == 384
    page.wait_for_selector("#viewers:text-is('1')")
    # The driver leaves: the viewer's page says so and waits for the next session of that name.
    page.click("#stop")
    viewer.wait_for_selector("body[data-state=connecting]")
    viewer.wait_for_selector(".sentence:has-text('Nobody')")
    page.context.close()
    wait_for_sessions(server, 0)
    assert page.faults == []


def test_the_page_says_that_the_server_is_full(browser: Any, server: RunningServer) -> None:
    pages = [open_page(browser, server) for _ in range(2)]
    for page in pages:
        start(page)
    third = open_page(browser, server)
    third.click("#start")
    third.wait_for_selector("#alert:not([hidden])")
    assert "places are taken" in third.inner_text("#alert")
    for page in [*pages, third]:
        page.context.close()
    wait_for_sessions(server, 0)


def test_the_page_says_that_the_camera_was_refused(playwright_driver: Any, server: RunningServer) -> None:
    with chromium(playwright_driver, "--use-fake-device-for-media-stream", "--deny-permission-prompts") as running:
        page = open_page(running, server)
        page.click("#start")
        page.wait_for_selector("#alert:not([hidden])")
        assert "refused" in page.inner_text("#alert")
        assert page.get_attribute("body", "data-state") == "idle"


def test_the_page_says_that_there_is_no_camera(playwright_driver: Any, server: RunningServer) -> None:
    with chromium(playwright_driver, "--use-fake-ui-for-media-stream") as running:
        page = open_page(running, server)
        page.click("#start")
        page.wait_for_selector("#alert:not([hidden])")
        assert "No camera" in page.inner_text("#alert")


def test_the_page_fits_a_phones_screen(browser: Any, server: RunningServer) -> None:
    page = open_page(browser, server, device_scale_factor=2)
    page.set_viewport_size({"width": 375, "height": 740})
    overflow = page.evaluate("document.documentElement.scrollWidth - innerWidth")
    assert overflow <= 0
    box = page.locator("#start").bounding_box()
    assert box
    assert box["y"] + box["height"] < 740
    page.context.close()
