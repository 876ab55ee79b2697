"""Training windows: a portrait, the portrait warped to later frames of the same face, and these true frames.

From clips: frame i is the portrait; frames j, j+1, ... are the target, chosen to differ from it. From stills: a warp
closes the mouth, moves lids and turns the head, which gives the portrait; the original picture is the target.
``engines.data.made`` makes targets that no picture shows.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from avatar_stream.face import geometry, mesh
from avatar_stream.face.geometry import Pose
from avatar_stream.face.mesh import Floats
from avatar_stream.face.motion import Motion, MotionEstimator
from avatar_stream.face.mouth_view import MAX_CELL_VALUE, VIEW_COLUMNS, VIEW_ROWS, read_mouth
from avatar_stream.face.retarget import Retargeter
from avatar_stream.portrait.aligned import RestFace, aligned_input, rest_face, to_aligned
from avatar_stream.portrait.interior.closed_lips import close_lips
from avatar_stream.portrait.interior.layer import Interior
from avatar_stream.portrait.portrait import Portrait, prepare_tracked
from avatar_stream.portrait.warp import PortraitWarp
from engines.data.packs import Footage

Image = npt.NDArray[np.uint8]
CONTEXT_FRAMES = 2  # before the window; the landmark encoder sees them
TARGET_CANDIDATES = 6
LIP_EDGE_GAP = 0.035  # eye distances
LIVE_SHARE = 0.5  # of a clip's windows use the landmarks that the live path would give
UNSEEN_MOUTH_SHARE = 0.2  # of the windows have no camera view of the driver's mouth
MAX_LANDMARK_ERRORS = (0.06, 0.12)  # of live landmarks: lip gap (eye distances), eye opening (eye widths)


@dataclass(frozen=True, slots=True)
class PreparedPortrait:
    """A portrait ready to be rendered: warp, interior, and its face at rest."""

    warp: PortraitWarp
    interior: Interior
    rest: RestFace

    @staticmethod
    def of(warp: PortraitWarp, picture: Image, landmarks: Floats) -> "PreparedPortrait":
        """Prepare the picture that ``warp`` was made from."""
        return PreparedPortrait(warp, Interior(picture, landmarks), rest_face(picture, landmarks))


@dataclass(frozen=True, slots=True)
class Window:
    """One training sample of ``n`` consecutive frames; images are RGB ``uint8`` in the aligned frame."""

    reference: Image  # (192, 192, 3)
    shown: Image  # (n, 192, 192, 3) the network's input: warp and interior
    warp: Image  # (n, 192, 192, 3) the warp alone, for comparison
    target: Image  # (n, 192, 192, 3)
    raster: Image  # (CONTEXT_FRAMES + n, 7, 96, 96)
    gate: Image  # (n, 192, 192) where the network may paint, 0..255
    person: int  # number of the person


@dataclass(frozen=True, slots=True)
class RendererInput:
    """Input of the live renderer: portrait, target landmarks in crop pixels, and the driver's mouth view."""

    portrait: Portrait
    target: Floats
    view: Floats | None


def unwarpable_difference(clip: Footage, i: int, j: int) -> float:
    """How much of frame j a warp of portrait i cannot show."""
    mouth = max(float(clip.mouth[j] - clip.mouth[i]), 0.0)
    eyes = abs(float(clip.eyes[j] - clip.eyes[i]))
    gaze = float(np.linalg.norm(clip.gaze[j] - clip.gaze[i]))
    return 8 * mouth + 2.0 * eyes + 2.5 * gaze


def landmarks_agree(target: Floats, truth: Floats) -> bool:
    """Whether lips and eyes are open alike in both landmarks, so that a warp can move a picture between them."""
    lips = np.abs(geometry.lip_gaps(target) - geometry.lip_gaps(truth)).max()
    eyes = np.abs(np.subtract(geometry.eye_openings(target), geometry.eye_openings(truth))).max()
    return bool(lips < MAX_LANDMARK_ERRORS[0] and eyes < MAX_LANDMARK_ERRORS[1])


