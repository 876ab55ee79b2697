"""Characters on the page: enrol with consent, card, settings, rename, remove."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe

from avatar_stream.identity.library import sample_pictures
from tests.browser.conftest import wait_until_true
from tests.browser.test_loop import open_page, start
from tests.serving import RunningServer


@pytest.fixture
def library_server(tmp_path: Path) -> Iterator[RunningServer]:
    """A server with its own library."""
    with RunningServer("--library", str(tmp_path / "library")) as running:
        yield running
    assert not [line for line in running.stderr_lines if "Traceback" in line], "".join(running.stderr_lines)


def own_picture(folder: Path) -> Path:
    """A picture that is not a sample: a mirrored sample."""
    picture = cv2.imread(str(sample_pictures()["mateo"]))
    path = folder / "me.jpg"
    cv2.imwrite(str(path), np.ascontiguousarray(picture[:, ::-1]))
    return path


def test_a_character_is_enrolled_shown_changed_and_removed(
    browser: Any, library_server: RunningServer, tmp_path: Path
) -> None:
    page = open_page(browser, library_server)
    assert page.is_hidden("#keep-person")
    page.set_input_files("#file", str(own_picture(tmp_path)))
    page.wait_for_selector("#keep-person:not([hidden])")
    page.click("#keep-person")
    page.fill("#enrol-name", "Mateo's twin")
    page.screenshot(path=str(tmp_path / "enrol.png"))
    assert Axe().run(page).violations_count == 0
    # Without a consent statement nothing is sent.
    page.click("#enrol-send")
    assert page.is_visible("#enrol")
    page.fill("#enrol-consent", "An average of two dozen people")
    page.select_option("#enrol-style", "oil")
    page.click("#enrol-send")
    page.wait_for_selector("#enrol", state="hidden")
    assert page.inner_text(".face:first-child") == "Mateo's twin"
    assert page.is_checked(".face:first-child input")

    start(page)
    page.wait_for_selector("#alike:not([hidden])")
    assert int(page.inner_text("#likeness").removesuffix(" %")) > 60
    page.check("input[name=hold][value=serious]")
    page.click("#card-open")
    page.wait_for_selector("#card-picture")
    wait_until_true(page, "document.getElementById('card-picture').naturalWidth > 0", "the card had its picture")
    page.screenshot(path=str(tmp_path / "card.png"))
    page.click("#card-settings")
    page.wait_for_selector("#card-said:text('Saved')")
    page.fill("#card-name", "Another name")
    page.click("#card-rename")
    page.wait_for_selector(".face:first-child:has-text('Another name')", state="attached")
    kept = page.evaluate("fetch('identities').then((answer) => answer.json())")["identities"][0]
    assert (kept["name"], kept["style"]) == ("Another name", "oil")
    page.on("dialog", lambda dialog: dialog.accept())
    page.click("#card-remove")
    page.wait_for_selector("#card", state="hidden")
    assert page.locator(".face", has_text="Another name").count() == 0
    assert page.faults == []
    page.context.close()


def test_a_character_is_still_there_after_a_reload(
    browser: Any, library_server: RunningServer, tmp_path: Path
) -> None:
    page = open_page(browser, library_server)
    page.set_input_files("#file", str(own_picture(tmp_path)))
    page.wait_for_selector("#keep-person:not([hidden])")
    page.click("#keep-person")
    page.fill("#enrol-name", "Mateo")
    page.fill("#enrol-consent", "An average of two dozen people")
    page.click("#enrol-send")
    page.wait_for_selector("#enrol", state="hidden")
    # The same name again is refused in the dialog, where it can be changed.
    page.set_input_files("#file", str(own_picture(tmp_path)))
    page.wait_for_selector("[data-own] input:checked", state="attached")
    page.click("#keep-person")
    page.fill("#enrol-name", "mateo")
    page.fill("#enrol-consent", "An average of two dozen people")
    page.click("#enrol-send")
    page.wait_for_selector("#enrol-said:text('already')")
    page.click("#enrol-close")
    page.reload()
    page.wait_for_selector(".face:first-child:has-text('Mateo')", state="attached")
    assert page.faults == []
    page.context.close()


def test_a_server_without_a_library_offers_no_enrolment(browser: Any, server: RunningServer, tmp_path: Path) -> None:
    page = open_page(browser, server)
    page.set_input_files("#file", str(own_picture(tmp_path)))
    page.wait_for_selector("[data-own] input:checked", state="attached")
    assert page.is_hidden("#keep-person")
    assert page.is_hidden("#card-open")
    page.context.close()
