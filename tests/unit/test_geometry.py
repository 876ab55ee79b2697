import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from avatar_stream.face import geometry, mesh
from avatar_stream.face.geometry import Pose

small = st.floats(-1.25, 1.25, width=32)
vectors = arrays(np.float32, 3, elements=small)
poses = st.builds(
    lambda scale, turn, shift: Pose(scale, geometry.from_rotation_vector(turn), shift),
    st.floats(20, 400),
    vectors,
    arrays(np.float32, 3, elements=st.floats(-300, 300, width=32)),
)


@given(poses)
def test_similarity_recovers_any_pose(pose: Pose) -> None:
    face = mesh.template()
    found = geometry.similarity(face, pose.apply(face))
    assert found.scale == pytest.approx(pose.scale, rel=1e-3)
    np.testing.assert_allclose(found.rotation, pose.rotation, atol=1e-3)
    np.testing.assert_allclose(found.apply_inverse(pose.apply(face)), face, atol=2e-3)


@given(vectors)
def test_rotation_vector_round_trip(vector: np.ndarray) -> None:  # type: ignore[type-arg]
    rotation = geometry.from_rotation_vector(vector)
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-5)
    np.testing.assert_allclose(geometry.to_rotation_vector(rotation), vector, atol=3e-3)


@given(st.floats(-35, 35))
def test_yaw_is_measured_in_degrees(degrees: float) -> None:
    turned = geometry.from_rotation_vector([0, np.radians(degrees), 0])
    pose = geometry.head_pose(Pose(100, turned, np.zeros(3, np.float32)).apply(mesh.template()))
    assert abs(geometry.euler_degrees(pose.rotation)[1]) == pytest.approx(abs(degrees), abs=0.3)


@settings(max_examples=50)
@given(st.floats(40, 300), st.floats(-0.5, 0.5), st.floats(-200, 900), st.floats(-200, 900))
def test_the_aligned_frame_puts_every_face_in_the_same_place(scale: float, roll: float, x: float, y: float) -> None:
    pose = Pose(scale, geometry.from_rotation_vector([0, 0, roll]), np.array([x, y, 0], np.float32))
    face = pose.apply(mesh.template())
    points = geometry.transform_2d(geometry.aligned_frame(face, 192), face)
    eyes = points[[33, 133, 362, 263]].mean(0)
    assert eyes[0] == pytest.approx(96, abs=1.5)
    assert eyes[1] == pytest.approx(0.36 * 192, abs=6)
    assert points[mesh.NOSE_BASE, 1] == pytest.approx(0.62 * 192, abs=6)
    assert points[152, 1] < 1.02 * 192  # the chin is at the lower edge


def test_the_template_is_symmetric() -> None:
    face = mesh.template()
    np.testing.assert_allclose(face[33] * [-1, 1, 1], face[263], atol=1e-3)
    assert np.linalg.norm(face[33] - face[263]) == pytest.approx(1, abs=1e-3)
    assert face[1, 2] < face[234, 2]  # the nose is nearer than the ear


def test_triangles_cover_the_face_once() -> None:
    skin, eyes, mouth = mesh.skin_triangles(), mesh.eye_triangles(), mesh.mouth_triangles()
    assert skin.shape == (852, 3)
    assert set(np.unique(mouth)) == set(mesh.MOUTH_RING)
    edges = {tuple(sorted(e)) for t in np.concatenate([skin, eyes, mouth]) for e in (t[:2], t[1:], t[::2])}
    # Euler's formula for a disc: V - E + F = 1.
    used = np.unique(np.concatenate([skin, eyes, mouth]))
    assert len(used) - len(edges) + len(skin) + len(eyes) + len(mouth) == 1


def test_mouth_and_eye_openings_grow_with_the_gap() -> None:
    face = mesh.template() * 100
    closed = face.copy()
    closed[list(mesh.INNER_LIP_LOWER)] = closed[list(mesh.INNER_LIP_UPPER)]
    assert geometry.mouth_opening(closed) == pytest.approx(0, abs=1e-6)
    closed[list(mesh.INNER_LIP_LOWER[1:-1]), 1] += 20
    assert geometry.mouth_opening(closed) == pytest.approx(0.2, abs=0.01)
    right, left = geometry.eye_openings(face)
    assert right == pytest.approx(left, rel=0.05)
