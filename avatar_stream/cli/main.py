"""The ``avatar-stream`` command."""

import argparse
import json
import os
import sys
from dataclasses import replace
from pathlib import Path

from avatar_stream.cli import camera as camera_command
from avatar_stream.cli import engine as engine_commands
from avatar_stream.cli import files as file_commands
from avatar_stream.cli import identity as identity_commands
from avatar_stream.cli.arguments import add_settings, picture_side, whole_number
from avatar_stream.errors import AvatarError, BadInput, LibraryFault
from avatar_stream.extras import installed_version
from avatar_stream.identity.records import default_library
from avatar_stream.identity.store import Store
from avatar_stream.identity.visible_text import escaped
from avatar_stream.native_output import quiet_native_logs
from avatar_stream.runtime.networks import networks_for
from avatar_stream.server.access import SCOPES
from avatar_stream.settings import ENGINES, load_settings


def main(arguments: list[str] | None = None) -> int:
    """Run a command and return its exit code: 0, 1 for a failure, 2 for bad input, 130 for Ctrl+C."""
    parsed = parser().parse_args(arguments)
    if arguments is None:  # run as the command, not called from a program
        quiet_native_logs()
    try:
        parsed.run(parsed)
    except AvatarError as error:
        print(f"avatar-stream: {escaped(str(error))}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    return 0


def parser() -> argparse.ArgumentParser:
    """The parser of all commands and flags."""
    command = argparse.ArgumentParser(prog="avatar-stream", description="A live portrait avatar server.")
    command.add_argument("--version", action="version", version=f"%(prog)s {installed_version()}")
    commands = command.add_subparsers(required=True, metavar="COMMAND")

    serve = commands.add_parser("serve", help="start the server and its web page")
    serve.add_argument("--settings", type=Path, metavar="FILE", help="TOML file of settings")
    add_settings(serve)
    serve.set_defaults(run=_serve)

    file_commands.add_commands(commands)

    camera = commands.add_parser("camera", help="show the avatar in video calls, from a webcam to a virtual camera")
    camera_command.add_arguments(camera)
    file_commands.add_marking(camera)
    file_commands.add_library(camera)
    camera.add_argument("--size", type=picture_side, default=512, help="side of the picture in pixels (%(default)s)")
    camera.add_argument("--engine", choices=ENGINES, default="auto")
    camera.set_defaults(run=lambda given: camera_command.run(given, lambda: networks_for(given.engine)))

    bench = commands.add_parser("bench", help="measure every stage on this machine")
    bench.add_argument("--engine", choices=ENGINES, default="auto")
    bench.add_argument("--size", type=picture_side, default=256, help="side of the picture in pixels (%(default)s)")
    bench.add_argument(
        "--frames", type=whole_number(30, 100_000), default=300, help="number of frames, in five rounds (%(default)s)"
    )
    bench.add_argument("--threads", type=whole_number(1, 256), default=2)
    bench.add_argument("--compare", type=Path, metavar="OLD.json", help="compare with this report of bench --json")
    bench.add_argument("--json", action="store_true")
    bench.set_defaults(run=_bench)

    engine = commands.add_parser("engine", help="build, list, check and remove engines, which run the networks")
    engine_commands.add_commands(engine)

    identity = commands.add_parser("identity", help="enrol people as characters, and manage them")
    identity_commands.add_commands(identity)

    token = commands.add_parser("token", help="create a bearer token for the server")
    token.add_argument("name", help="name of its user: lower-case letters, digits and dashes")
    token.add_argument("--scopes", default="publish,view", help=f"some of {', '.join(SCOPES)} (default %(default)s)")
    token.add_argument("--file", type=Path, help="tokens file to append it to")
    token.set_defaults(run=_token)

    doctor = commands.add_parser("doctor", help="show what is installed, which engine is used and why")
    doctor.add_argument("--json", action="store_true")
    doctor.set_defaults(run=_doctor)
    return command


def library_folder(setting: str) -> str:
    """The folder of characters for the setting ``library``; empty if the server has no library.

    ``none`` means no library. An empty setting means the account's own library, which ``avatar-stream identity`` uses
    too, unless it cannot be opened.
    """
    if setting:
        return "" if setting == "none" else setting
    try:
        Store(default_library()).close()
    except LibraryFault as error:
        print(f"the server has no library of characters: {escaped(str(error))}", file=sys.stderr)
        return ""
    return str(default_library())


def _serve(arguments: argparse.Namespace) -> None:
    from avatar_stream.server.ipc.pool import start_fork_server
    from avatar_stream.server.run import serve

    given = {name: value for name, value in vars(arguments).items() if name not in ("run", "settings")}
    settings = load_settings(given, os.environ, arguments.settings)
    settings = replace(settings, library=library_folder(settings.library))
    if settings.processes:  # they load the networks
        start_fork_server()
        serve(settings, None)
    else:
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
        print(f"add this line to the tokens file: {line}", file=sys.stderr)
    print(token)


def _bench(arguments: argparse.Namespace) -> None:
    from avatar_stream.tools.bench import bench
    from avatar_stream.tools.bench_report import compare, read, table

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
    from avatar_stream.tools.doctor import examine, sentences

    report = examine()
    print(json.dumps(report) if arguments.json else sentences(report))
