"""The ``avatar-stream`` command."""

import argparse
import json
import os
import sys
from collections.abc import Callable
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from avatar_stream import camera_command, engine_commands, identity_commands
from avatar_stream.errors import AvatarError, BadInput
from avatar_stream.face.retarget import KEEP
from avatar_stream.identity.records import default_library
from avatar_stream.media.marking import POSITIONS, TEXT, Marker, label_for
from avatar_stream.portrait.background import BACKGROUND_HELP, OWN, opened
from avatar_stream.portrait.window import Networks
from avatar_stream.quiet import quiet_native_logs
from avatar_stream.rigs.files import SUFFIX
from avatar_stream.runtime.choose import RUNTIMES
from avatar_stream.server.access import SCOPES
from avatar_stream.settings import Settings

ENGINES = ("auto", *RUNTIMES, "warp")


def main(arguments: list[str] | None = None) -> int:
    """Run a command; the exit code is 0, 1 for a failure and 2 for bad input."""
    parsed = _parser().parse_args(arguments)
    if arguments is None:  # the command itself, not a program that calls it
        quiet_native_logs()
    try:
        parsed.run(parsed)
    except AvatarError as error:
        print(f"avatar-stream: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    return 0


def networks_for(engine: str, threads: int = 2) -> Networks | None:
    """The networks on the chosen engine; None for ``warp``."""
    if engine == "warp":
        return None
    return Networks(runtime=None if engine == "auto" else engine, threads=threads)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="avatar-stream", description="A live portrait avatar server.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    serve = commands.add_parser("serve", help="start the server and its page")
    _add_settings(serve)
    serve.set_defaults(run=_serve)

    render = commands.add_parser("render", help="move a portrait with a video, into a file")
    render.add_argument("portrait", help="JPEG, PNG or WebP of one face, or an enrolled character's name")
    render.add_argument("driving", type=Path, help="video of one face, speech, or recorded motion")
    render.add_argument("-o", "--output", type=Path, required=True, help="MP4 to write")
    render.add_argument("--engine", choices=ENGINES, default="auto", help="warp shows the warp prior alone")
    render.add_argument("--size", type=_side, default=1024, help="longest side in pixels, at most (%(default)s)")
    render.add_argument("--gain", type=float, default=1.0, help="scale of the expression, 0 to 2")
    render.add_argument(
        "--keep-expression",
        type=_number(0, 1),
        default=KEEP,
        metavar="SHARE",
        help="how much of the portrait's own smile or frown stays, 0 to 1 (%(default)s)",
    )
    render.add_argument("--background", default=OWN, help=BACKGROUND_HELP)
    add_marking(render)
    _add_library(render)
    render.add_argument("--json", action="store_true", help="print a JSON report")
    render.set_defaults(run=_render)

    record = commands.add_parser("record-motion", help="write a video's motion to a file that render plays")
    record.add_argument("driving", type=Path, help="video of one face")
    record.add_argument("-o", "--output", type=Path, required=True, help=f"{SUFFIX} file to write")
    record.add_argument("--json", action="store_true", help="print a JSON report")
    record.set_defaults(run=_record_motion)

    camera = commands.add_parser("camera", help="be the avatar in calls: a webcam in, a virtual camera out")
    camera_command.add_arguments(camera, _number)
    add_marking(camera)
    _add_library(camera)
    camera.add_argument("--size", type=_side, default=512, help="side of the picture (%(default)s)")
    camera.add_argument("--engine", choices=ENGINES, default="auto")
    camera.set_defaults(run=lambda given: camera_command.run(given, lambda: networks_for(given.engine)))

    bench = commands.add_parser("bench", help="time every stage on this machine")
    bench.add_argument("--engine", choices=ENGINES, default="auto")
    bench.add_argument("--size", type=_side, default=256, help="side of the picture, %(default)s")
    bench.add_argument("--frames", type=_between(30, 100_000), default=150)
    bench.add_argument("--threads", type=_between(1, 256), default=2)
    bench.add_argument("--json", action="store_true")
    bench.set_defaults(run=_bench)

    engine = commands.add_parser("engine", help="build, list, check and remove what runs the networks")
    engine_commands.add_commands(engine, _between)

    identity = commands.add_parser("identity", help="enrol people as characters, and keep them")
    identity_commands.add_commands(identity, _between)

    inspecting = commands.add_parser("inspect", help="say whether a file carries the marks of a generated picture")
    inspecting.add_argument("file", type=Path, help="video or picture")
    inspecting.add_argument("--json", action="store_true")
    inspecting.set_defaults(run=_inspect)

    token = commands.add_parser("token", help="make a bearer token for the server")
    token.add_argument("name", help="whose it is: small letters, digits and dashes")
    token.add_argument("--scopes", default="publish,view", help=f"of {', '.join(SCOPES)} (default %(default)s)")
    token.add_argument("--file", type=Path, help="tokens file to add it to")
    token.set_defaults(run=_token)

    doctor = commands.add_parser("doctor", help="say what is installed, what will be used and why")
    doctor.add_argument("--json", action="store_true")
    doctor.set_defaults(run=_doctor)
    return parser


def add_marking(parser: argparse.ArgumentParser) -> None:
    """How pictures say that they are generated."""
    marking = parser.add_argument_group("marking")
    marking.add_argument("--label", default=TEXT, help="text on every picture (%(default)s)")
    marking.add_argument("--label-position", choices=POSITIONS, default=POSITIONS[0])
    marking.add_argument("--unlabelled", default="", metavar="REASON", help="no label; the reason is logged")
    marking.add_argument("--no-watermark", action="store_true", help="leave the invisible mark out")


def _add_library(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--library",
        type=Path,
        default=default_library(),
        metavar="FOLDER",
        help="of enrolled characters (%(default)s)",
    )


def marker_for(arguments: argparse.Namespace) -> Marker:
    """What marks pictures as the flags say; raises :class:`BadInput`."""
    label = label_for(arguments.label, arguments.label_position, arguments.unlabelled)
    if arguments.unlabelled:
        print(f"the picture has no label: {arguments.unlabelled}", file=sys.stderr)
    return Marker(label, watermark=not arguments.no_watermark)


def _add_settings(serve: argparse.ArgumentParser) -> None:
    """A flag for every setting."""
    choices = {"engine": ENGINES, "log": ("text", "json"), "label_position": POSITIONS}
    numbers = {"size": _side}
    groups: dict[str, Any] = {}
    for one in fields(Settings):
        about, default = one.metadata, one.default
        group = about["group"]
        if group not in groups:
            groups[group] = serve.add_argument_group(group)
        flag, what = f"--{one.name.replace('_', '-')}", str(about["what"]).replace("%", "%%")
        if isinstance(default, bool):
            kind = argparse.BooleanOptionalAction if default else "store_true"
            groups[group].add_argument(flag, action=kind, default=default, help=what)
        elif isinstance(default, tuple):
            groups[group].add_argument(flag, action="append", default=[], metavar="VALUE", help=what)
        elif isinstance(default, str):
            shown = f"{what} (default {default})" if default else what
            metavar = None if one.name in choices else one.name.split("_")[-1].upper()
            groups[group].add_argument(
                flag, default=default, choices=choices.get(one.name), metavar=metavar, help=shown
            )
        else:
            parse = numbers.get(one.name) or (_between if isinstance(default, int) else _number)(
                about["low"], about["high"]
            )
            groups[group].add_argument(
                flag, type=parse, default=default, metavar="N", help=f"{what} (default {default})"
            )


def _between(low: int, high: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not text.isdecimal() or not low <= int(text) <= high:
            raise argparse.ArgumentTypeError(f"a whole number from {low} to {high}")
        return int(text)

    return parse


def _number(low: float, high: float) -> Callable[[str], float]:
    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = float("nan")
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"a number from {low:g} to {high:g}")
        return value

    return parse


def _side(text: str) -> int:
    side = int(text) if text.isdecimal() else 0
    if not 128 <= side <= 2048 or side % 2:
        raise argparse.ArgumentTypeError("an even number from 128 to 2048")
    return side


def _serve(arguments: argparse.Namespace) -> None:
    from avatar_stream.server.run import serve

    given = {one.name: getattr(arguments, one.name) for one in fields(Settings)}
    values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in given.items()}
    # What the identity command enrols, the page shows.
    values["library"] = "" if values["library"] == "none" else values["library"] or str(default_library())
    settings = Settings(**values)
    serve(settings, networks_for(settings.engine, settings.threads))


