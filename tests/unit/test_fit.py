"""The fit recovers a generated face's coefficients, from any direction and any start."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import lsq_linear

from avatar_stream.face import geometry
from avatar_stream.face.fit import Fit, Fitter, fit_still, solve_bounded
from avatar_stream.face.mesh import Floats
from avatar_stream.face.model import COEFFICIENT_NAMES, coefficients, face_model
from tests.unit.faces import face


def fit_after_frames(landmarks: Floats, frames: int = 5) -> Fit:
    fitter = Fitter()
    for _ in range(frames):
        fit = fitter(landmarks)
    return fit


@pytest.mark.parametrize(
    ("made", "least", "most"),
    [
        ({"jawOpen": 0.6}, {"jawOpen": 0.4}, {"mouthSmileLeft": 0.15}),
        ({"mouthSmile": 0.7}, {"mouthSmileLeft": 0.5, "mouthSmileRight": 0.5}, {"jawOpen": 0.15}),
        ({"jawOpen": 0.4, "mouthFunnel": 0.5}, {"jawOpen": 0.2, "mouthFunnel": 0.25}, {"mouthSmileLeft": 0.1}),
        ({"eyeBlink": 1.0}, {"eyeBlinkLeft": 0.7, "eyeBlinkRight": 0.7}, {"jawOpen": 0.1}),
        ({}, {}, dict.fromkeys(("jawOpen", "mouthSmileLeft", "mouthPucker", "eyeBlinkLeft"), 0.1)),
    ],
)
def test_the_coefficients_of_a_generated_face_are_recovered(
    made: dict[str, float], least: dict[str, float], most: dict[str, float]
) -> None:
    found = fit_after_frames(face(expression=made)).named
    assert all(found[name] > value for name, value in least.items()), found
    assert all(found[name] < value for name, value in most.items()), found


@settings(max_examples=25, deadline=None)
@given(st.floats(40, 400), st.floats(-0.3, 0.3), st.floats(-0.45, 0.45), st.floats(-0.4, 0.4))
def test_the_fit_is_independent_of_size_and_rotation(scale: float, pitch: float, yaw: float, roll: float) -> None:
    made = {"jawOpen": 0.4, "mouthSmile": 0.4}
    ahead, turned = (
        fit_after_frames(face(expression=made)),
        fit_after_frames(face(scale, (pitch, yaw, roll), expression=made)),
    )
    assert np.abs(ahead.coefficients - turned.coefficients).max() < 0.05
    assert np.degrees(np.linalg.norm(
        geometry.to_rotation_vector(turned.pose.rotation @ geometry.from_rotation_vector((pitch, yaw, roll)).T)
    )) < 1.5  # fmt: skip


def test_a_still_face_does_not_flicker() -> None:
    random = np.random.default_rng(0)
    fitter, still = Fitter(), face(100, jawOpen=0.3, mouthSmile=0.3)
    found = []
    for _ in range(160):
        # The noise after the tracker's filter: about a tenth of a pixel on a face of this size.
        fit = fitter(still + random.normal(0, 0.1, still.shape).astype(np.float32))
        found.append(fit.coefficients)
    last = np.array(found[-40:])
    assert np.ptp(last, axis=0).max() < 0.06
    assert fitter.settled


def test_identity_is_learnt_separately_from_expression() -> None:
    who = np.random.default_rng(3).normal(0, 0.7, len(face_model().identities)).astype(np.float32)
    fitter, errors = Fitter(), []
    for k in range(120):
        jaw = 0.35 + 0.35 * np.sin(k / 5)
        fit = fitter(face(120, (0.1 * np.sin(k / 9), 0.2 * np.sin(k / 13), 0), identity=who, jawOpen=float(jaw)))
        errors.append(abs(fit.named["jawOpen"] - jaw))
    assert np.mean(errors[-40:]) < 0.08
    assert fit.error < 0.008
    calm = fitter(face(120, identity=who))
    assert calm.coefficients.max() < 0.25


def test_gaze_is_measured_for_each_eye_and_direction() -> None:
    ahead, aside, down = (fit_after_frames(face(look=look)).gaze for look in ((0, 0), (0.05, 0), (0, 0.03)))
    assert ((aside - ahead)[:, 0] > np.radians(8)).all()
    assert np.abs((aside - ahead)[:, 1]).max() < np.radians(2)
    assert ((down - ahead)[:, 1] > np.radians(4)).all()


def test_the_fits_quality_falls_for_an_impossible_mouth() -> None:
    landmarks = face(jawOpen=0.3)
    sound = fit_after_frames(landmarks)
    random = np.random.default_rng(1)
    torn = landmarks.copy()
    torn[np.flatnonzero(torn[:468, 1] > 240)] += random.normal(0, 8, (int((torn[:468, 1] > 240).sum()), 3))
    assert fit_after_frames(torn).mouth_error > 4 * max(sound.mouth_error, 0.004)


def test_a_single_picture_is_fitted_at_once() -> None:
    fit, fitter = fit_still(face(90, (0.05, 0.2, 0), mouthSmile=0.8, jawOpen=0.2))
    assert fit.named["mouthSmileLeft"] > 0.5
    assert fitter.settled


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(3, 12))
def test_the_solver_finds_the_bounded_minimum(seed: int, n: int) -> None:
    random = np.random.default_rng(seed)
    a, b = random.normal(size=(2 * n, n)), random.normal(size=2 * n)
    wanted = lsq_linear(a, b, (0, 1), tol=1e-12).x
    found = solve_bounded(a.T @ a, a.T @ b, random.uniform(-0.2, 1.2, n).clip(0, 1).astype(np.float32))
    np.testing.assert_allclose(found, wanted, atol=2e-4)


def test_coefficients_have_arkits_names() -> None:
    assert len(set(COEFFICIENT_NAMES)) == len(COEFFICIENT_NAMES) == 45
    assert coefficients(mouthSmile=1).sum() == 2
