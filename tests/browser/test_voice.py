"""Voice mode: the page does not open the camera, and the mouth follows the voice."""

import wave
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from avatar_stream.identity.library import SAMPLES
from tests.browser.conftest import FAKE_CAMERA, chromium, wait_until_on
from tests.browser.test_loop import decode, mouth_openings, open_page
from tests.serving import RunningServer

pytestmark = pytest.mark.browser

AVATAR_PICTURES_JS = """async () => {
  const avatar = document.getElementById('avatar');
  const canvas = document.createElement('canvas'), pictures = [];
  for (let k = 0; k < 60; k += 1) {
    await new Promise((done) => setTimeout(done, 80));
    canvas.width = avatar.videoWidth; canvas.height = avatar.videoHeight;
    canvas.getContext('2d').drawImage(avatar, 0, 0);
    pictures.push(canvas.toDataURL('image/jpeg', 0.92));
  }
  return pictures;
}"""


@pytest.fixture(scope="module")
def speaker(playwright_driver: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    path: Path = tmp_path_factory.mktemp("voice") / "voice.wav"
    with av.open(str(SAMPLES / "speech.ogg")) as container, wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(48_000)
        plain = av.AudioResampler(format="s16", layout="mono", rate=48_000)
        for frame in container.decode(audio=0):
            for out in plain.resample(frame):
                file.writeframes(out.to_ndarray().tobytes())
    with chromium(playwright_driver, *FAKE_CAMERA, f"--use-file-for-fake-audio-capture={path}") as running:
        yield running


@pytest.mark.measures
def test_the_mouth_follows_the_voice(speaker: Any, server: RunningServer, tmp_path: Path) -> None:
    page = open_page(speaker, server)
    page.click("#start-voice")
    page.wait_for_selector("body[data-state=live][data-playing]")
    opened = np.empty(0)

    def speaks() -> bool:
        nonlocal opened
        opened = mouth_openings([decode(picture) for picture in page.evaluate(AVATAR_PICTURES_JS)])
        found = opened[np.isfinite(opened)]
        return len(found) > 50 and bool(np.quantile(found, 0.95) > np.quantile(found, 0.1) + 0.06)

    wait_until_on(page, speaks, "the mouth opened and closed as in speech")
    fps = float(page.inner_text("#fps"))
    page.screenshot(path=str(tmp_path / "voice.png"))
    assert page.evaluate("document.getElementById('self').srcObject") is None
    assert page.is_hidden("#hint")
    found = opened[np.isfinite(opened)]
    print(f"\nvoice alone: {fps:.0f} pictures a second; mouth open {found.min():.2f} to {found.max():.2f}")
    # With the microphone off the mouth rests, and the page says why.
    page.click("#speak")
    page.wait_for_selector("#hint:not([hidden])")
    assert "microphone is off" in page.inner_text("#hint")
    page.click("#speak")
    page.wait_for_selector("#hint", state="hidden")
    assert page.faults == []
    page.click("#stop")
    page.wait_for_selector("body[data-state=idle]")
    page.context.close()