class ClipWindows:
    """Windows from one clip; portraits are prepared once, on first use."""

    def __init__(self, clip: Footage, person: int = 0) -> None:
        self.clip, self.person = clip, person
        self.portraits = list(clip.portraits)
        self._prepared: dict[int, tuple[PreparedPortrait, Retargeter, tuple[int, int, int, int]]] = {}
        self._motions: list[tuple[Motion, Pose] | None] | None = None

    def prepare(self, i: int) -> tuple[PreparedPortrait, Retargeter, tuple[int, int, int, int]]:
        """Frame i as a portrait, its retargeter, and its box (left, top, width, height) in the frame."""
        if i not in self._prepared:
            clip = self.clip
            matte = clip.matte(i) if i in clip.portraits else None
            portrait = prepare_tracked(clip.picture(i), clip.landmarks[i], 512, matte)
            closed_lips = close_lips(portrait.crop, portrait.landmarks)
            warp = PortraitWarp(
                portrait.crop, portrait.plate, portrait.matte, portrait.landmarks, closed_lips=closed_lips
            )
            prepared = PreparedPortrait.of(warp, portrait.crop, portrait.landmarks)
            self._prepared[i] = (prepared, Retargeter(portrait.landmarks), portrait.box)
        return self._prepared[i]

    def window(
        self, i: int, j: int, n: int, *, live: bool = False, random: np.random.Generator | None = None
    ) -> Window:
        """Portrait i, targets j .. j+n-1.

        With ``live``, target landmarks come from retargeting as in the live path, with the frame's own head pose. If
        they are too far from the true landmarks, the true ones are used.
        """
        clip = self.clip
        prepared, retarget, (left, top, width, height) = self.prepare(i)
        frames = [min(max(k, 0), len(clip) - 1) for k in range(j - CONTEXT_FRAMES, j + n)]
        frames = [k if clip.has_face[k] else j for k in frames]
        offset = np.array([left, top, 0], np.float32)
        truths = [clip.landmarks[k] - offset for k in frames]
        targets = truths
        if live:
            targets = []
            for k in frames:
                motion, pose = self._read(k)
                targets.append(np.asarray(pose.apply(retarget.with_expression(motion)) - offset, np.float32))
            # A picture with open eyes cannot be warped to shut eyes.
            if not all(landmarks_agree(target, truth) for target, truth in zip(targets, truths, strict=True)):
                targets = truths
        pictures = [clip.picture(k)[top : top + height, left : left + width] for k in frames[CONTEXT_FRAMES:]]
        return make_window(prepared, targets, pictures, self.person, truths[CONTEXT_FRAMES:], random)

    def _read(self, k: int) -> tuple[Motion, Pose]:
        """Motion of frame k as the live path estimates it, and its head pose."""
        if self._motions is None:
            driver = MotionEstimator()
            self._motions = []
            for face, good in zip(self.clip.landmarks, self.clip.has_face, strict=True):
                if not good:
                    self._motions.append(None)
                    continue
                motion = driver(face)
                assert driver.fit is not None
                self._motions.append((motion, driver.fit.pose))
        found = self._motions[k]
        assert found is not None
        return found

    def renderer_input(self, i: int, j: int) -> RendererInput:
        """Input of the live renderer to show portrait i as frame j."""
        portrait = prepare_tracked(self.clip.picture(i), self.clip.landmarks[i], 512)
        target = self.clip.landmarks[j] - np.array([*portrait.box[:2], 0], np.float32)
        return RendererInput(portrait, target, read_mouth(self.clip.picture(j), self.clip.landmarks[j]))

    def draw(self, n: int, random: np.random.Generator) -> Window:
        """A random window; the target is the candidate that differs most from the portrait."""
        clip = self.clip
        i = int(random.choice(self.portraits))
        last = len(clip) - n
        candidates = [
            int(j) for j in random.integers(0, last + 1, TARGET_CANDIDATES) if clip.has_face[j : j + n].all()
        ]
        if not candidates:
            return self.draw(n, random)
        chosen = max(candidates, key=lambda j: unwarpable_difference(clip, i, j))
        return self.window(i, chosen, n, live=bool(random.random() < LIVE_SHARE), random=random)


class StillWindows:
    """Windows from one still."""

    def __init__(self, still: Footage, person: int = 0) -> None:
        self.still, self.person = still, person

    def draw(self, n: int, random: np.random.Generator) -> Window:
        """The portrait is the still with perturbed landmarks; the frames lead from there back to the still itself."""
        picture, landmarks = self.still.picture(0), self.still.landmarks[0]
        forth = plain_warp(picture, landmarks)
        at_rest = perturb_landmarks(landmarks, random)
        portrait = forth(at_rest).image
        step = 0.12 * float(random.random())
        path = [1 - step * k for k in range(CONTEXT_FRAMES + n)][::-1]
        targets = [(at_rest + (landmarks - at_rest) * s).astype(np.float32) for s in path]
        wanted = zip(path[CONTEXT_FRAMES:], targets[CONTEXT_FRAMES:], strict=True)
        pictures = [picture if s == 1 else forth(t).image for s, t in wanted]
        back = plain_warp(portrait, at_rest, drawn=True)
        return make_window(
            PreparedPortrait.of(back, portrait, at_rest), targets, pictures, self.person, random=random
        )


