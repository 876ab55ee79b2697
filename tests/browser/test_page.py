"""The page with different screens, languages and needs: layout, accessibility, texts, embedding, recording."""

import contextlib
import http.server
import threading
from pathlib import Path
from typing import Any

import av
import pytest
from axe_playwright_python.sync_playwright import Axe

from avatar_stream.identity.library import sample_pictures
from tests.browser.conftest import FAKE_CAMERA, IN_SERVER_PROCESS, chromium, wait_until_on, wait_until_true
from tests.browser.test_loop import open_page, start
from tests.serving import RunningServer

pytestmark = pytest.mark.browser
SCREEN_SIZES = [(390, 844), (1280, 860), (1920, 1080)]


@pytest.mark.parametrize("scheme", ["dark", "light"])
def test_axe_finds_no_accessibility_violations(browser: Any, server: RunningServer, scheme: str) -> None:
    page = open_page(browser, server, color_scheme=scheme)
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()
    start(page)
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()
    page.context.close()


@pytest.mark.parametrize(("width", "height"), SCREEN_SIZES)
def test_nothing_overlaps_and_everything_is_visible(
    browser: Any, server: RunningServer, width: int, height: int
) -> None:
    page = open_page(browser, server)
    page.set_viewport_size({"width": width, "height": height})
    start(page)
    wait_until_true(page, "parseFloat(document.getElementById('fps').textContent) > 0", "the avatar was drawn")
    # In one script: the next status, at most half a second later, hides it again.
    boxes = page.evaluate("""() => {
      const simpler = document.getElementById('simpler');
      Object.assign(simpler, { hidden: false, textContent: 'plain: the server is very busy' });
      return Object.fromEntries(['#self', '.numbers', '.label', '#simpler'].map((name) => {
        const { x, y, width, height } = document.querySelector(name).getBoundingClientRect();
        return [name, { x, y, width, height }];
      }));
    }""")
    names = list(boxes)
    for k, one in enumerate(names):
        for other in names[k + 1 :]:
            assert are_apart(boxes[one], boxes[other]), f"{one} lies over {other} at {width}"
    faces = [face.bounding_box() for face in page.locator(".face").all()]
    assert len(faces) == len(sample_pictures())
    assert all(box["x"] >= 0 and box["x"] + box["width"] <= width for box in faces)
    assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
    page.context.close()


def are_apart(a: Any, b: Any) -> bool:
    return bool(
        a["x"] + a["width"] <= b["x"]
        or b["x"] + b["width"] <= a["x"]
        or a["y"] + a["height"] <= b["y"]
        or b["y"] + b["height"] <= a["y"]
    )


def test_the_browsers_language_is_used_and_a_chosen_one_is_kept(browser: Any, server: RunningServer) -> None:
    page = open_page(browser, server, locale="zh-CN")
    assert page.inner_text("#start") == "用我的摄像头开始"
    assert page.get_attribute("html", "lang") == "zh-Hans"
    page.click("#language")
    assert page.inner_text("#start") == "Start with my camera"
    page.reload()
    page.wait_for_selector(".face")
    assert page.inner_text("#start") == "Start with my camera"
    assert page.evaluate("[...document.querySelectorAll('[data-t]')].every((e) => e.textContent.length > 0)")
    page.context.close()


def test_every_text_exists_in_both_languages(browser: Any, server: RunningServer) -> None:
    page = open_page(browser, server)
    missing = page.evaluate(
        """async () => {
          const text = await (await fetch('words.js')).text();
          const keys = [...text.matchAll(/(\\w+): (?:'|\\")/g)].map(([, key]) => key);
          const counts = {};
          for (const key of keys) counts[key] = (counts[key] ?? 0) + 1;
          return Object.entries(counts).filter(([, count]) => count !== 2).map(([key]) => key);
        }"""
    )
    assert missing == []
    page.context.close()


