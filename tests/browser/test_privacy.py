"""Privacy mode: the avatar follows the driver, and the page sends no picture. Checks everything that it sends."""

import base64
import time
from typing import Any
from urllib.parse import urlsplit

import cv2
import numpy as np
import pytest

from avatar_stream.face.mouth_view import read_mouth
from avatar_stream.face.tracked_face import TrackedFace
from avatar_stream.face.tracker import FaceTracker
from avatar_stream.rigs.face_packet import pack, unpack
from tests.browser.camera import driver_frames
from tests.browser.conftest import wait_until_on
from tests.browser.test_loop import decode, mouth_openings, open_page
from tests.serving import RunningServer
from tests.unit.faces import face

pytestmark = pytest.mark.browser

# Keeps every connection, so that its statistics can be read.
KEEP_CONNECTIONS_JS = """
window.connections = [];
const Plain = window.RTCPeerConnection;
window.RTCPeerConnection = class extends Plain {
  constructor(...given) { super(...given); window.connections.push(this); }
};
"""
BYTES_SENT_JS = """async () => {
  let video = 0, all = 0;
  for (const pc of window.connections) for (const report of (await pc.getStats()).values()) {
    if (report.type === 'outbound-rtp' && report.kind === 'video') video += report.bytesSent + report.framesEncoded;
    if (report.type === 'transport') all += report.bytesSent;
  }
  return [video, all, performance.now()];
}"""
# Pairs of the number in the camera's picture and the avatar's picture of the same moment.
CAMERA_AND_AVATAR_JS = """async () => {
  const pairs = [];
  const small = document.createElement('canvas'); small.width = 240; small.height = 8;
  const context = small.getContext('2d', { willReadFrequently: true });
  const whole = document.createElement('canvas');
  const [self, avatar] = ['self', 'avatar'].map((id) => document.getElementById(id));
  for (let k = 0; k < 90; k += 1) {
    await new Promise((done) => setTimeout(done, 110));
    const strip = self.videoHeight / 16;
    context.drawImage(self, 0, strip * 0.3, self.videoWidth, strip * 0.4, 0, 0, 240, 8);
    const pixels = context.getImageData(0, 0, 240, 8).data;
    let number = 0;
    for (let bit = 0; bit < 11; bit += 1) if (pixels[(4 * 240 + bit * 20 + 10) * 4] > 128) number |= 1 << bit;
    whole.width = avatar.videoWidth; whole.height = avatar.videoHeight;
    whole.getContext('2d').drawImage(avatar, 0, 0);
    pairs.push([number, whole.toDataURL('image/jpeg', 0.92)]);
  }
  return pairs;
}"""


def open_recorded_page(browser: Any, server: RunningServer) -> Any:
    page = open_page(browser, server)
    page.context.add_init_script(KEEP_CONNECTIONS_JS)
    page.reload()
    page.wait_for_selector(".face input:checked", state="attached")
    page.asked, page.packets, page.texts = [], [], []
    page.on("request", lambda request: page.asked.append(request.url))

    def socket(opened: Any) -> None:
        def sent(payload: Any) -> None:
            (page.texts if isinstance(payload, str) else page.packets).append(payload)

        opened.on("framesent", sent)

    page.on("websocket", socket)
    return page


def start_private(page: Any) -> None:
    page.check("#private")
    page.click("#start")
    page.wait_for_selector("body[data-state=live][data-playing]")


# A camera that shows one picture until the test gives it another.
STILL_CAMERA_JS = """
const canvas = Object.assign(document.createElement('canvas'), { width: 640, height: 480 });
const image = new Image();
setInterval(() => canvas.getContext('2d').drawImage(image, 0, 0), 40);
window.hold = async (address) => { image.src = address; await image.decode(); };
navigator.mediaDevices.getUserMedia = async () => canvas.captureStream(25);
"""
AVATAR_PICTURE_JS = """() => {
  const avatar = document.getElementById('avatar'), canvas = document.createElement('canvas');
  canvas.width = avatar.videoWidth; canvas.height = avatar.videoHeight;
  canvas.getContext('2d').drawImage(avatar, 0, 0);
  return canvas.toDataURL('image/jpeg', 0.92);
}"""


def address_of(picture: Any) -> str:
    ok, data = cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    assert ok
    return "data:image/png;base64," + base64.b64encode(data.tobytes()).decode()


