"""The ``avatar-stream`` command."""

import argparse
import json
import os
import sys
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

from avatar_stream import camera_command, engine_commands, file_commands, identity_commands
from avatar_stream.errors import AvatarError, BadInput, LibraryFault
from avatar_stream.extras import installed_version
from avatar_stream.identity.records import default_library
from avatar_stream.identity.store import Store
from avatar_stream.identity.text import escaped
from avatar_stream.media.marking import POSITIONS
from avatar_stream.portrait.window import networks_for
from avatar_stream.quiet import quiet_native_logs
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
        print(f"avatar-stream: {escaped(str(error))}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="avatar-stream", description="A live portrait avatar server.")
    parser.add_argument("--version", action="version", version=f"%(prog)s {installed_version()}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    serve = commands.add_parser("serve", help="start the server and its page")
    _add_settings(serve)
    serve.set_defaults(run=_serve)

    file_commands.add_commands(commands, ENGINES, networks_for, _number, _side)

    camera = commands.add_parser("camera", help="be the avatar in calls: a webcam in, a virtual camera out")
    camera_command.add_arguments(camera, _number)
    file_commands.add_marking(camera)
    file_commands.add_library(camera)
    camera.add_argument("--size", type=_side, default=512, help="side of the picture (%(default)s)")
    camera.add_argument("--engine", choices=ENGINES, default="auto")
    camera.set_defaults(run=lambda given: camera_command.run(given, lambda: networks_for(given.engine)))

    bench = commands.add_parser("bench", help="time every stage on this machine")
    bench.add_argument("--engine", choices=ENGINES, default="auto")
    bench.add_argument("--size", type=_side, default=256, help="side of the picture, %(default)s")
    bench.add_argument("--frames", type=_between(30, 100_000), default=300, help="in five rounds, %(default)s")
    bench.add_argument("--threads", type=_between(1, 256), default=2)
    bench.add_argument(
        "--compare", type=Path, metavar="OLD.json", help="a report of bench --json to set beside this one"
    )
    bench.add_argument("--json", action="store_true")
    bench.set_defaults(run=_bench)

    engine = commands.add_parser("engine", help="build, list, check and remove what runs the networks")
    engine_commands.add_commands(engine, _between)

    identity = commands.add_parser("identity", help="enrol people as characters, and keep them")
    identity_commands.add_commands(identity, _between)

    token = commands.add_parser("token", help="make a bearer token for the server")
    token.add_argument("name", help="whose it is: small letters, digits and dashes")
    token.add_argument("--scopes", default="publish,view", help=f"of {', '.join(SCOPES)} (default %(default)s)")
    token.add_argument("--file", type=Path, help="tokens file to add it to")
    token.set_defaults(run=_token)

    doctor = commands.add_parser("doctor", help="say what is installed, what will be used and why")
    doctor.add_argument("--json", action="store_true")
    doctor.set_defaults(run=_doctor)
    return parser


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


def library_folder(said: str) -> str:
    """The folder of characters: none where that is asked for, the account's own where nothing is.

    What the identity command enrols there, the page shows. Where it cannot be written nobody is kept.
    """
    if said:
        return "" if said == "none" else said
    try:
        Store(default_library()).close()
    except LibraryFault as error:
        print(f"characters are not kept: {escaped(str(error))}", file=sys.stderr)
        return ""
    return str(default_library())


def _serve(arguments: argparse.Namespace) -> None:
    from avatar_stream.server.run import serve
    from avatar_stream.server.workers import prepare

    given = {one.name: getattr(arguments, one.name) for one in fields(Settings)}
    values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in given.items()}
    values["library"] = library_folder(values["library"])
    settings = Settings(**values)
    if settings.processes:
        prepare()
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


def _bench(arguments: argparse.Namespace) -> None:
    from avatar_stream.bench import bench
    from avatar_stream.bench_report import compare, read, table

    before = read(arguments.compare) if arguments.compare else None
    report = bench(
        networks_for(arguments.engine, arguments.threads),
        size=arguments.size,
        frames=arguments.frames,
        threads=arguments.threads,
    )
    print(json.dumps(report) if arguments.json else table(report))
    if before:
        print("\n" + compare(report, before), file=sys.stderr if arguments.json else sys.stdout)


def _doctor(arguments: argparse.Namespace) -> None:
    from avatar_stream.doctor import examine, sentences

    report = examine()
    print(json.dumps(report) if arguments.json else sentences(report))


if __name__ == "__main__":
    sys.exit(main())
