"""Training windows: a portrait, the same face's next frames warped from it, and what they really look like.

From clips: frame i is the portrait, frames j, j+1, ... the target, chosen to differ. From stills: the picture with
its mouth closed, lids moved and head turned by a warp is the portrait, the untouched picture the target. Targets that
no picture shows are made in ``engines.data.made``.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from avatar_stream.face import geometry, mesh
from avatar_stream.face.geometry import Pose
from avatar_stream.face.mesh import Floats
from avatar_stream.face.motion import Motion, MotionEstimator
from avatar_stream.face.mouth_view import MAX_TOOTH_SHARE, VIEW_COLUMNS, VIEW_ROWS, read_mouth
from avatar_stream.face.retarget import Retargeter
from avatar_stream.portrait.aligned import RestFace, aligned_input, rest_face, to_aligned
from avatar_stream.portrait.interior.layer import Interior
from avatar_stream.portrait.interior.lip_edges import lips_meeting
from avatar_stream.portrait.portrait import Portrait, prepare_tracked
from avatar_stream.portrait.warp import PortraitWarp
from engines.data.packs import Footage

Image = npt.NDArray[np.uint8]
CONTEXT = 2  # frames before the window that the landmark encoder has seen
CANDIDATES = 6
LIP_EDGE = 0.035  # of the eye distance
LIVE = 0.5  # share of a clip's windows whose landmarks are those that the live path would give
UNSEEN = 0.2  # share of the windows whose driver's mouth no camera sees
AGREE = (0.06, 0.12)  # how far these may be from the truth in the lips' gap and in the opening of the eyes


@dataclass(frozen=True, slots=True)
class Painter:
    """A portrait ready to be moved: warp, interior, and what it shows at rest."""

    warp: PortraitWarp
    interior: Interior
    rest: RestFace

    @staticmethod
    def of(warp: PortraitWarp, picture: Image, landmarks: Floats) -> "Painter":
        """Of a picture that ``warp`` moves."""
        return Painter(warp, Interior(picture, landmarks), rest_face(picture, landmarks))


@dataclass(frozen=True, slots=True)
class Window:
    """One training sample of ``n`` consecutive frames; images are RGB ``uint8`` in the aligned frame."""

    reference: Image  # (192, 192, 3)
    shown: Image  # (n, 192, 192, 3) what the network starts from
    warp: Image  # (n, 192, 192, 3) the warp alone, for comparison
    target: Image  # (n, 192, 192, 3)
    raster: Image  # (CONTEXT + n, 7, 96, 96)
    gate: Image  # (n, 192, 192) where the network may paint, 0..255
    person: int  # the same number for the same person


@dataclass(frozen=True, slots=True)
class Source:
    """A prepared portrait, the landmarks it is to be moved to, in crop pixels, and what the mouth shows there."""

    portrait: Portrait
    target: Floats
    view: Floats | None


def difference(clip: Footage, i: int, j: int) -> float:
    """How much frame j asks of a portrait i that a warp cannot give."""
    mouth = max(float(clip.mouth[j] - clip.mouth[i]), 0.0)
    eyes = abs(float(clip.eyes[j] - clip.eyes[i]))
    gaze = float(np.linalg.norm(clip.gaze[j] - clip.gaze[i]))
    return 8 * mouth + 2.0 * eyes + 2.5 * gaze


def agree(target: Floats, truth: Floats) -> bool:
    """Both landmarks open lips and eyes alike, so that a warp can take a picture from one to the other."""
    lips = np.abs(geometry.lip_gaps(target) - geometry.lip_gaps(truth)).max()
    eyes = np.abs(np.subtract(geometry.eye_openings(target), geometry.eye_openings(truth))).max()
    return bool(lips < AGREE[0] and eyes < AGREE[1])


class ClipWindows:
    """Windows from one clip; portraits are prepared once, on first use."""

    def __init__(self, clip: Footage, person: int = 0) -> None:
        self.clip, self.person = clip, person
        self.portraits = list(clip.portraits)
        self._prepared: dict[int, tuple[Painter, Retargeter, tuple[int, int, int, int]]] = {}
        self._motions: list[tuple[Motion, Pose] | None] | None = None

    def prepared(self, i: int) -> tuple[Painter, Retargeter, tuple[int, int, int, int]]:
        """Frame i as a portrait, and its box (left, top, width, height) in the frame."""
        if i not in self._prepared:
            clip = self.clip
            matte = clip.matte(i) if i in clip.portraits else None
            portrait = prepare_tracked(clip.picture(i), clip.landmarks[i], 512, matte)
            meeting = lips_meeting(portrait.crop, portrait.landmarks)
            warp = PortraitWarp(portrait.crop, portrait.plate, portrait.matte, portrait.landmarks, meeting=meeting)
            painter = Painter.of(warp, portrait.crop, portrait.landmarks)
            self._prepared[i] = (painter, Retargeter(portrait.landmarks), portrait.box)
        return self._prepared[i]

    def window(
        self, i: int, j: int, n: int, *, live: bool = False, random: np.random.Generator | None = None
    ) -> Window:
        """Portrait i, targets j .. j+n-1.

        With ``live`` the portrait's face is put together as the live path does it, from what the driver's face says,
        wherever that comes near the truth; only the head's pose is the frame's own.
        """
        clip = self.clip
        painter, retarget, (left, top, width, height) = self.prepared(i)
        frames = [min(max(k, 0), len(clip) - 1) for k in range(j - CONTEXT, j + n)]
        frames = [k if clip.good[k] else j for k in frames]
        offset = np.array([left, top, 0], np.float32)
        truths = [clip.landmarks[k] - offset for k in frames]
        targets = truths
        if live:
            targets = []
            for k in frames:
                motion, pose = self._read(k)
                targets.append(np.asarray(pose.apply(retarget.with_expression(motion)) - offset, np.float32))
            # A picture with open eyes cannot stand for one with shut eyes, however it is moved.
            if not all(agree(target, truth) for target, truth in zip(targets, truths, strict=True)):
                targets = truths
        pictures = [clip.picture(k)[top : top + height, left : left + width] for k in frames[CONTEXT:]]
        return make_window(painter, targets, pictures, self.person, truths[CONTEXT:], random)

    def _read(self, k: int) -> tuple[Motion, Pose]:
        """Frame k as the live path reads it, and its pose."""
        if self._motions is None:
            driver = MotionEstimator()
            self._motions = []
            for face, good in zip(self.clip.landmarks, self.clip.good, strict=True):
                if not good:
                    self._motions.append(None)
                    continue
                motion = driver(face)
                assert driver.fit is not None
                self._motions.append((motion, driver.fit.pose))
        found = self._motions[k]
        assert found is not None
        return found

    def source(self, i: int, j: int) -> Source:
        """What the live engine needs to show portrait i as frame j."""
        portrait = prepare_tracked(self.clip.picture(i), self.clip.landmarks[i], 512)
        target = self.clip.landmarks[j] - np.array([*portrait.box[:2], 0], np.float32)
        return Source(portrait, target, read_mouth(self.clip.picture(j), self.clip.landmarks[j]))

    def draw(self, n: int, random: np.random.Generator) -> Window:
        """A random window, the pair chosen for difference."""
        clip = self.clip
        i = int(random.choice(self.portraits))
        last = len(clip) - n
        candidates = [int(j) for j in random.integers(0, last + 1, CANDIDATES) if clip.good[j : j + n].all()]
        if not candidates:
            return self.draw(n, random)
        chosen = max(candidates, key=lambda j: difference(clip, i, j))
        return self.window(i, chosen, n, live=bool(random.random() < LIVE), random=random)


class StillWindows:
    """Windows from one still."""

    def __init__(self, still: Footage, person: int = 0) -> None:
        self.still, self.person = still, person

    def draw(self, n: int, random: np.random.Generator) -> Window:
        """The still with its face changed is the portrait; the frames come back from there to the still itself."""
        picture, landmarks = self.still.picture(0), self.still.landmarks[0]
        forth = plain_warp(picture, landmarks)
        at_rest = changed(landmarks, random)
        portrait = forth(at_rest).image
        step = 0.12 * float(random.random())
        path = [1 - step * k for k in range(CONTEXT + n)][::-1]
        targets = [(at_rest + (landmarks - at_rest) * s).astype(np.float32) for s in path]
        wanted = zip(path[CONTEXT:], targets[CONTEXT:], strict=True)
        pictures = [picture if s == 1 else forth(t).image for s, t in wanted]
        back = plain_warp(portrait, at_rest, drawn=True)
        return make_window(Painter.of(back, portrait, at_rest), targets, pictures, self.person, random=random)


def plain_warp(picture: Image, landmarks: Floats, *, drawn: bool = False) -> PortraitWarp:
    """A warp of a whole picture, background and all; ``drawn`` where the inside of its mouth will be."""
    everything = np.full(picture.shape[:2], 255, np.uint8)
    meeting = lips_meeting(picture, landmarks) if drawn else None
    return PortraitWarp(picture, picture, everything, landmarks, meeting=meeting)


def changed(landmarks: Floats, random: np.random.Generator) -> Floats:
    """Mouth (mostly) closed, lids and irises moved, head turned a little."""
    pose = geometry.head_pose(landmarks)
    face = pose.apply_inverse(landmarks)
    close = float(random.choice([1.0, 1.0, 0.8, random.random()]))
    upper, lower = list(mesh.INNER_LIP_UPPER), list(mesh.INNER_LIP_LOWER)
    gap = face[lower, 1] - face[upper, 1]
    if close == 1 and random.random() < 0.7:
        # Where the landmarks of both lips meet a smile still shows its teeth; a closed mouth tells nothing of them.
        gap = gap + LIP_EDGE * np.sin(np.linspace(0, np.pi, len(upper)))
    for ring, outer, share in ((upper, list(mesh.OUTER_LIP_UPPER), 0.35), (lower, list(mesh.OUTER_LIP_LOWER), -0.65)):
        move = close * gap * share * random.uniform(0.85, 1.0)
        face[ring, 1] += move if close < 1 else gap * share
        face[outer, 1] += move * 0.9
    face[list(mesh.JAW_LANDMARKS), 1] -= 0.45 * close * float(gap.max())
    if random.random() < 0.5:
        lids = float(random.choice([random.uniform(-0.15, 0.6), random.uniform(0.0, 0.25)]))
        for up, low in (
            (mesh.RIGHT_LID_UPPER, mesh.RIGHT_LID_LOWER),
            (mesh.LEFT_LID_UPPER, mesh.LEFT_LID_LOWER),
        ):
            inner_up, inner_low = list(up[1:-1]), list(low[1:-1])
            face[inner_up, 1] += lids * 0.9 * (face[inner_low, 1] - face[inner_up, 1])
    if random.random() < 0.6:
        look = random.normal(0, [0.03, 0.012]).astype(np.float32)
        face[468:478, :2] += np.clip(look, -0.06, 0.06)
    turn = geometry.from_rotation_vector(random.normal(0, [0.06, 0.12, 0.04]))
    moved = geometry.Pose(
        pose.scale * float(random.uniform(0.95, 1.05)), pose.rotation @ turn, pose.translation
    ).apply(face)
    return np.asarray(moved, np.float32)


def make_window(
    painter: Painter,
    targets: list[Floats],
    pictures: list[Image],
    person: int,
    truths: list[Floats] | None = None,
    random: np.random.Generator | None = None,
) -> Window:
    """The window of a portrait: ``targets`` for ``CONTEXT + n`` frames, ``pictures`` of the last ``n``.

    ``truths`` are the landmarks of these pictures where they are not the targets: the pictures are then moved to the
    targets, or a network would learn to be unsure of every edge that the live path puts a pixel aside. With
    ``random`` the mouth is seen as another camera would see it on another face, or not at all.
    """
    shown, plain, wanted, rasters, gates = [], [], [], [], []
    seen_as = None if random is None else _another_camera(random)
    # The frame furthest back only has to look plausible to the landmark encoder: the next one stands for it.
    for k, target in enumerate(targets[1:], 1):
        warped = painter.warp(target)
        alone = warped.image.copy()
        view = None
        if k >= CONTEXT:
            view = read_mouth(pictures[k - CONTEXT], target if truths is None else truths[k - CONTEXT])
        if view is not None and random is not None:
            view = None if seen_as is None else np.clip(view * seen_as, 0, MAX_TOOTH_SHARE).astype(np.float32)
        painter.interior.draw(warped.image, target, view)
        seen = aligned_input(warped, target, painter.rest)
        rasters.append(seen.raster)
        if k >= CONTEXT:
            shown.append(seen.shown)
            gates.append((seen.gate * 255).astype(np.uint8))
            plain.append(to_aligned(alone, seen.matrix))
            picture = pictures[k - CONTEXT]
            if truths is not None and truths[k - CONTEXT] is not target:
                picture = plain_warp(picture, truths[k - CONTEXT])(target).image
            wanted.append(to_aligned(picture, seen.matrix))
    rasters.insert(0, rasters[0])
    reference = painter.rest.image
    return Window(
        reference, np.stack(shown), np.stack(plain), np.stack(wanted), np.stack(rasters), np.stack(gates), person
    )


def _another_camera(random: np.random.Generator) -> Floats | None:
    """By what the cells of a mouth's view differ on another face in another room; None: no camera sees it."""
    if random.random() < UNSEEN:
        return None
    whole = random.normal(0, [0.12, 0.05])
    cells = random.normal(0, 0.06, (VIEW_ROWS, VIEW_COLUMNS, 1))
    return np.asarray(np.exp(cells + [whole[0], whole.sum()]), np.float32)
