"""For all tests: what they start ends with them."""

import signal
from collections.abc import Iterator

import pytest

import avatar_stream.runtime  # noqa: F401  OpenVINO, imported by a test, is to report nothing
from tests.leftovers import nothing_left


def pytest_configure() -> None:
    """A run that is told to end ends as with Ctrl+C: its fixtures end what they have started."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def _whatever_was_started_has_ended() -> Iterator[None]:
    """Set up first, so that it looks when all other fixtures are gone."""
    with nothing_left():
        yield
