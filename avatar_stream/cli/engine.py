"""``avatar-stream engine``: build, list, check and remove the engines that run the networks."""

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from avatar_stream.cli.arguments import whole_number
from avatar_stream.errors import AvatarError, BadInput
from avatar_stream.runtime import choose, tensorrt_build
from avatar_stream.runtime.network import tick_path
from avatar_stream.runtime.networks import WEIGHTS
from avatar_stream.runtime.plans import PlanCache

if TYPE_CHECKING:
    from avatar_stream.tools.parity import Parity

NETWORK_PATH = tick_path(WEIGHTS)
Progress = Callable[[str, int, int], None]


def add_commands(engine: argparse.ArgumentParser) -> None:
    """Add the subcommands to ``engine``."""
    commands = engine.add_subparsers(required=True, metavar="COMMAND")

    build = commands.add_parser("build", help="compile the network with TensorRT for this GPU, and store the plan")
    build.add_argument("--target", help="compute capability of another GPU to build for, such as sm89 (tensorrt_rtx)")
    build.add_argument("--again", action="store_true", help="build even if a valid plan is stored")
    build.set_defaults(run=_build)

    listing = commands.add_parser("list", help="list the engines of this machine and the stored plans")
    listing.set_defaults(run=_list)

    check = commands.add_parser("check", help="compare every engine with onnxruntime over many ticks")
    check.add_argument("--ticks", type=whole_number(10, 100_000), help="default 500")
    check.set_defaults(run=_check)

    remove = commands.add_parser("remove", help="delete stored plans")
    remove.add_argument("names", nargs="*", help="names that engine list shows")
    remove.add_argument("--all", action="store_true")
    remove.set_defaults(run=_remove)
    for command in (build, listing, check, remove):
        command.add_argument("--json", action="store_true", help="print a JSON report")


def _build(arguments: argparse.Namespace) -> None:
    cache = PlanCache()
    key = tensorrt_build.plan_key(NETWORK_PATH, target=arguments.target)
    plan_path = None if arguments.again else cache.find(key)
    if plan_path is None:
        plan = tensorrt_build.build(NETWORK_PATH, target=arguments.target, progress=_progress(arguments))
        plan_path = cache.store(key, plan)
    report = {"name": key.name, "gpu": key.gpu, "tensorrt": key.tensorrt, "path": str(plan_path)}
    print(json.dumps(report) if arguments.json else f"{key.name}: {key.tensorrt} for {key.gpu}, {plan_path}")


def _list(arguments: argparse.Namespace) -> None:
    built = dict(PlanCache().entries())
    report = {"engines": choose.available_runtimes(), "gpu": tensorrt_build.gpu_name(), "built": built}
    if arguments.json:
        print(json.dumps(report))
        return
    print(
        f"can run here, best first: {', '.join(choose.available_runtimes()) or 'none'}"
        f" (GPU: {report['gpu'] or 'none'})"
    )
    for name, noted in built.items():
        what = (
            f"{noted['tensorrt']} for {noted['gpu']}" if noted["sound"] else "damaged: delete it with engine remove"
        )
        print(f"  {name}  {what}")
    if not built:
        print("  no plans built with TensorRT")


def _check(arguments: argparse.Namespace) -> None:
    from avatar_stream.tools import parity  # loads most of the program, which the other commands do not need

    ticks = arguments.ticks or parity.DEFAULT_TICKS
    rows, failed = parity.check(ticks, progress=_progress(arguments))
    if arguments.json:
        found: list[dict[str, Any]] = [asdict(row) | {"passed": row.passed} for row in rows]
        print(json.dumps({"reference": "onnxruntime fp32", "engines": found, "cannot_run": failed}))
    else:
        print(f"against onnxruntime fp32 over {ticks} ticks:")
        for row in rows:
            print(
                f"  {row.engine:<22}{row.psnr:6.1f} dB, last tenth {row.psnr_last:6.1f} dB, largest error "
                f"{row.largest:5.1f} grey levels, state {row.state:.1%}: {_verdict(row)}"
            )
        for reason in failed.values():
            print(f"  {reason}")
    if not all(row.passed or not row.used for row in rows):
        raise AvatarError("an engine failed the check, so its pictures would be wrong: please report this")


def _verdict(row: "Parity") -> str:
    if row.passed:
        return "passed"
    return "FAILED" if row.used else "not used: it computes wrong results on this processor"


def _remove(arguments: argparse.Namespace) -> None:
    cache = PlanCache()
    names = [name for name, _ in cache.entries()] if arguments.all else arguments.names
    if not names and not arguments.all:
        raise BadInput("name the plans to remove (avatar-stream engine list shows them), or use --all")
    unknown = [name for name in names if not cache.remove(name)]
    removed = [name for name in names if name not in unknown]
    print(json.dumps({"removed": removed}) if arguments.json else f"removed {len(removed)} plans")
    if unknown:
        raise BadInput(f"there is no plan {unknown[0]}: avatar-stream engine list shows all")


def _progress(arguments: argparse.Namespace) -> Progress | None:
    """Progress in one line of the terminal, or None if the output is JSON or not a terminal."""
    if arguments.json or not sys.stderr.isatty():
        return None

    def show(what: str, done: int, total: int) -> None:
        end = "\n" if done == total else ""
        print(f"\r{what[:60]:<60} {done}/{total}   ", end=end, file=sys.stderr, flush=True)

    return show
