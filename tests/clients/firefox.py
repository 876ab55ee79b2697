"""Firefox driven over WebDriver BiDi, with a canvas as its camera."""

import base64
import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import threading
import time
from pathlib import Path
from typing import Any, Self

import cv2
from websockets.sync.client import connect

from avatar_stream.media.marks import draw_mark
from tests.browser.camera import driver_frames
from tests.waiting import TEST_TIMEOUT

PREFERENCES = {
    "app.normandy.enabled": False,
    "browser.shell.checkDefaultBrowser": False,
    "datareporting.policy.dataSubmissionEnabled": False,
    "media.autoplay.default": 0,
    "media.gmp-manager.url": "",  # do not download Cisco's H.264
    "media.navigator.permission.disabled": True,
    "media.peerconnection.ice.obfuscate_host_addresses": True,
    "network.captive-portal-service.enabled": False,
    "network.connectivity-service.enabled": False,
    "toolkit.telemetry.enabled": False,
}

CANVAS_CAMERA_JS = """() => {
  // The sample clip on a canvas replaces the camera.
  const pictures = PICTURES.map((text) => createImageBitmap(
    new Blob([Uint8Array.from(atob(text), (c) => c.charCodeAt(0))], { type: 'image/jpeg' })));
  navigator.mediaDevices.getUserMedia = async ({ video, audio }) => {
    const tracks = [];
    if (video) {
      const shown = await Promise.all(pictures);
      const canvas = document.createElement('canvas');
      [canvas.width, canvas.height] = [shown[0].width, shown[0].height];
      const context = canvas.getContext('2d');
      let next = 0;
      const draw = () => { context.drawImage(shown[next % shown.length], 0, 0); next += 1; };
      draw();
      setInterval(draw, 1000 / 15);
      tracks.push(canvas.captureStream(15).getVideoTracks()[0]);
    }
    if (audio) tracks.push(new AudioContext().createMediaStreamDestination().stream.getAudioTracks()[0]);
    return new MediaStream(tracks);
  };
  window.connections = [];
  const Plain = window.RTCPeerConnection;
  window.RTCPeerConnection = class extends Plain {
    constructor(...given) { super(...given); window.connections.push(this); }
  };
  window.faults = [];
  window.addEventListener('error', ({ message }) => window.faults.push(message));
  window.addEventListener('unhandledrejection', ({ reason }) => window.faults.push(String(reason)));
}"""


CONNECT_OPTIONS: dict[str, Any] = {"max_size": None, "open_timeout": TEST_TIMEOUT, "ping_interval": None}


class VirtualScreen:
    """A virtual X server on a free display."""

    def __init__(self) -> None:
        path = shutil.which("Xvfb")
        assert path, "no Xvfb found: scripts/setup.sh clients"
        command = [path, "-displayfd", "1", "-screen", "0", "1280x1024x24", "-nolisten", "tcp"]
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, start_new_session=True
        )
        assert self.process.stdout is not None
        self.name = ":" + self.process.stdout.readline().strip()

    def stop(self) -> None:
        """Stop it."""
        self.process.terminate()
        self.process.wait(TEST_TIMEOUT)


class Firefox:
    """A Firefox on a virtual screen, as a context manager; ``context`` parameters are ids of its windows."""

    def __init__(self, folder: Path) -> None:
        """``folder`` is an empty folder for its profile."""
        path = shutil.which("firefox-esr") or shutil.which("firefox")
        assert path, "no Firefox found: scripts/setup.sh clients"
        lines = (f"user_pref({json.dumps(name)}, {json.dumps(value)});" for name, value in PREFERENCES.items())
        (folder / "user.js").write_text("\n".join(lines))
        command = [path, "--no-remote", "--profile", str(folder), "--remote-debugging-port", "0"]
        # Headless Firefox has no WebGL, which the page's face finder needs. On a virtual screen it has.
        self._screen = VirtualScreen()
        environment = os.environ | {"HOME": str(folder), "DISPLAY": self._screen.name, "LIBGL_ALWAYS_SOFTWARE": "1"}
        self.process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=environment,
            start_new_session=True,
        )
        self._last = 0
        try:
            self._socket = connect(f"{self._address()}/session", legacy=True, **CONNECT_OPTIONS)
            self.command("session.new", capabilities={})
        except BaseException:
            self.stop()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        with contextlib.suppress(Exception):
            self._socket.close()
        self.stop()

    def stop(self) -> None:
        """Kill it and all its processes."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self._screen.stop()

    def command(self, method: str, **parameters: Any) -> Any:
        """Send a command; returns its result or raises AssertionError with Firefox's message."""
        self._last += 1
        self._socket.send(json.dumps({"id": self._last, "method": method, "params": parameters}))
        while True:
            reply = json.loads(self._socket.recv(timeout=TEST_TIMEOUT))
            if reply.get("id") == self._last:
                assert reply["type"] == "success", f"{method}: {reply.get('message')}"
                return reply["result"]

    def open(self, url: str = "about:blank") -> str:
        """Open a new window; a hidden tab would be throttled."""
        context: str = self.command("browsingContext.create", type="window")["context"]
        self.go(context, url)
        return context

    def go(self, context: str, url: str) -> None:
        """Load a page."""
        self.command("browsingContext.navigate", context=context, url=url, wait="complete")

    def run(self, context: str, expression: str) -> Any:
        """The value of a JavaScript expression, passed as JSON."""
        answer = self.command(
            "script.evaluate",
            expression=f"(async () => JSON.stringify((await ({expression})) ?? null))()",
            target={"context": context},
            awaitPromise=True,
            userActivation=True,
        )
        assert answer["type"] == "success", f"{expression}: {answer.get('exceptionDetails', {}).get('text')}"
        return json.loads(answer["result"]["value"])

    def wait(self, context: str, expression: str) -> Any:
        """Wait until an expression is true; returns its value."""
        end = time.monotonic() + TEST_TIMEOUT
        while not (value := self.run(context, expression)):
            state = "[document.body.dataset, document.getElementById('alert')?.innerText, window.faults]"
            assert time.monotonic() < end, f"not true: {expression}; {self.run(context, state)}"
            time.sleep(0.1)
        return value

    def use_camera(self) -> None:
        """Give every page that is opened from now on the numbered sample clip as its camera, and let it record its
        connections and errors.
        """
        pictures = []
        for number, frame in enumerate(driver_frames()[:120:4]):
            marked = frame.copy()
            draw_mark(marked, number)
            ok, data = cv2.imencode(".jpg", cv2.cvtColor(marked, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 85])
            assert ok
            pictures.append(base64.b64encode(data.tobytes()).decode())
        self.command(
            "script.addPreloadScript", functionDeclaration=CANVAS_CAMERA_JS.replace("PICTURES", json.dumps(pictures))
        )

    def _address(self) -> str:
        assert self.process.stdout is not None
        output, timer = "", threading.Timer(TEST_TIMEOUT, self.process.kill)
        timer.start()
        try:
            for line in self.process.stdout:
                output += line
                if found := re.search(r"WebDriver BiDi listening on (ws://\S+)", line):
                    threading.Thread(target=self.process.stdout.read, daemon=True).start()
                    return found[1]
        finally:
            timer.cancel()
        raise AssertionError(f"Firefox did not start: {output}")