def _token(arguments: argparse.Namespace) -> None:
    from avatar_stream.server.access import make_token

    token, line = make_token(arguments.name, arguments.scopes.split(","))
    if arguments.file:
        try:
            with open(arguments.file, "a", opener=lambda path, flags: os.open(path, flags, 0o600)) as file:
                file.write(line + "\n")
        except OSError as error:
            raise BadInput(f"cannot write {arguments.file}: {error.strerror}") from None
        print(f"added {arguments.name} to {arguments.file}. The token is shown this once:", file=sys.stderr)
    else:
        print(f"line for the tokens file: {line}", file=sys.stderr)
    print(token)


def _render(arguments: argparse.Namespace) -> None:
    from avatar_stream.identity.named import portrait_named
    from avatar_stream.render import render

    if not 0 <= arguments.gain <= 2:
        raise BadInput("--gain must be from 0 to 2")
    if arguments.output.suffix.lower() != ".mp4":
        raise BadInput(f"the output is an MP4 file: name it {arguments.output.with_suffix('.mp4').name}")
    _check_folder(arguments.output)
    portrait = portrait_named(arguments.portrait, arguments.size, library=arguments.library, use="render")
    done = render(
        portrait,
        arguments.driving,
        arguments.output,
        networks=networks_for(arguments.engine),
        gain=arguments.gain,
        keep=arguments.keep_expression,
        background=opened(arguments.background),
        marker=marker_for(arguments),
        progress=None if arguments.json or not sys.stderr.isatty() else _bar(),
    )
    if arguments.json:
        print(json.dumps(asdict(done)))
    else:
        print(f"{done.output}: {done.frames} frames at {done.fps} frames a second on {done.engine}")


