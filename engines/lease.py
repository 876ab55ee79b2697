"""Train on a GPU lent for some minutes: run each stage for its share, then cut the result into small files.

``python -m engines.lease --packs FOLDER --out OUT --minutes 9 --init engines/checkpoints/live-256.npz``

Needs torch, NumPy, SciPy, OpenCV and Matplotlib, but not MediaPipe: packs hold the landmarks. If each call may copy
only a few megabytes, copy one pack per call into ``FOLDER`` first. Then repeat this command; give ``--init`` the
checkpoint of the previous call (``cat live-256.npz.* > live-256.npz`` joins its pieces).
"""

import argparse
from pathlib import Path

from engines.checkpoint import keep_model, load_model
from engines.train import train_in_subprocess

# Share of the minutes by stage, in order. Motion gains most from a short training.
MINUTE_SHARES = {"motion": 0.55, "identity": 0.1, "joint": 0.15, "slide": 0.2}
MINUTE_SHARES_WITH_TEACHER = {"distil": 0.7, "slide": 0.3}
MAX_PIECE_BYTES = 15_000_000


def split_file(path: Path, size: int = MAX_PIECE_BYTES) -> list[Path]:
    """Cut a file into ``path.00``, ``path.01``, ... of at most ``size`` bytes, and remove the original."""
    data = path.read_bytes()
    pieces = []
    for k in range(0, len(data), size):
        pieces.append(path.with_name(f"{path.name}.{k // size:02}"))
        pieces[-1].write_bytes(data[k : k + size])
    path.unlink()
    return pieces


def main(given: list[str] | None = None) -> None:
    """Train through the stages and keep the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--packs", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, required=True)
    parser.add_argument("--tier", default="live-256")
    parser.add_argument("--init", type=Path, help="kept checkpoint to start from")
    parser.add_argument("--teacher", type=Path, help="checkpoint of a teacher: distil from it")
    parser.add_argument("--batch", type=int, default=96)
    parser.add_argument("--workers", type=int, default=14)
    parser.add_argument(
        "--dev-pairs",
        type=int,
        default=0,
        help="dev figures need MediaPipe; 0: no dev figures, and no dev packs needed",
    )
    arguments = parser.parse_args(given)
    shares = MINUTE_SHARES_WITH_TEACHER if arguments.teacher else MINUTE_SHARES
    before = arguments.init
    for stage, share in shares.items():
        run = arguments.out / stage
        command = [stage, str(run), "--packs", str(arguments.packs), "--tier", arguments.tier, "--decay"]
        command += ["--minutes", str(share * arguments.minutes), "--batch", str(arguments.batch)]
        command += ["--workers", str(arguments.workers), "--fresh", str(max(1, arguments.batch // 4))]
        command += ["--dev-pairs", str(arguments.dev_pairs)]
        command += ["--init", str(before)] if before else []
        command += ["--teacher", str(arguments.teacher)] if stage == "distil" else []
        train_in_subprocess(command)
        before = run / "last.pt"
    kept = arguments.out / f"{arguments.tier}.npz"
    keep_model(load_model(before, arguments.tier), kept)
    for stage in shares:
        (arguments.out / stage / "last.pt").unlink()  # too large to copy back, and not needed later
    for piece in split_file(kept):
        print(piece, f"{piece.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
