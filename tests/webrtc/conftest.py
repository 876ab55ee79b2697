"""Fixtures for all tests with aiortc peers."""

from functools import cache, partial

import numpy as np
import pytest
from websockets.asyncio.client import connect

from avatar_stream import client
from avatar_stream.identity import enrol, library
from avatar_stream.portrait.portrait import Image, Portrait, prepare
from tests.waiting import TEST_TIMEOUT


@pytest.fixture(autouse=True)
def _patient_client(monkeypatch: pytest.MonkeyPatch) -> None:
    """Raise the Python client's timeout, which a busy machine must not reach."""
    monkeypatch.setattr(client, "ANSWER_TIMEOUT", TEST_TIMEOUT)
    monkeypatch.setattr(client, "connect_websocket", partial(connect, open_timeout=TEST_TIMEOUT))


@pytest.fixture(autouse=True)
def _portraits_prepared_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every server prepares the same sample portraits, each a second of a processor: this process does so once."""
    monkeypatch.setattr(library, "prepare", _prepare_once)
    monkeypatch.setattr(enrol, "prepare", _prepare_once)


def _prepare_once(picture: Image, size: int, *, name: str = "the picture", square: bool = False) -> Portrait:
    return _prepared(picture.tobytes(), picture.shape, size, name, square)


@cache
def _prepared(pixels: bytes, shape: tuple[int, ...], size: int, name: str, square: bool) -> Portrait:
    return prepare(np.frombuffer(pixels, np.uint8).reshape(shape).copy(), size, name=name, square=square)
