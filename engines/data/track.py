"""Track every clip and still of a data folder once: ``python -m engines.data.track DATA OUT.npz``.

Writes per file ``<name>`` = ``float32 (frames, 478, 3)`` landmarks in pixels; NaN where no face was found.
Clips are tracked unsmoothed: training wants what is in the frame, not what is pleasant to watch.
"""

import argparse
import csv
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from avatar_stream.face.mesh import LANDMARKS
from avatar_stream.face.tracker import FaceTracker, landmarks_of_still


def read_clip(path: Path) -> npt.NDArray[np.uint8]:
    """All frames of a clip as RGB ``uint8 (n, h, w, 3)``."""
    capture = cv2.VideoCapture(str(path))
    frames: list[npt.NDArray[np.uint8]] = []
    while True:
        ok, frame = capture.read()
        if not ok:
            return np.stack(frames).astype(np.uint8)
        frames.append(np.asarray(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB), np.uint8))


def read_still(path: Path) -> npt.NDArray[np.uint8]:
    """A still as RGB ``uint8 (h, w, 3)``."""
    image = cv2.imread(str(path))
    if image is None:
        raise FileNotFoundError(path)
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB).astype(np.uint8)


def main(given: list[str] | None = None) -> None:
    """Track everything the manifest lists."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    arguments = parser.parse_args(given)
    tracks: dict[str, npt.NDArray[np.float32]] = {}
    missing = np.full((LANDMARKS, 3), np.nan, np.float32)
    with open(arguments.data / "manifest.csv") as stream:
        rows = list(csv.DictReader(stream))
    for number, row in enumerate(rows):
        path = arguments.data / row["file"]
        if row["kind"] == "clip":
            tracker = FaceTracker(smooth=False, hold=0)
            found = [tracker.update(frame, i / 25).landmarks for i, frame in enumerate(read_clip(path))]
            tracker.close()
        else:
            found = [landmarks_of_still(read_still(path))]
        tracks[row["file"]] = np.stack([missing if f is None else f for f in found])
        if number % 100 == 0:
            print(f"{number}/{len(rows)}", flush=True)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(arguments.out, **tracks)


if __name__ == "__main__":
    main()
