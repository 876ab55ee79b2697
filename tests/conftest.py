"""For all tests: processes that a test starts end with it."""

import signal
from collections.abc import Iterator

import hypothesis
import pytest

import avatar_stream.runtime  # noqa: F401  OpenVINO, imported by a test, is to report nothing
from tests.leftovers import nothing_left

# Hypothesis gives each example 200 ms of a clock that a busy machine shares with others.
hypothesis.settings.register_profile("patient", deadline=None)
hypothesis.settings.load_profile("patient")


def pytest_configure() -> None:
    """SIGTERM ends a run like Ctrl+C: fixtures end the processes that they started."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def _no_process_is_left_behind() -> Iterator[None]:
    """Is set up first, so that it checks after all other fixtures have ended."""
    with nothing_left():
        yield