def test_the_avatars_mouth_follows_the_drivers(browser: Any, server: RunningServer) -> None:
    page = open_page(browser, server)
    page.context.add_init_script(STILL_CAMERA_JS)
    page.reload()
    page.wait_for_selector(".face input:checked", state="attached")
    frames = driver_frames()
    driver = mouth_openings(frames)
    shut, open_ = (address_of(frames[number]) for number in (np.nanargmin(driver), np.nanargmax(driver)))
    page.evaluate("(address) => window.hold(address)", shut)
    start_private(page)
    page.wait_for_selector("#sent:not(:empty)")

    def opening() -> float:
        return float(mouth_openings([decode(page.evaluate(AVATAR_PICTURE_JS))])[0])

    for _ in range(2):
        page.evaluate("(address) => window.hold(address)", open_)
        wait_until_on(page, lambda: opening() > 0.2, "the avatar's mouth opened")
        page.evaluate("(address) => window.hold(address)", shut)
        wait_until_on(page, lambda: opening() < 0.05, "the avatar's mouth closed")
    assert page.faults == []
    page.context.close()


@pytest.mark.measures
def test_privacy_mode_sends_face_packets_and_no_picture(browser: Any, server: RunningServer, tmp_path: Any) -> None:
    page = open_recorded_page(browser, server)
    start_private(page)
    wait_until_on(page, lambda: len(page.packets) > 20, "faces were sent")
    before, counted, began = page.evaluate(BYTES_SENT_JS), len(page.packets), time.monotonic()
    pairs = page.evaluate(CAMERA_AND_AVATAR_JS)
    after, packets, seconds = page.evaluate(BYTES_SENT_JS), page.packets[counted:], time.monotonic() - began
    page.screenshot(path=str(tmp_path / "private.png"))
    shown_rate = page.inner_text("#sent")

    # Requests went to this server only.
    assert {urlsplit(url).netloc for url in page.asked} <= {urlsplit(server.url).netloc, ""}
    assert page.faults == []
    # No picture was encoded; apart from the packets only reports and keep-alives were sent.
    assert after[0] == 0
    # Every packet is one face, and none is longer than a face packet.
    assert packets
    faces = [unpack(packet) for packet in packets]
    assert max(len(packet) for packet in packets) <= 108
    assert sum(face.landmarks is not None for face in faces) > 0.9 * len(faces)
    # With the headers of WebSocket, TLS, TCP and IP (8, 22, 20 and 20 bytes), and of UDP and IP around the reports.
    rate = len(packets) / seconds
    line = sum(len(packet) + 70 for packet in packets) * 8 / seconds / 1e3
    reports = (after[1] - before[1]) * 8 / (after[2] - before[2]) * 1.5
    print(
        f"\nprivacy mode: {rate:.1f} faces a second, {line:.1f} kbit/s up, reports {reports:.1f}; page: {shown_rate}"
    )

    driver = mouth_openings(driver_frames())
    avatar = mouth_openings([decode(picture) for _, picture in pairs])
    wanted = np.array([driver[number % len(driver)] for number, _ in pairs])
    best = 0.0
    for lag in range(8):  # the avatar lags by a few samples
        a, b = avatar[lag:], wanted[: len(wanted) - lag]
        seen = np.isfinite(a) & np.isfinite(b)
        best = max(best, float(np.corrcoef(a[seen], b[seen])[0, 1]))
    print(f"mouth opening, avatar against driver: r = {best:.2f}")
    page.context.close()


def test_privacy_mode_can_be_switched_while_live(browser: Any, server: RunningServer) -> None:
    page = open_recorded_page(browser, server)
    page.click("#start")
    page.wait_for_selector("body[data-state=live][data-playing]")
    wait_until_on(page, lambda: page.evaluate(BYTES_SENT_JS)[0] > 0, "pictures were sent")
    page.check("#private")
    wait_until_on(page, lambda: len(page.packets) > 5, "faces were sent")
    then = page.evaluate(BYTES_SENT_JS)[0]
    wait_until_on(page, lambda: len(page.packets) > 25, "more faces were sent")
    assert page.evaluate(BYTES_SENT_JS)[0] == then
    page.uncheck("#private")
    wait_until_on(page, lambda: page.evaluate(BYTES_SENT_JS)[0] > then, "pictures were sent again")
    counted, again = len(page.packets), page.evaluate(BYTES_SENT_JS)[0]
    wait_until_on(page, lambda: page.evaluate(BYTES_SENT_JS)[0] > again + 20_000, "more pictures were sent")
    assert len(page.packets) == counted
    assert page.faults == []
    page.context.close()


