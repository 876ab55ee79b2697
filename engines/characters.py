"""Measures characters: time from enrolment to the first frame, and constancy between sessions.

``python -m engines.characters`` enrols a sample and drives it by the sample clip in ten sessions, which start at
different places of the clip. It prints dlib's distances between pictures within a session and between two sessions.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt

from avatar_stream.identity.enrol import enrol, portrait_of
from avatar_stream.identity.library import SAMPLES, Library, sample_pictures
from avatar_stream.identity.likeness import Likeness, likeness_distance, shrink_aligned
from avatar_stream.identity.store import Store
from avatar_stream.media.files import Clip
from avatar_stream.pipeline.avatar import Avatar
from avatar_stream.portrait.portrait import Portrait, prepare_tracked
from avatar_stream.runtime.networks import Networks
from engines.data.packs import load_packs
from engines.judges import IdentityJudge, Image

SESSION_COUNT = 10
SAMPLE_INTERVAL = 25  # frames
SETTLING_FRAMES = 250  # in which the live path calibrates to the driver


def enrol_sample(store: Store, name: str) -> str:
    """Enrol a sample; returns its id."""
    fields = {"name": name, "consent": "An average of two dozen people: nobody is shown", "owner": "measurement"}
    picture = sample_pictures()[name].read_bytes()
    return enrol(store, [picture], refer=Networks.shared().refer, **fields).character.id  # type: ignore[arg-type]


def session_embeddings(
    portrait: Portrait, pictures: list[Image], start: int, judge: IdentityJudge, settled: int
) -> npt.NDArray[np.float64]:
    """dlib's embeddings ``(n, 128)`` of a session's pictures, at the same moments of the clip for every ``start``."""
    avatar, found = Avatar(portrait, Networks.shared()), {}
    for k in range(settled + len(pictures)):
        phase = (start + k) % len(pictures)
        shown = avatar.draw(avatar.follow(pictures[phase], k / 25)).picture
        if k >= settled and phase % SAMPLE_INTERVAL == SAMPLE_INTERVAL // 2:
            vector = judge.embed(shown)
            if vector is not None:
                found[phase] = vector
    avatar.close()
    return np.stack([found[phase] for phase in sorted(found)])


def measure_guard(packs: Path, limit: int) -> None:
    """Print distances between painted and unpainted faces without a fault: every fourth of 120 frames per person."""
    clips, stills = load_packs(packs, "dev", "clip"), load_packs(packs, "dev", "still")[:limit]
    embed, found = Likeness.shared(), []
    for number, still in enumerate(stills):
        clip = clips[number % len(clips)]
        avatar = Avatar(prepare_tracked(still.picture(0), still.landmarks[0], 512), Networks.shared())
        for k in range(120):
            avatar.draw(avatar.follow(clip.picture((k + 7 * number) % len(clip)), k / 25))
            faces = avatar.renderer.last_faces()
            if k % 4 == 0 and faces is not None:
                found.append(likeness_distance(*(embed(shrink_aligned(face)) for face in faces)))
        avatar.close()
    middle, rare, last = np.quantile(found, [0.5, 0.99, 1])
    checks = f"{len(found)} checks on {len(stills)} people"
    print(f"{checks}: median {middle:.2f}, {rare:.2f} for one in a hundred, {last:.2f} at most")


def main(given: list[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--packs", type=Path, help="measure the guard on dev people instead")
    parser.add_argument("--stills", type=int, default=1000)
    parser.add_argument("--settled", type=int, default=SETTLING_FRAMES, help="frames of a session before measuring")
    arguments = parser.parse_args(given)
    if arguments.packs:
        measure_guard(arguments.packs, arguments.stills)
        return
    clip = Clip(SAMPLES / "driver.mp4")
    pictures = [picture for _, picture in clip.frames()]
    clip.close()
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder))
        enrol_sample(store, "noor")  # loads the networks, which must not be measured
        began = time.perf_counter()
        key = enrol_sample(store, "felix")
        portrait = portrait_of(store, store.get(key), 384, square=True)
        avatar = Avatar(portrait, Networks.shared())
        avatar.draw(avatar.follow(pictures[0], 0.0))
        avatar.close()
        print(f"from the pictures of a person to the first frame: {time.perf_counter() - began:.2f} s")
        library = Library(size=384, uploads=1, store=store)
        for what in ("from disk", "hot"):
            began = time.perf_counter()
            library.get(key)
            print(f"prepared portrait {what}: {1e3 * (time.perf_counter() - began):.1f} ms")
        judge = IdentityJudge()
        step = len(pictures) // SESSION_COUNT
        runs = [
            session_embeddings(library.get(key), pictures, k * step, judge, arguments.settled)
            for k in range(SESSION_COUNT)
        ]
        store.close()
    count = min(len(run) for run in runs)
    runs = [run[:count] for run in runs]
    others = ~np.eye(count, dtype=bool)

    def mean_distance(a: npt.NDArray[np.float64], b: npt.NDArray[np.float64]) -> float:
        return float(np.linalg.norm(a[:, None] - b[None], axis=-1)[others].mean())

    within = np.mean([mean_distance(run, run) for run in runs])
    between = np.mean([mean_distance(runs[a], runs[b]) for a in range(SESSION_COUNT) for b in range(a)])
    same = np.mean(
        [np.linalg.norm(runs[a] - runs[b], axis=-1).mean() for a in range(SESSION_COUNT) for b in range(a)]
    )
    print(f"dlib between different moments: within a session {within:.3f}, between two {between:.3f}")
    print(f"dlib between the same moment of two sessions: {same:.3f}")


if __name__ == "__main__":
    main()
