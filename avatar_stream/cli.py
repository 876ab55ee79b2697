"""The ``avatar-stream`` command."""

import argparse
import json
import logging
import sys
from collections.abc import Callable
from dataclasses import asdict, fields
from pathlib import Path

from avatar_stream import engine_commands
from avatar_stream.errors import AvatarError, BadInput
from avatar_stream.portrait.window import Networks
from avatar_stream.quiet import quiet_native_logs
from avatar_stream.runtime.choose import RUNTIMES
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
    defaults = Settings()
    serve.add_argument("--host", default=defaults.host, help="address to listen on (default %(default)s)")
    serve.add_argument("--port", type=_between(0, 65535), default=defaults.port, help="default %(default)s")
    serve.add_argument("--size", type=_side, default=defaults.size, help="side of the avatar in pixels, %(default)s")
    serve.add_argument("--fps", type=_between(1, 60), default=defaults.fps, help="frames a second, %(default)s")
    serve.add_argument(
        "--sessions", type=_between(1, 1000), default=defaults.sessions, help="at the same time, %(default)s"
    )
    serve.add_argument("--engine", choices=ENGINES, default=defaults.engine)
    serve.add_argument(
        "--threads", type=_between(1, 256), default=defaults.threads, help="of the network, %(default)s"
    )
    serve.add_argument("--frame-marks", action="store_true", help="carry frame numbers through, to measure latency")
    serve.set_defaults(run=_serve)

    render = commands.add_parser("render", help="move a portrait with a video, into a file")
    render.add_argument("portrait", type=Path, help="JPEG, PNG or WebP of one face")
    render.add_argument("driving", type=Path, help="video of one face")
    render.add_argument("-o", "--output", type=Path, required=True, help="MP4 to write")
    render.add_argument("--engine", choices=ENGINES, default="auto", help="warp shows the warp prior alone")
    render.add_argument("--size", type=_side, default=1024, help="longest side in pixels, at most (%(default)s)")
    render.add_argument("--gain", type=float, default=1.0, help="scale of the expression, 0 to 2")
    render.add_argument("--json", action="store_true", help="print a JSON report")
    render.set_defaults(run=_render)

    bench = commands.add_parser("bench", help="time every stage on this machine")
    bench.add_argument("--engine", choices=ENGINES, default="auto")
    bench.add_argument("--size", type=_side, default=256, help="side of the picture, %(default)s")
    bench.add_argument("--frames", type=_between(30, 100_000), default=150)
    bench.add_argument("--threads", type=_between(1, 256), default=2)
    bench.add_argument("--json", action="store_true")
    bench.set_defaults(run=_bench)

    engine = commands.add_parser("engine", help="build, list, check and remove what runs the networks")
    engine_commands.add_commands(engine, _between)

    doctor = commands.add_parser("doctor", help="say what is installed, what will be used and why")
    doctor.add_argument("--json", action="store_true")
    doctor.set_defaults(run=_doctor)
    return parser


def _between(low: int, high: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not text.isdecimal() or not low <= int(text) <= high:
            raise argparse.ArgumentTypeError(f"a whole number from {low} to {high}")
        return int(text)

    return parse


def _side(text: str) -> int:
    side = int(text) if text.isdecimal() else 0
    if not 128 <= side <= 2048 or side % 2:
        raise argparse.ArgumentTypeError("an even number from 128 to 2048")
    return side


def _serve(arguments: argparse.Namespace) -> None:
    from avatar_stream.server.run import serve

    names = {f.name for f in fields(Settings)}
    settings = Settings(**{k: v for k, v in vars(arguments).items() if k in names})
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    serve(settings, networks_for(settings.engine, settings.threads))


def _render(arguments: argparse.Namespace) -> None:
    from avatar_stream.render import render

    if not 0 <= arguments.gain <= 2:
        raise BadInput("--gain must be from 0 to 2")
    if arguments.output.suffix.lower() != ".mp4":
        raise BadInput(f"the output is an MP4 file: name it {arguments.output.with_suffix('.mp4').name}")
    if not arguments.output.resolve().parent.is_dir():
        raise BadInput(f"there is no folder {arguments.output.resolve().parent}: make it first")
    done = render(
        arguments.portrait,
        arguments.driving,
        arguments.output,
        networks=networks_for(arguments.engine),
        size=arguments.size,
        gain=arguments.gain,
        progress=None if arguments.json or not sys.stderr.isatty() else _bar(),
    )
    if arguments.json:
        print(json.dumps(asdict(done)))
    else:
        print(f"{done.output}: {done.frames} frames at {done.fps} frames a second on {done.engine}")


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


def _doctor(arguments: argparse.Namespace) -> None:
    from avatar_stream.doctor import examine, sentences

    report = examine()
    print(json.dumps(report) if arguments.json else sentences(report))


if __name__ == "__main__":
    sys.exit(main())