def test_the_page_remembers_the_last_portrait(browser: Any, server: RunningServer) -> None:
    page = open_page(browser, server)
    page.check("input[value=walter]", force=True)
    page.reload()
    page.wait_for_selector(".face")
    assert page.is_checked("input[value=walter]")
    assert page.locator("[data-own]").count() == 0
    page.set_input_files("#file", str(sample_pictures()["felix"]))
    page.wait_for_selector("[data-own] input:checked", state="attached")
    page.reload()
    page.wait_for_selector("[data-own]")
    assert page.inner_text("[data-own]").strip() == "Yours, last time"
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.method) if "identities" in request.url else None)
    assert "POST" not in asked  # the picture is not uploaded until it is chosen
    page.check("[data-own] input", force=True)
    page.wait_for_selector("[data-own] input[value^=u-]:checked", state="attached")
    assert "POST" in asked
    page.context.close()


def test_an_avatar_embedded_on_another_site(playwright_driver: Any, camera_file: Path, tmp_path: Path) -> None:
    example = Path(__file__).parent.parent.parent / "examples" / "embed.html"

    class Site(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *given: Any) -> None:
            super().__init__(*given, directory=str(tmp_path))

        def log_message(self, *given: Any) -> None:
            pass

    site = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Site)
    threading.Thread(target=site.serve_forever, daemon=True).start()
    origin = f"http://localhost:{site.server_port}"
    with (
        contextlib.closing(site.socket),
        RunningServer("--engine", "warp", "--allow-origin", origin, *IN_SERVER_PROCESS, marks=True) as server,
        RunningServer("--engine", "warp", *IN_SERVER_PROCESS) as stranger,
        chromium(playwright_driver, *FAKE_CAMERA, f"--use-file-for-fake-video-capture={camera_file}") as running,
    ):
        page = open_page(running, server)
        start(page)
        page.click("#share")
        page.wait_for_selector("#link:not([hidden])")
        name = page.input_value("#link").rsplit("/", 1)[-1].split("#")[0]
        text = example.read_text().replace("studio", name)
        (tmp_path / "index.html").write_text(text.replace("http://localhost:8080/", server.url))
        (tmp_path / "other.html").write_text(text.replace("http://localhost:8080/", stranger.url))
        viewer = page.context.new_page()
        viewer.goto(f"{origin}/index.html")
        viewer.wait_for_selector("avatar-view[state=live]")
        wait_until_true(
            viewer, "document.querySelector('avatar-view').video.videoWidth == 384", "the avatar was there"
        )
        assert viewer.inner_text("avatar-view .label").upper() == "AI-GENERATED"
        viewer.evaluate("document.querySelector('avatar-view').remove()")
        page.wait_for_selector("#watched[hidden]", state="attached")
        # A server that does not allow this origin refuses.
        with viewer.expect_event("requestfailed"):
            viewer.goto(f"{origin}/other.html")
        assert viewer.evaluate("customElements.get('avatar-view') === undefined")
        site.shutdown()


