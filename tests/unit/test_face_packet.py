"""Face packets of about a hundred bytes: packing and unpacking."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from avatar_stream.errors import BadInput
from avatar_stream.face import geometry
from avatar_stream.face.mesh import Floats
from avatar_stream.face.tracked_face import TrackedFace
from avatar_stream.face.tracker import landmarks_of_still
from avatar_stream.identity.library import sample_pictures
from avatar_stream.pipeline.avatar import Avatar
from avatar_stream.portrait.portrait import prepare, read_picture
from avatar_stream.rigs.face_packet import pack, unpack
from tests.unit.faces import face


@pytest.mark.parametrize("name", ["felix", "noor", "mona-lisa"])
def test_a_packed_face_is_unpacked(name: str) -> None:
    picture = read_picture(sample_pictures()[name])
    landmarks = landmarks_of_still(picture)
    assert landmarks is not None
    found = unpack(pack(TrackedFace(landmarks, height=picture.shape[0]))).landmarks
    assert found is not None
    there = landmarks * np.float32(480 / picture.shape[0])
    error = np.linalg.norm((found - there)[:, :2], axis=1) / geometry.eye_distance(there)
    assert error.mean() < 0.006


@pytest.mark.parametrize("turn", [(0, 0, 0), (0, 0.5, 0), (0.3, -0.4, 0.2), (0, 0, 3.0)])
def test_faces_of_any_angle_and_size_are_packed(turn: tuple[float, float, float]) -> None:
    landmarks = face(turn=turn) * np.float32(1.7)
    found = unpack(pack(TrackedFace(landmarks, height=900))).landmarks
    assert found is not None
    there = landmarks * np.float32(480 / 900)
    assert np.linalg.norm((found - there)[:, :2], axis=1).mean() < 0.03 * geometry.eye_distance(there)


def test_a_mouth_view_is_packed() -> None:
    view = np.random.default_rng(1).uniform(0, 1.05, (6, 5, 2)).astype(np.float32)
    packet = pack(TrackedFace(face(), view))
    found = unpack(packet).view
    assert found is not None
    assert np.abs(found - view).max() <= 0.036
    assert len(packet) == 108
    assert len(pack(TrackedFace(face()))) == 78


def test_no_face_is_packed_as_one_byte() -> None:
    assert pack(TrackedFace(None)) == b"\0"
    assert unpack(b"\0") == TrackedFace(None)


@pytest.mark.parametrize("packet", [b"", b"\1", b"\2" * 78, b"\1\0" + b"\0" * 77, b"\1\1" + b"\7" * 76, b"\0\0"])
def test_invalid_packets_are_refused(packet: bytes) -> None:
    with pytest.raises(BadInput, match="a packet of a face"):
        unpack(packet)


@settings(max_examples=200, deadline=None)
@given(st.one_of(st.binary(max_size=120), st.binary(min_size=77, max_size=77).map(lambda rest: b"\1" + rest)))
def test_arbitrary_bytes_are_unpacked_or_refused(packet: bytes) -> None:
    try:
        found = unpack(packet).landmarks
    except BadInput:
        return
    assert found is None or np.isfinite(found).all()


def test_an_avatar_follows_face_packets() -> None:
    portrait = prepare(read_picture(sample_pictures()["felix"]), 256)
    with Avatar(portrait, None) as avatar:
        rest = avatar.follow(TrackedFace(face()), 0.0)
        opened = rest
        for k in range(8):
            opened = avatar.follow(unpack(pack(TrackedFace(face(jawOpen=0.7), teeth()))), 0.04 * (k + 1))
        assert geometry.mouth_opening(opened.target) > geometry.mouth_opening(rest.target) + 0.05
        assert opened.view is not None
        assert str(avatar.face) == "found"
        avatar.follow(TrackedFace(None), 0.5)
        assert str(avatar.face) == "lost"


def teeth() -> Floats:
    view = np.full((6, 5, 2), 0.2, np.float32)
    view[:3] = 0.9
    return view