def plain_warp(picture: Image, landmarks: Floats, *, drawn: bool = False) -> PortraitWarp:
    """A warp of a whole picture with its background; ``drawn`` if the mouth's inside will be drawn over it."""
    everything = np.full(picture.shape[:2], 255, np.uint8)
    closed_lips = close_lips(picture, landmarks) if drawn else None
    return PortraitWarp(picture, picture, everything, landmarks, closed_lips=closed_lips)


def perturb_landmarks(landmarks: Floats, random: np.random.Generator) -> Floats:
    """Landmarks with the mouth (mostly) closed, lids and irises moved, and the head turned a little."""
    pose = geometry.head_pose(landmarks)
    face = pose.apply_inverse(landmarks)
    close = float(random.choice([1.0, 1.0, 0.8, random.random()]))
    upper, lower = list(mesh.INNER_LIP_UPPER), list(mesh.INNER_LIP_LOWER)
    gap = face[lower, 1] - face[upper, 1]
    if close == 1 and random.random() < 0.7:
        # A smile still shows teeth where the lips' landmarks meet; close it further, so that none are seen.
        gap = gap + LIP_EDGE_GAP * np.sin(np.linspace(0, np.pi, len(upper)))
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
    prepared: PreparedPortrait,
    targets: list[Floats],
    pictures: list[Image],
    person: int,
    truths: list[Floats] | None = None,
    random: np.random.Generator | None = None,
) -> Window:
    """The window of a portrait: ``targets`` for ``CONTEXT_FRAMES + n`` frames, ``pictures`` of the last ``n``.

    ``truths`` are the landmarks of these pictures if they differ from the targets. The pictures are then warped to
    the targets: otherwise the network learns to blur edges that the live path misplaces by a pixel. With ``random``
    the mouth view is varied as by another camera and face, or left out.
    """
    shown, plain, wanted, rasters, gates = [], [], [], [], []
    camera_gains = None if random is None else _random_camera_gains(random)
    # The first context frame needs no accuracy: use a copy of the next one.
    for k, target in enumerate(targets[1:], 1):
        warped = prepared.warp(target)
        alone = warped.image.copy()
        view = None
        if k >= CONTEXT_FRAMES:
            view = read_mouth(pictures[k - CONTEXT_FRAMES], target if truths is None else truths[k - CONTEXT_FRAMES])
        if view is not None and random is not None:
            view = (
                None if camera_gains is None else np.clip(view * camera_gains, 0, MAX_CELL_VALUE).astype(np.float32)
            )
        prepared.interior.draw(warped.image, target, view)
        seen = aligned_input(warped, target, prepared.rest)
        rasters.append(seen.raster)
        if k >= CONTEXT_FRAMES:
            shown.append(seen.shown)
            gates.append((seen.gate * 255).astype(np.uint8))
            plain.append(to_aligned(alone, seen.matrix))
            picture = pictures[k - CONTEXT_FRAMES]
            if truths is not None and truths[k - CONTEXT_FRAMES] is not target:
                picture = plain_warp(picture, truths[k - CONTEXT_FRAMES])(target).image
            wanted.append(to_aligned(picture, seen.matrix))
    rasters.insert(0, rasters[0])
    reference = prepared.rest.image
    return Window(
        reference, np.stack(shown), np.stack(plain), np.stack(wanted), np.stack(rasters), np.stack(gates), person
    )


def _random_camera_gains(random: np.random.Generator) -> Floats | None:
    """Random gains of a mouth view's cells, as between faces and rooms; None if no camera sees the mouth."""
    if random.random() < UNSEEN_MOUTH_SHARE:
        return None
    whole = random.normal(0, [0.12, 0.05])
    cells = random.normal(0, 0.06, (VIEW_ROWS, VIEW_COLUMNS, 1))
    return np.asarray(np.exp(cells + [whole[0], whole.sum()]), np.float32)
