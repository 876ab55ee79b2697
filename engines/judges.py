"""Measures of evaluation: pixels against the truth, motion by tracking again, identity by an independent network."""

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from avatar_stream.face import geometry
from avatar_stream.face.mesh import Floats
from avatar_stream.face.tracker import FaceTracker

Image = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]


def psnr(a: Image, b: Image, mask: Mask) -> float:
    """Peak signal-to-noise ratio in dB over ``mask``."""
    error = (a[mask].astype(np.float64) - b[mask]) ** 2
    return float(10 * np.log10(255**2 / max(error.mean(), 1e-3)))


def grey_deviation(image: Image, mask: npt.NDArray[np.bool_]) -> float:
    """Standard deviation of the grey levels in a mask."""
    return float(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[mask].std())


def mean_gradient(image: Image, mask: npt.NDArray[np.bool_]) -> float:
    """Mean magnitude of the grey levels' gradient in a mask."""
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32)
    return float(np.hypot(cv2.Sobel(grey, cv2.CV_32F, 1, 0), cv2.Sobel(grey, cv2.CV_32F, 0, 1))[mask].mean())


def similarity_map(a: Image, b: Image) -> npt.NDArray[np.float64]:
    """SSIM at every pixel ``(h, w)`` (Wang et al., IEEE TIP 2004), mean of the channels."""
    from skimage.metrics import structural_similarity

    _, full = structural_similarity(
        a, b, channel_axis=2, full=True, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
    )
    return np.asarray(full.mean(2), np.float64)


def track_again(pictures: list[Image]) -> list[Floats | None]:
    """Landmarks of every picture of a clip at 25 frames per second, unsmoothed; None if no face is found."""
    tracker = FaceTracker(smooth=False, hold=0)
    found = [tracker.update(picture, k / 25).landmarks for k, picture in enumerate(pictures)]
    tracker.close()
    return found


@dataclass(frozen=True)
class Signals:
    """Measures of a face over time; angles in degrees, openings and gaze relative (see ``geometry``)."""

    mouth: Floats
    smile: Floats  # distance of the mouth's corners relative to that of the eyes
    blink: Floats
    gaze: Floats  # horizontal
    yaw: Floats
    pitch: Floats
    expression: Floats  # (frames, 478, 3) in the head's axes, in eye distances
    points: Floats  # (frames, 478, 3) about their mean, in eye distances

    @staticmethod
    def of(faces: list[Floats]) -> "Signals":
        """Measures of landmarks ``(478, 3)``, one array per frame."""
        poses = [geometry.head_pose(face) for face in faces]
        angles = np.array([geometry.euler_degrees(pose.rotation) for pose in poses], np.float32).reshape(-1, 3)
        heads = [pose.apply_inverse(face) for pose, face in zip(poses, faces, strict=True)]
        return Signals(
            np.array([geometry.mouth_opening(face) for face in faces], np.float32),
            np.array(
                [np.linalg.norm(face[61] - face[291]) / geometry.eye_distance(face) for face in faces], np.float32
            ),
            np.array([np.mean(geometry.eye_openings(face)) for face in faces], np.float32),
            np.array([geometry.gaze(face)[0] for face in faces], np.float32),
            angles[:, 1],
            angles[:, 0],
            np.stack([head / max(float(np.linalg.norm(head[33] - head[263])), 1e-6) for head in heads]),
            np.stack([(face - face.mean(0)) / geometry.eye_distance(face) for face in faces]).astype(np.float32),
        )

    @property
    def jitter(self) -> float:
        """Mean size of the second difference over time, in eye distances."""
        p = self.points
        return float(np.abs(p[2:] - 2 * p[1:-1] + p[:-2]).mean())


BLINK_MARGIN = 3  # frames before and after a shut eye in which it is not fully open
# Least standard deviation of a driver's signal: if it is smaller, following cannot be measured.
MIN_DEVIATIONS = {"mouth": 0.015, "smile": 0.02, "blink": 0.03, "gaze": 0.015, "yaw": 1.5, "pitch": 1.5}


def following_figures(driver: Signals, avatar: Signals) -> dict[str, float]:
    """Correlation with the driver, and range relative to the driver's, for every signal that the driver moves."""
    row = {}
    # The tracker only guesses the gaze of an eye that is nearly shut: leave these frames out.
    shut = driver.blink < 0.6 * np.median(driver.blink)
    looking = np.convolve(shut, np.ones(2 * BLINK_MARGIN + 1), "same") < 0.5
    for name, least in MIN_DEVIATIONS.items():
        theirs, ours = getattr(driver, name), getattr(avatar, name)
        if name == "gaze":
            theirs, ours = theirs[looking], ours[looking]
        if np.std(theirs) > least:
            row[name] = float(np.corrcoef(theirs, ours)[0, 1])
            row[f"{name}_range"] = float(np.std(ours) / np.std(theirs))
    return row


class IdentityJudge:
    """dlib's ResNet as an independent judge of identity: a distance below 0.6 means the same person."""

    def __init__(self) -> None:
        import dlib
        import face_recognition_models as models

        self._detector = dlib.get_frontal_face_detector()
        self._shape = dlib.shape_predictor(models.pose_predictor_five_point_model_location())
        self._network = dlib.face_recognition_model_v1(models.face_recognition_model_location())

    def embed(self, picture: Image) -> npt.NDArray[np.float64] | None:
        """Embedding ``(128,)``, or None if dlib finds no face."""
        boxes = self._detector(picture, 1)
        if not boxes:
            return None
        box = max(boxes, key=lambda b: b.width())
        return np.array(self._network.compute_face_descriptor(picture, self._shape(picture, box)))

    def distances(self, reference: Image, pictures: list[Image]) -> list[float]:
        """Distance to ``reference`` of every picture with a face; empty if ``reference`` shows none."""
        own = self.embed(reference)
        if own is None:
            return []
        found = [self.embed(picture) for picture in pictures]
        return [float(np.linalg.norm(x - own)) for x in found if x is not None]
