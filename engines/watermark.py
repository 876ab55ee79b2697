"""Measures detection and false alarms of the watermark: ``python -m engines.watermark DATA --packs runs/packs``.

Detection: dev portraits driven through the warp, encoded as the server does at 1.5 Mbit/s, encoded again as VP8 at
1 Mbit/s, and read from two seconds. False alarms: every still and every clip of the data folder.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import av
import cv2
import numpy as np

from avatar_stream.media.encode import VideoEncoder
from avatar_stream.media.marking import Marker
from avatar_stream.media.watermark import DETECTION_THRESHOLD, Luma, detection_score
from avatar_stream.pipeline.avatar import Avatar
from avatar_stream.portrait.portrait import prepare_tracked
from avatar_stream.tools.inspect import FRAMES_PER_PIECE, _pieces
from engines.data.packs import Footage, load_packs
from engines.judges import Image

PICTURE_SIZE = 384
SETTLING_FRAMES = 8  # of a recording, before the two seconds


def avatar_pictures(still: Footage, clip: Footage) -> list[Image]:
    """Avatar pictures for a little more than two seconds."""
    picture = still.picture(0)
    scale = PICTURE_SIZE / picture.shape[0]
    large = cv2.resize(picture, (PICTURE_SIZE, PICTURE_SIZE), interpolation=cv2.INTER_CUBIC).astype(np.uint8)
    avatar = Avatar(prepare_tracked(large, (still.landmarks[0] * scale).astype(np.float32), PICTURE_SIZE), None)
    pictures = [avatar(clip.picture(k % len(clip)), k / 25) for k in range(FRAMES_PER_PIECE + SETTLING_FRAMES)]
    avatar.close()
    return pictures


def transcode(frames: list[av.VideoFrame], bitrate: int) -> list[av.VideoFrame]:
    """Encode as the server does (VP8, ``bitrate`` in bit/s) and decode."""
    encoder, decoder = VideoEncoder("VP8", 25), av.CodecContext.create("vp8", "r")
    encoder.bitrate = bitrate
    out: list[av.VideoFrame] = []
    for number, frame in enumerate(frames):
        for packet in encoder.encode(frame, number * 3600):
            out += decoder.decode(av.Packet(bytes(packet)))
    return [frame.reformat(format="yuv420p") for frame in out]


def luma(frame: av.VideoFrame) -> Luma:
    """The luma plane of a frame."""
    return np.asarray(frame.to_ndarray()[: frame.height, : frame.width], np.uint8)


def main(given: list[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--packs", type=Path, required=True)
    parser.add_argument("--stills", type=int, default=1000)
    arguments = parser.parse_args(given)
    clips = load_packs(arguments.packs, "dev", "clip")
    stills = load_packs(arguments.packs, "dev", "still")[: arguments.stills]
    sigmas, quality = [], []
    for number, still in enumerate(stills):
        pictures = avatar_pictures(still, clips[number % len(clips)])
        marker, plain = Marker(), Marker(watermark=False)
        marked = [marker(picture) for picture in pictures]
        error = luma(marked[0]).astype(float) - luma(plain(pictures[0]))
        quality.append(10 * np.log10(255**2 / (error**2).mean()))
        recorded = transcode(transcode(marked, 1_500_000), 1_000_000)
        sigmas.append(detection_score(luma(frame) for frame in recorded[-FRAMES_PER_PIECE:]))
    read = np.array(sigmas)
    print(
        f"marked: {(read > DETECTION_THRESHOLD).sum()} of {len(read)} found;"
        f" {read.mean():.1f} sigma on average, {read.min():.1f} at"
        f" least; the mark is {np.mean(quality):.1f} dB below the picture"
    )
    unmarked = np.array(list(_unmarked(arguments.data)))
    print(
        f"not marked: {(unmarked > DETECTION_THRESHOLD).sum()} of {len(unmarked)} pieces found;"
        f" deviation {unmarked.std():.2f} sigma, {unmarked.max():.1f} at most"
    )


def _unmarked(folder: Path) -> Iterator[float]:
    for path in sorted((folder / "stills").glob("*.jpg")) + sorted((folder / "clips").glob("*.mp4")):
        for piece in _pieces(path):
            yield detection_score(piece)


if __name__ == "__main__":
    main()
