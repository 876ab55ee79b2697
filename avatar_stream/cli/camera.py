"""``avatar-stream camera``: the avatar as a virtual camera."""

import argparse
import contextlib
import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from avatar_stream.cli.arguments import number
from avatar_stream.cli.files import marker_for
from avatar_stream.errors import BadInput
from avatar_stream.face.retarget import DEFAULT_KEEP
from avatar_stream.identity.library import DEFAULT_PORTRAIT
from avatar_stream.portrait.background import BACKGROUND_HELP, OWN_BACKGROUND, open_background
from avatar_stream.runtime.networks import Networks

if TYPE_CHECKING:
    from avatar_stream.pipeline.camera import LocalCamera, Output, RemoteCamera

TOKEN_VARIABLE = "AVATAR_STREAM_TOKEN"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    add = parser.add_argument
    add(
        "portrait",
        nargs="*",
        default=[DEFAULT_PORTRAIT],
        help=f"pictures, samples or enrolled characters ({DEFAULT_PORTRAIT})",
    )
    add("--list", action="store_true", help="list the cameras and exit")
    add(
        "--camera",
        default="0",
        help="number or part of the name of the camera, or a video file (%(default)s)",
    )
    add("--device", help="virtual camera to use, if there are several")
    add("--no-device", action="store_true", help="open no virtual camera, for example with --preview or --vmc")
    add("--preview", action="store_true", help="also show the avatar in a window")
    add("--fps", type=number(5, 60), default=25, help="pictures a second (%(default)s)")
    add("--gain", type=number(0, 2), default=1.0, help="scale of the expression (%(default)s)")
    add(
        "--keep-expression",
        type=number(0, 1),
        default=DEFAULT_KEEP,
        metavar="SHARE",
        help="share of the portrait's own expression to keep, 0 to 1 (%(default)s)",
    )
    add("--background", default=OWN_BACKGROUND, help=BACKGROUND_HELP)
    add("--mirror", action="store_true", help="mirror the motion")
    add("--server", metavar="URL", help=f"let this server draw; set its token, if any, in {TOKEN_VARIABLE}")
    add(
        "--private",
        action="store_true",
        help="track the face on this machine, and send landmarks to the server, not pictures",
    )
    add("--vmc", metavar="HOST:PORT", help="also send the motion to a rig, by the VMC protocol")
    add(
        "--motion-port",
        metavar="[HOST:]PORT",
        help="use motion from this UDP port instead of a camera",
    )
    add("--phone", default="", metavar="ADDRESS", help="request motion from iFacialMocap on this phone")
    add("--seconds", type=number(0.1, 1e9), help="stop after this time")
    add("--json", action="store_true", help="print a JSON report at the end (with --list: the list)")


def run(arguments: argparse.Namespace, networks: Callable[[], Networks | None]) -> None:
    """Run the command; raises ``AvatarError``."""
    # Imported here, so that other commands do not wait for WebRTC to load.
    from avatar_stream.cli.keys import hotkeys
    from avatar_stream.pipeline.camera import HOTKEYS_HELP, Outputs

    if arguments.list:
        list_cameras(arguments.json)
        return
    _check(arguments)
    camera = _make_camera(arguments, networks)
    with contextlib.ExitStack() as stack:
        output = Outputs(_outputs(arguments, camera))
        stack.callback(output.close)
        stack.enter_context(_driving_input(arguments, camera))
        keys = stack.enter_context(hotkeys(camera.switches.press))
        _print_status(f"the avatar is on {output.name or 'no camera'}. {HOTKEYS_HELP if keys else 'Ctrl+C ends it.'}")
        began = time.monotonic()
        with contextlib.suppress(KeyboardInterrupt):
            camera.run(output, _print_status if sys.stderr.isatty() else lambda line: None)
        took = time.monotonic() - began
    if arguments.json:
        print(json.dumps({"pictures": camera.shown_count, "seconds": round(took, 1), "output": output.name}))


