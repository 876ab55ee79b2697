"""The load and fault bench: ``python -m tests.soak COMMAND [--json] [options]``.

``load``     more and more sessions, up to one more than the server admits
``line``     one session over a bad network: 5 % loss and 100 ms
``cycles``   connect and disconnect many times: memory, descriptors, threads and tasks
``attacks``  requests that must be refused at once, beside a running session
``strangers``  attempts by outsiders and other sessions, beside a bystander; ``--only PREFIX ...``, ``--quick``
``sync``     audio-video offset at the viewer, at the start and at the end: --minutes 60 --loss 0.01
``soak``     sessions for an hour, while clients are killed and restarted; draws soak.png
"""

import argparse
import json
import sys
from pathlib import Path

from avatar_stream.extras import install_command

try:
    from tests.soak import attacks, endurance, loads, strangers, sync
except ModuleNotFoundError as error:
    sys.exit(f"python -m tests.soak needs {error.name}: {install_command('test')}, or make install-test")

COMMANDS = {
    "load": loads.load,
    "line": loads.line,
    "cycles": endurance.cycles,
    "attacks": attacks.attacks,
    "strangers": strangers.strangers,
    "sync": sync.sync,
    "soak": endurance.soak,
}


def main() -> int:
    """Run the command of the command line; the exit code is 1 if a check failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("command", choices=COMMANDS)
    parser.add_argument("--sessions", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--loss", type=float, default=0.05)
    parser.add_argument("--delay", type=float, default=0.1, help="round-trip time in seconds")
    parser.add_argument("--jitter", type=float, default=0.01)
    parser.add_argument(
        "--engine", help="default auto; strangers: warp, which leaves processor time for the attempts"
    )
    parser.add_argument(
        "--processes",
        type=int,
        help="load: the server's --processes",
    )
    parser.add_argument("--light", action="store_true", help="load: clients do not decode")
    parser.add_argument("--only", nargs="*", default=[], help="strangers: prefixes of attempts' names")
    parser.add_argument("--quick", action="store_true", help="strangers: fewer attempts and shorter observation")
    parser.add_argument("--report", type=Path, help="strangers: JSON file for the report and the server's log")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    arguments.engine = arguments.engine or ("warp" if arguments.command == "strangers" else "auto")
    report = COMMANDS[arguments.command](arguments)
    print(json.dumps(report, indent=1) if arguments.json else report.pop("text", json.dumps(report, indent=1)))
    for sentence in report.get("failed", []):
        print(f"failed: {sentence}", file=sys.stderr)
    return bool(report.get("failed"))


if __name__ == "__main__":
    sys.exit(main())