def test_a_recording_is_a_video_with_the_ai_label(browser: Any, server: RunningServer, tmp_path: Path) -> None:
    page = open_page(browser, server)
    start(page)
    page.click("#record")
    assert page.get_attribute("#record", "aria-pressed") == "true"
    shown = "document.getElementById('avatar').getVideoPlaybackQuality().totalVideoFrames"
    wait_until_true(page, f"{shown} > {page.evaluate(shown) + 50}", "50 more pictures were shown")
    with page.expect_download() as saved:
        page.click("#record")
    path = tmp_path / saved.value.suggested_filename
    saved.value.save_as(path)
    assert path.name.startswith("avatar-")
    with av.open(str(path)) as video:
        pictures = [frame.to_ndarray(format="rgb24") for frame in video.decode(video=0)]
    assert len(pictures) > 5
    height = pictures[-1].shape[0]
    corner = pictures[-1][: height // 8, : height // 3]
    assert (corner.min(2) > 215).any()  # the label's letters
    assert page.get_attribute("#record", "aria-pressed") == "false"
    page.context.close()


IS_TRANSPARENT_JS = """() => {
  const view = document.querySelector('avatar-view').shadowRoot.querySelector('canvas');
  const small = document.createElement('canvas'); small.width = small.height = 64;
  small.getContext('2d').drawImage(view, 0, 0, 64, 64);
  const alpha = small.getContext('2d').getImageData(0, 0, 64, 64).data.filter((_, k) => k % 4 === 3);
  const [corner, other, face] = [alpha[8 * 64 + 2], alpha[8 * 64 + 61], alpha[30 * 64 + 32]]; // below the number
  return corner < 8 && other < 8 && face > 247;
}"""


def test_a_green_background_is_transparent_in_obs(browser: Any, server: RunningServer, tmp_path: Path) -> None:
    page = open_page(browser, server)
    start(page)
    page.select_option("#background", "#00ff00")
    page.click("#share")
    page.wait_for_selector("#link:not([hidden])")
    viewer = page.context.new_page()
    viewer.goto(page.input_value("#link") + "?transparent")
    viewer.wait_for_selector("body[data-state=live]")
    wait_until_true(viewer, IS_TRANSPARENT_JS, "the avatar's background was transparent")
    viewer.screenshot(path=str(tmp_path / "transparent.png"), omit_background=True)
    page.context.close()


def test_expression_controls_are_sent_to_the_server(browser: Any, server: RunningServer) -> None:
    page = open_page(browser, server)
    sent: list[str] = []
    page.on("websocket", lambda socket: socket.on("framesent", lambda text: sent.append(str(text))))
    start(page)
    page.check("input[name=hold][value=gaze]")
    page.check("input[name=hold][value=mouth]")
    wanted = '{"type":"expression","value":{"hold":["gaze","mouth"],"gains":{}}}'
    wait_until_on(page, lambda: wanted in sent, "both holds were sent")
    page.click("summary")
    page.fill("#region-head", "0.5")
    half = '{"type":"expression","value":{"hold":["gaze","mouth"],"gains":{"head":0.5}}}'
    wait_until_on(page, lambda: half in sent, "the gain was sent")
    assert page.is_hidden("#alert")
    page.context.close()


def test_the_setup_check_passes(browser: Any, server: RunningServer, tmp_path: Path) -> None:
    page = open_page(browser, server)
    page.click("#check-all")
    page.wait_for_selector("#checked:has-text('as it should be')")
    page.screenshot(path=str(tmp_path / "check.png"))
    results = {item.inner_text(): item.get_attribute("data-ok") for item in page.locator("#checks li").all()}
    assert len(results) == 6
    assert "false" not in results.values(), results
    assert Axe().run(page).violations_count == 0
    page.click("#check button")
    assert not page.is_visible("#check")
    assert page.faults == []
    page.context.close()


def test_the_setup_check_reports_a_missing_camera(playwright_driver: Any, server: RunningServer) -> None:
    with chromium(playwright_driver) as running:
        page = open_page(running, server)
        page.click("#check-all")
        page.wait_for_selector("#checked:has-text('put right')")
        found = page.locator('#checks li[data-ok="false"]').all_inner_texts()
        assert any("No camera was found" in text for text in found), found


def test_the_guide_leads_through_the_first_session(browser: Any, server: RunningServer) -> None:
    page = open_page(browser, server)
    assert "choose who" in page.inner_text("#guide")
    page.click(".face:nth-child(2)")
    assert "start" in page.inner_text("#guide")
    start(page)
    page.wait_for_selector("#guide:text('it does what you do')")
    page.wait_for_selector("#guide", state="hidden")
    page.reload()
    page.wait_for_selector(".face input:checked", state="attached")
    assert page.is_hidden("#guide")
    page.context.close()