def _check(arguments: argparse.Namespace) -> None:
    """Raise :class:`BadInput` for flags that contradict each other."""
    if arguments.server and arguments.vmc:
        raise BadInput("--vmc works only without a server: leave --server out")
    if arguments.server and os.path.isfile(arguments.background):
        raise BadInput("a background picture works only without a server: with --server use own, blur or a colour")
    if arguments.private and not arguments.server:
        raise BadInput("--private needs --server: without a server nothing leaves this machine")


def _make_camera(
    arguments: argparse.Namespace, networks: Callable[[], Networks | None]
) -> "LocalCamera | RemoteCamera":
    """The camera that the flags describe."""
    from avatar_stream.media.camera import find_camera
    from avatar_stream.pipeline.camera import LocalCamera, Options, RemoteCamera
    from avatar_stream.rigs.vmc import VmcSender

    options = Options(
        arguments.portrait,
        arguments.size,
        arguments.fps,
        arguments.gain,
        arguments.keep_expression,
        arguments.mirror,
        arguments.seconds,
        open_background(arguments.background),
        marker_for(arguments),
        arguments.library,
    )
    if arguments.server:
        return RemoteCamera(options, arguments.server, os.environ.get(TOKEN_VARIABLE, ""), private=arguments.private)
    # Check these before the networks are loaded, which takes a second.
    rig = VmcSender(*_address(arguments.vmc, "127.0.0.1")) if arguments.vmc else None
    if arguments.motion_port is None:
        find_camera(arguments.camera)
    return LocalCamera(options, networks(), rig=rig)


def list_cameras(as_json: bool) -> None:
    """Print this machine's cameras."""
    from avatar_stream.media.camera import cameras

    found = cameras()
    if as_json:
        print(json.dumps([{"number": k, "id": one.id, "name": one.name} for k, one in enumerate(found)]))
    elif not found:
        print("no camera found")
    else:
        print("\n".join(f"{k}: {one.name}" for k, one in enumerate(found)))


def _outputs(arguments: argparse.Namespace, camera: "LocalCamera | RemoteCamera") -> "list[Output]":
    from avatar_stream.cli.keys import Preview
    from avatar_stream.media.virtual_camera import VirtualCamera

    outputs: list[Output] = []
    if not arguments.no_device:
        outputs.append(VirtualCamera((arguments.size, arguments.size), arguments.fps, arguments.device))
    if arguments.preview:
        outputs.append(Preview(camera.switches.press))
    return outputs


@contextlib.contextmanager
def _driving_input(arguments: argparse.Namespace, camera: "LocalCamera | RemoteCamera") -> Iterator[None]:
    """Feed camera frames or received motion to ``camera`` while the block runs."""
    from avatar_stream.media.camera import Camera, find_camera
    from avatar_stream.rigs.listener import RigListener

    if arguments.motion_port is None:
        webcam = Camera(find_camera(arguments.camera), camera.add_frame)
        try:
            yield
        finally:
            webcam.close()
        return
    # With a phone, listen to other machines; otherwise only if the flag names a host.
    host, port = _address(arguments.motion_port, "0.0.0.0" if arguments.phone else "127.0.0.1")
    listener = RigListener(port, host, phone=arguments.phone)
    stopped = threading.Event()

    def listen() -> None:
        while not stopped.is_set():
            frame = listener.take(0.2)
            if frame is not None:
                camera.add_frame(frame)
            elif (line := listener.silence()) is not None:
                _print_status(line)

    thread = threading.Thread(target=listen, name="motion", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        thread.join()
        listener.close()


def _address(text: str, host: str) -> tuple[str, int]:
    """Host and port of ``HOST:PORT``, or of ``PORT`` on ``host``; raises ``BadInput``."""
    before, _, port = text.rpartition(":")
    if not port.isdecimal() or not 0 < int(port) < 65536:
        raise BadInput(f"{text} is not an address: write it as HOST:PORT, such as 127.0.0.1:39539")
    return before or host, int(port)


def _print_status(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
