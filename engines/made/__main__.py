"""``python -m engines.made --out FOLDER``: made faces for training, as packs that ``engines.train`` reads.

Needs ``pip install .[made]``, the packs of ``engines.data.packs``, and ``ict-facekit`` and ``pairs`` of the data.
"""

import argparse
import os
import resource
import sys
from pathlib import Path
from typing import Final

from avatar_stream.errors import AvatarError, BadInput

MAX_MEMORY_BYTES: Final = 3_000_000_000


def main(given: list[str] | None = None) -> None:
    """Make faces until the requested number exists."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument(
        "--packs", type=Path, default=Path("runs/packs"), help="of engines.data.packs (default %(default)s)"
    )
    parser.add_argument("--data", type=Path, default=Path("data"), help="the data folder (default %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--people", type=int, default=1_000_000)
    parser.add_argument("--frames", type=int, default=1_000_000)
    parser.add_argument("--workers", type=int, default=1, help="threads of the software rasteriser")
    arguments = parser.parse_args(given)
    # Mesa reads this once, when the context is made.
    os.environ.setdefault("LP_NUM_THREADS", str(arguments.workers))
    try:
        try:
            import cv2
            import moderngl  # noqa: F401
        except ImportError as error:
            raise BadInput(f"{error.name} is missing: install it with pip install .[made]") from None
        from engines.made.factory import Factory, Job

        cv2.setNumThreads(arguments.workers)
        job = Job(arguments.out, arguments.packs, arguments.data, arguments.seed, arguments.people, arguments.frames)
        for _ in Factory(job).run():
            pages = int(Path("/proc/self/statm").read_text().split()[1])
            if pages * resource.getpagesize() > MAX_MEMORY_BYTES:
                # MediaPipe leaks a little memory per graph. Restart the process: the run resumes at the next pack.
                os.execv(sys.executable, [sys.executable, "-m", "engines.made", *(given or sys.argv[1:])])
    except AvatarError as error:
        raise SystemExit(f"engines.made: {error}") from None


if __name__ == "__main__":
    main()
