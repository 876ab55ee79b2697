"""For all tests with real peers."""

from functools import partial

import pytest
from websockets.asyncio.client import connect

from avatar_stream import client
from tests.waiting import PATIENCE


@pytest.fixture(autouse=True)
def _a_client_that_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """The Python client gives a server up after a while, which a busy machine must not reach."""
    monkeypatch.setattr(client, "PATIENCE", PATIENCE)
    monkeypatch.setattr(client, "connect_websocket", partial(connect, open_timeout=PATIENCE))