def _record_motion(arguments: argparse.Namespace) -> None:
    from avatar_stream.rigs.record import record_motion

    if arguments.output.suffix != SUFFIX:
        raise BadInput(f"recorded motion is a {SUFFIX} file: name it {arguments.output.with_suffix(SUFFIX).name}")
    _check_folder(arguments.output)
    progress = None if arguments.json or not sys.stderr.isatty() else _bar()
    done = record_motion(arguments.driving, arguments.output, progress)
    if arguments.json:
        print(json.dumps(asdict(done)))
    else:
        print(f"{done.output}: {done.frames} frames, a face in {done.face_found:.0%} of them")


def _check_folder(output: Path) -> None:
    if not output.resolve().parent.is_dir():
        raise BadInput(f"there is no folder {output.resolve().parent}: make it first")


def _bar() -> Callable[[int, int], None]:
    def show(done: int, expected: int) -> None:
        total = max(expected, done)
        filled = 30 * done // total
        end = "\n" if done == total else ""
        print(f"\r[{'#' * filled}{'.' * (30 - filled)}] {done}/{total} frames", end=end, file=sys.stderr, flush=True)

    return show


def _bench(arguments: argparse.Namespace) -> None:
    from avatar_stream.bench import bench, table

    report = bench(
        networks_for(arguments.engine, arguments.threads),
        size=arguments.size,
        frames=arguments.frames,
        threads=arguments.threads,
    )
    print(json.dumps(report) if arguments.json else table(report))


def _inspect(arguments: argparse.Namespace) -> None:
    from avatar_stream.inspection import inspect

    found = inspect(arguments.file)
    print(json.dumps(found.report()) if arguments.json else "\n".join(found.sentences()))


def _doctor(arguments: argparse.Namespace) -> None:
    from avatar_stream.doctor import examine, sentences

    report = examine()
    print(json.dumps(report) if arguments.json else sentences(report))


if __name__ == "__main__":
    sys.exit(main())
