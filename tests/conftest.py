"""For all tests: what they start ends with them."""

from collections.abc import Iterator

import pytest

from tests.leftovers import nothing_left


@pytest.fixture(scope="session", autouse=True)
def _whatever_was_started_has_ended() -> Iterator[None]:
    """Set up first, so that it looks when all other fixtures are gone."""
    with nothing_left():
        yield
