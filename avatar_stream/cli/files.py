"""``render``, ``record-motion`` and ``inspect``: the commands that read and write files."""

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from avatar_stream.cli.arguments import number, picture_side
from avatar_stream.errors import BadInput
from avatar_stream.face.retarget import DEFAULT_KEEP
from avatar_stream.identity.records import default_library
from avatar_stream.media.marking import DEFAULT_LABEL_TEXT, LABEL_POSITIONS, Marker, label_for
from avatar_stream.portrait.background import BACKGROUND_HELP, OWN_BACKGROUND, open_background
from avatar_stream.rigs.files import MOTION_FILE_SUFFIX
from avatar_stream.runtime.networks import networks_for
from avatar_stream.settings import ENGINES


def add_commands(commands: Any) -> None:
    """Add the commands."""
    render = commands.add_parser("render", help="animate a portrait with a video and write the result to a file")
    render.add_argument(
        "portrait", help="picture of one face, a sample such as noor, or an enrolled character's name"
    )
    render.add_argument("driving", type=Path, help="video of one face, speech, or recorded motion")
    render.add_argument("-o", "--output", type=Path, required=True, help="MP4 to write")
    render.add_argument("--engine", choices=ENGINES, default="auto", help="warp draws without the networks")
    render.add_argument(
        "--size", type=picture_side, default=1024, help="maximum of the longest side in pixels (%(default)s)"
    )
    render.add_argument("--gain", type=float, default=1.0, help="scale of the expression, 0 to 2")
    render.add_argument(
        "--keep-expression",
        type=number(0, 1),
        default=DEFAULT_KEEP,
        metavar="SHARE",
        help="share of the portrait's own expression to keep, 0 to 1 (%(default)s)",
    )
    render.add_argument("--background", default=OWN_BACKGROUND, help=BACKGROUND_HELP)
    add_marking(render)
    add_library(render)
    render.add_argument("--json", action="store_true", help="print a JSON report")
    render.set_defaults(run=_render)

    record = commands.add_parser("record-motion", help="write a video's motion to a file, for render")
    record.add_argument("driving", type=Path, help="video of one face")
    record.add_argument("-o", "--output", type=Path, required=True, help=f"{MOTION_FILE_SUFFIX} file to write")
    record.add_argument("--json", action="store_true", help="print a JSON report")
    record.set_defaults(run=_record_motion)

    inspecting = commands.add_parser(
        "inspect", help="look for the watermark and content credentials of a generated picture"
    )
    inspecting.add_argument("file", type=Path, help="video or picture")
    inspecting.add_argument("--json", action="store_true")
    inspecting.set_defaults(run=_inspect)


def add_marking(parser: argparse.ArgumentParser) -> None:
    """Add the flags for marking pictures as generated."""
    marking = parser.add_argument_group("marking")
    marking.add_argument("--label", default=DEFAULT_LABEL_TEXT, help="text on every picture (%(default)s)")
    marking.add_argument("--label-position", choices=LABEL_POSITIONS, default=LABEL_POSITIONS[0])
    marking.add_argument("--unlabelled", default="", metavar="REASON", help="no label; the reason is logged")
    marking.add_argument("--no-watermark", action="store_true", help="omit the invisible watermark")


def add_library(parser: argparse.ArgumentParser) -> None:
    """Add the flag for the library's folder."""
    parser.add_argument(
        "--library",
        type=Path,
        default=default_library(),
        metavar="FOLDER",
        help="folder of enrolled characters (%(default)s)",
    )


def marker_for(arguments: argparse.Namespace) -> Marker:
    """The marker that the flags describe; raises :class:`BadInput`."""
    label = label_for(arguments.label, arguments.label_position, arguments.unlabelled)
    if arguments.unlabelled:
        print(f"the picture has no label: {arguments.unlabelled}", file=sys.stderr)
    return Marker(label, watermark=not arguments.no_watermark)


def _render(arguments: argparse.Namespace) -> None:
    from avatar_stream.identity.find_portrait import find_portrait
    from avatar_stream.pipeline.render import render

    if not 0 <= arguments.gain <= 2:
        raise BadInput("--gain must be from 0 to 2")
    if arguments.output.suffix.lower() != ".mp4":
        raise BadInput(f"the output must be an MP4 file: name it {arguments.output.with_suffix('.mp4').name}")
    portrait = find_portrait(arguments.portrait, arguments.size, library=arguments.library, use="render")
    result = render(
        portrait,
        arguments.driving,
        arguments.output,
        networks=networks_for(arguments.engine),
        gain=arguments.gain,
        keep=arguments.keep_expression,
        background=open_background(arguments.background),
        marker=marker_for(arguments),
        progress=None if arguments.json or not sys.stderr.isatty() else _progress_bar(),
    )
    if arguments.json:
        print(json.dumps(asdict(result)))
    else:
        print(f"{result.output}: {result.frames} frames at {result.fps} frames a second on {result.engine}")
    for note in result.notes:
        print(note, file=sys.stderr)


def _record_motion(arguments: argparse.Namespace) -> None:
    from avatar_stream.rigs.record import record_motion

    if arguments.output.suffix != MOTION_FILE_SUFFIX:
        name = arguments.output.with_suffix(MOTION_FILE_SUFFIX).name
        raise BadInput(f"recorded motion must be a {MOTION_FILE_SUFFIX} file: name it {name}")
    progress = None if arguments.json or not sys.stderr.isatty() else _progress_bar()
    result = record_motion(arguments.driving, arguments.output, progress)
    if arguments.json:
        print(json.dumps(asdict(result)))
    else:
        print(f"{result.output}: {result.frames} frames, a face in {result.face_found:.0%} of them")


def _inspect(arguments: argparse.Namespace) -> None:
    from avatar_stream.tools.inspect import inspect

    found = inspect(arguments.file)
    print(json.dumps(found.report()) if arguments.json else "\n".join(found.sentences()))


def _progress_bar() -> Callable[[int, int], None]:
    def show(done: int, expected: int) -> None:
        total = max(expected, done)
        filled = 30 * done // total
        end = "\n" if done == total else ""
        print(f"\r[{'#' * filled}{'.' * (30 - filled)}] {done}/{total} frames", end=end, file=sys.stderr, flush=True)

    return show
