"""Makes the pictures of docs/obs.md: ``python -m scripts.obs_pictures`` (needs what ``make browser`` needs)."""

import io
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image
from playwright.sync_api import sync_playwright

from tests.browser.camera import driver_frames, write_camera
from tests.browser.conftest import FAKE_CAMERA, chromium
from tests.serving import RunningServer

OUTPUT_FOLDER = Path(__file__).parent.parent / "docs" / "obs"
SCENE_SIZE = (1280, 720)


def scene(avatar: Image.Image) -> Image.Image:
    """Paste the avatar into the corner of a scene with a two-colour background."""
    down = np.linspace(0, 1, SCENE_SIZE[1])[:, None, None]
    across = np.linspace(0, 1, SCENE_SIZE[0])[None, :, None]
    ground = (1 - across) * np.array([38, 28, 92]) + across * np.array([12, 120, 140]) + 40 * (0.5 - down)
    out = Image.fromarray(np.clip(ground, 0, 255).astype(np.uint8))
    out.paste(avatar, (SCENE_SIZE[0] - avatar.width - 40, SCENE_SIZE[1] - avatar.height), avatar)
    return out


def main() -> None:
    """Take the screenshots and save them in docs/obs."""
    with (
        RunningServer("--size", "512") as server,
        tempfile.TemporaryDirectory() as folder,
        sync_playwright() as driver,
        chromium(
            driver, *FAKE_CAMERA, f"--use-file-for-fake-video-capture={Path(folder) / 'driver.mjpeg'}"
        ) as browser,
    ):
        write_camera(Path(folder) / "driver.mjpeg", driver_frames())
        page = browser.new_context(viewport={"width": 1280, "height": 900}).new_page()
        page.goto(server.url + "?session=me")
        page.click(".face:has(input[value=walter])")
        page.click("#start")
        page.wait_for_selector("body[data-state=live][data-playing]")
        page.select_option("#background", "#00ff00")
        page.wait_for_timeout(12_000)
        Image.open(io.BytesIO(page.screenshot())).convert("RGB").save(OUTPUT_FOLDER / "page.jpg", quality=85)
        viewer = page.context.new_page()
        viewer.set_viewport_size({"width": 560, "height": 560})
        viewer.add_init_script("window.obsstudio = {}")
        viewer.goto(server.url + "view/me?transparent")
        viewer.wait_for_selector("body[data-state=live]")
        viewer.wait_for_timeout(4000)
        avatar = Image.open(io.BytesIO(viewer.screenshot(omit_background=True))).convert("RGBA")
        scene(avatar).save(OUTPUT_FOLDER / "scene.jpg", quality=88)


if __name__ == "__main__":
    main()