def test_nothing_is_sent_if_the_face_finder_cannot_load(browser: Any, server: RunningServer) -> None:
    page = open_recorded_page(browser, server)
    page.route("**/face/vendor/*.wasm", lambda route: route.abort())
    page.check("#private")
    page.click("#start")
    page.wait_for_selector("#alert:not([hidden])")
    assert "nothing was sent" in page.inner_text("#alert")
    assert page.get_attribute("body", "data-state") == "idle"
    assert page.evaluate("document.getElementById('self').srcObject") is None
    assert page.packets == []
    page.context.close()


def test_the_choice_of_privacy_mode_is_remembered(browser: Any, server: RunningServer) -> None:
    page = open_page(browser, server)
    page.check("#private")
    assert "stays on this device" in page.inner_text("#promise")
    page.reload()
    assert page.is_checked("#private")
    page.uncheck("#private")
    assert "goes to this server" in page.inner_text("#promise")
    page.context.close()


def test_the_page_packs_a_face_like_python(browser: Any, server: RunningServer) -> None:
    page = open_page(browser, server)
    view = np.random.default_rng(2).uniform(0, 1.05, (6, 5, 2)).astype(np.float32)
    for turn in ((0, 0, 0), (0.2, -0.5, 0.1), (0, 0, 2.9)):
        landmarks = face(turn=turn)
        script = """async ([points, view]) => {
          const { FacePacker } = await import('./face/packet.js');
          return [...(await FacePacker.load()).pack(Float32Array.from(points), Float32Array.from(view))];
        }"""
        points = (landmarks / 480).reshape(-1).tolist()
        packed = np.array(page.evaluate(script, [points, view.reshape(-1).tolist()]), np.uint8)
        wanted = np.frombuffer(pack(TrackedFace(landmarks, view)), np.uint8)
        head = np.abs(packed[:14].view(np.int16)[1:].astype(int) - wanted[:14].view(np.int16)[1:])
        numbers = np.abs(packed[14:78].view(np.int8).astype(int) - wanted[14:78].view(np.int8))
        assert head.max() <= 2
        assert numbers.max() <= 1
        assert np.array_equal(packed[78:], wanted[78:])
    page.context.close()


def test_the_page_reads_a_mouth_like_python(browser: Any, server: RunningServer) -> None:
    page = open_page(browser, server)
    tracker = FaceTracker()
    picture = driver_frames()[135]  # wide open, teeth and tongue
    landmarks = tracker.update(picture, 0.0).landmarks
    tracker.close()
    assert landmarks is not None
    wanted = read_mouth(picture, landmarks)
    assert wanted is not None
    script = """async ([address, points]) => {
      const { MouthView } = await import('./face/mouth.js');
      const image = new Image();
      image.src = address;
      await image.decode();
      Object.assign(image, { videoWidth: image.width, videoHeight: image.height });
      return [...new MouthView().read(image, Float32Array.from(points))];
    }"""
    points = (landmarks / picture.shape[0]).reshape(-1).tolist()
    found = np.array(page.evaluate(script, [address_of(picture), points])).reshape(wanted.shape)
    # The page samples a picture of another size, along straight pieces of the lips: rows at the lips differ most.
    assert np.abs(found - wanted).mean() < 0.03
    assert np.abs(found - wanted)[1:-1].max() < 0.12
    page.context.close()


def test_a_failing_face_finder_ends_the_session(browser: Any, server: RunningServer) -> None:
    page = open_recorded_page(browser, server)
    start_private(page)
    page.wait_for_selector("#sent:not(:empty)")
    frame = next(frame for frame in page.frames if "mesh.html" in frame.url)
    frame.evaluate("() => { FaceMesh.prototype.send = () => Promise.reject(new Error('graphics lost')); }")
    page.wait_for_selector("#alert:not([hidden])")
    assert "graphics lost" in page.inner_text("#alert")
    assert page.get_attribute("body", "data-state") == "idle"
    page.context.close()


def test_privacy_mode_chosen_while_connecting_sends_no_picture(browser: Any, server: RunningServer) -> None:
    page = open_recorded_page(browser, server)
    page.evaluate("document.getElementById('start').click(); document.getElementById('private').click()")
    page.wait_for_selector("body[data-state=live][data-playing]")
    wait_until_on(page, lambda: len(page.packets) > 10, "faces were sent")
    assert page.evaluate(BYTES_SENT_JS)[0] == 0
    assert page.faults == []
    page.context.close()
