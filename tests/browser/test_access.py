"""The page with tokens and TURN servers, and with a server that crashes and restarts."""

from pathlib import Path
from typing import Any

import pytest

from tests.browser.conftest import FAKE_CAMERA, IN_SERVER_PROCESS, chromium, new_context
from tests.browser.test_loop import open_page, start
from tests.serving import RunningServer

pytestmark = pytest.mark.browser


def test_the_page_gets_its_turn_servers(browser: Any) -> None:
    secret = "a-token-of-more-than-twenty-characters"
    turn = ("--turn", "turn:127.0.0.1:9?transport=udp", "--turn", "stun:127.0.0.1:9")
    secrets = {"AVATAR_STREAM_TOKEN": secret, "AVATAR_STREAM_TURN_SECRET": "shared"}
    with RunningServer(*turn, *IN_SERVER_PROCESS, environment=secrets) as server:
        page = open_page(browser, server)
        page.click("#start")
        page.wait_for_selector("#token-form:not([hidden])")
        page.fill("#token", secret)
        page.click("#token-form button")
        servers = page.evaluate("import('/api.js').then((api) => api.iceServers('session'))")
        assert [one["urls"] for one in servers] == ["turn:127.0.0.1:9?transport=udp", "stun:127.0.0.1:9"]
        assert servers[0]["credential"]
        assert servers[0]["username"].endswith(":environment")


def test_the_page_asks_for_a_token_and_shares_a_link(
    playwright_driver: Any, camera_file: Path, tmp_path: Path
) -> None:
    secret = "a-token-of-more-than-twenty-characters"
    with (
        RunningServer(*IN_SERVER_PROCESS, environment={"AVATAR_STREAM_TOKEN": secret}) as guarded,
        chromium(playwright_driver, *FAKE_CAMERA, f"--use-file-for-fake-video-capture={camera_file}") as running,
    ):
        page = open_page(running, guarded)
        page.click("#start")
        page.wait_for_selector("#token-form:not([hidden])")
        assert "wants a token" in page.inner_text("#alert")
        page.screenshot(path=str(tmp_path / "token.png"))
        page.fill("#token", "not the one")
        page.click("#token-form button")
        page.click("#start")
        page.wait_for_selector("#token-form:not([hidden])")
        page.wait_for_selector("#alert:has-text('not known')")
        page.fill("#token", secret)
        page.click("#token-form button")
        start(page)
        page.click("#share")
        page.wait_for_selector("#link:not([hidden])")
        link = page.input_value("#link")
        # With the link alone one may watch, and nothing else.
        other = new_context(running)
        viewer = other.new_page()
        viewer.goto(link)
        viewer.wait_for_selector("body[data-state=live]")
        assert "#" not in viewer.url
        stranger = new_context(running).new_page()
        stranger.goto(link.split("#")[0])
        stranger.wait_for_selector("body[data-state=refused]")
        status = page.context.new_page()
        status.goto(guarded.url + "status#" + secret)
        status.wait_for_selector("#rows:has-text('live')")
        status.set_viewport_size({"width": 1000, "height": 420})
        status.screenshot(path=str(tmp_path / "status.png"))
        # Revoking a link disconnects its viewers; a new link works.
        page.screenshot(path=str(tmp_path / "links.png"), full_page=True)
        page.click("#revoke")
        viewer.wait_for_selector("body[data-state=refused]")
        page.wait_for_selector("#link", state="hidden")
        assert page.is_hidden("#revoke")
        page.click("#share")
        page.wait_for_selector("#link:not([hidden])")
        assert page.input_value("#link") != link
        assert page.faults == []
    assert not [line for line in guarded.stderr_lines if secret in line or "Traceback" in line]


def test_the_page_reconnects_after_a_crash_of_the_server(playwright_driver: Any, camera_file: Path) -> None:
    with (
        RunningServer(*IN_SERVER_PROCESS) as server,
        chromium(playwright_driver, *FAKE_CAMERA, f"--use-file-for-fake-video-capture={camera_file}") as running,
    ):
        page = open_page(running, server)
        start(page)
        # Kill the server, as a crash would.
        server.process.kill()
        page.wait_for_selector("body[data-state=reconnecting]")
        assert "Reconnecting" in page.inner_text("#alert")
        with RunningServer("--port", str(server.port), *IN_SERVER_PROCESS):
            page.wait_for_selector("body[data-state=live][data-playing]")
            page.wait_for_selector("#alert", state="hidden")
