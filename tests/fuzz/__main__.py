"""Coverage-guided fuzzing: the extra ``fuzz``, then ``python -m tests.fuzz TARGET [--runs 100000]``."""

import argparse
import sys
import tempfile
from pathlib import Path

from avatar_stream.extras import install_command

try:
    import atheris
except ModuleNotFoundError:
    sys.exit(f"python -m tests.fuzz needs atheris: {install_command('fuzz')}")

with atheris.instrument_imports(
    include=[f"avatar_stream.{name}" for name in ("server", "identity", "portrait.portrait", "rigs", "face", "media")]
):
    from tests.fuzz.targets import TARGETS, seeds


def main() -> None:
    """Fuzz the target; exits with libFuzzer's code, 0 if no run failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("target", choices=TARGETS)
    parser.add_argument("--runs", type=int, default=100_000)
    parser.add_argument("--corpus", type=Path, help="folder to keep found inputs in")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for number, seed in enumerate(seeds()[arguments.target]):
            (Path(folder) / f"seed{number}").write_bytes(seed)
        corpus = [str(arguments.corpus)] if arguments.corpus else []
        flags = [f"-runs={arguments.runs}", "-max_len=16384", "-timeout=10"]
        atheris.Setup([sys.argv[0], *corpus, folder, *flags], TARGETS[arguments.target])
        atheris.Fuzz()


if __name__ == "__main__":
    main()
