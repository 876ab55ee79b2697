"""A character from its enrolment on: how fast it is there, and whether it is the same in every session.

``python -m engines.characters`` enrols a sample and drives it by the sample clip in ten sessions, each begun at
another place of it; dlib says how far its pictures are apart within a session and between two.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt

from avatar_stream.identity.enrol import enrol, portrait_of
from avatar_stream.identity.library import SAMPLES, Library, sample_pictures
from avatar_stream.identity.likeness import Likeness, distance, shrink_aligned
from avatar_stream.identity.store import Store
from avatar_stream.media.files import Clip
from avatar_stream.pipeline.avatar import Avatar
from avatar_stream.portrait.portrait import Portrait, prepare_tracked
from avatar_stream.runtime.networks import Networks
from engines.data.packs import load_packs
from engines.judges import IdentityJudge, Image

SESSIONS = 10
EVERY = 25  # frames between two that are compared
SETTLED = 250  # frames in which a driver's rest is learnt


def enrolled(store: Store, name: str) -> str:
    """Id of a sample, enrolled."""
    said = {"name": name, "consent": "An average of two dozen people: nobody is shown", "owner": "measurement"}
    picture = sample_pictures()[name].read_bytes()
    return enrol(store, [picture], refer=Networks.shared().refer, **said).character.id  # type: ignore[arg-type]


def session(
    portrait: Portrait, pictures: list[Image], start: int, judge: IdentityJudge, settled: int
) -> npt.NDArray[np.float64]:
    """What dlib says of a session's pictures, at the same moments of the clip wherever it begins."""
    avatar, found = Avatar(portrait, Networks.shared()), {}
    for k in range(settled + len(pictures)):
        phase = (start + k) % len(pictures)
        shown = avatar.draw(avatar.follow(pictures[phase], k / 25)).picture
        if k >= settled and phase % EVERY == EVERY // 2:
            vector = judge.embed(shown)
            if vector is not None:
                found[phase] = vector
    avatar.close()
    return np.stack([found[phase] for phase in sorted(found)])


def guarded(packs: Path, most: int) -> None:
    """How far painted faces are from unpainted ones while all is well: every fourth of 120 frames of each person."""
    clips, stills = load_packs(packs, "dev", "clip"), load_packs(packs, "dev", "still")[:most]
    embed, found = Likeness.shared(), []
    for number, still in enumerate(stills):
        clip = clips[number % len(clips)]
        avatar = Avatar(prepare_tracked(still.picture(0), still.landmarks[0], 512), Networks.shared())
        for k in range(120):
            avatar.draw(avatar.follow(clip.picture((k + 7 * number) % len(clip)), k / 25))
            faces = avatar.renderer.last_faces()
            if k % 4 == 0 and faces is not None:
                found.append(distance(*(embed(shrink_aligned(face)) for face in faces)))
        avatar.close()
    middle, rare, last = np.quantile(found, [0.5, 0.99, 1])
    looks = f"{len(found)} looks at {len(stills)} people"
    print(f"{looks}: {middle:.2f} in the middle, {rare:.2f} for one in a hundred, {last:.2f} at most")


def main(given: list[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--packs", type=Path, help="measure the guard on dev people instead")
    parser.add_argument("--stills", type=int, default=1000)
    parser.add_argument("--settled", type=int, default=SETTLED, help="frames of a session before it is judged")
    arguments = parser.parse_args(given)
    if arguments.packs:
        guarded(arguments.packs, arguments.stills)
        return
    clip = Clip(SAMPLES / "driver.mp4")
    pictures = [picture for _, picture in clip.frames()]
    clip.close()
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder))
        enrolled(store, "noor")  # what is loaded once is loaded
        began = time.perf_counter()
        key = enrolled(store, "felix")
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
        step = len(pictures) // SESSIONS
        runs = [session(library.get(key), pictures, k * step, judge, arguments.settled) for k in range(SESSIONS)]
        store.close()
    count = min(len(run) for run in runs)
    runs = [run[:count] for run in runs]
    others = ~np.eye(count, dtype=bool)

    def apart(a: npt.NDArray[np.float64], b: npt.NDArray[np.float64]) -> float:
        return float(np.linalg.norm(a[:, None] - b[None], axis=-1)[others].mean())

    within = np.mean([apart(run, run) for run in runs])
    between = np.mean([apart(runs[a], runs[b]) for a in range(SESSIONS) for b in range(a)])
    same = np.mean([np.linalg.norm(runs[a] - runs[b], axis=-1).mean() for a in range(SESSIONS) for b in range(a)])
    print(f"dlib between different moments: within a session {within:.3f}, between two {between:.3f}")
    print(f"dlib between the same moment of two sessions: {same:.3f}")


if __name__ == "__main__":
    main()
