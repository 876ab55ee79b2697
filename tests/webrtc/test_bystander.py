"""No attempt of others stops a bystander's pictures: the short form of ``python -m tests.soak strangers``."""

import asyncio
from typing import Any

import pytest

from tests.soak.stranger.registry import chosen
from tests.soak.strangers import QUICK_ATTEMPT_SECONDS, attempts, shortened, started_launcher

pytestmark = pytest.mark.webrtc

ATTEMPTS = shortened(chosen([], short=True))


@pytest.fixture(scope="module")
def report() -> dict[str, Any]:
    """Run all attempts on one server. The bystander must keep getting pictures; the soak measures how many."""
    return asyncio.run(
        attempts(ATTEMPTS, started_launcher(), engine="warp", seconds=QUICK_ATTEMPT_SECONDS, strict=False)
    )


@pytest.mark.parametrize("name", [one.name for one in ATTEMPTS])
def test_an_attempt_does_not_disturb_a_bystander(report: dict[str, Any], name: str) -> None:
    found = [sentence for sentence in report["failed"] if sentence.startswith(f"{name}: ")]
    (outcome,) = (one for one in report["outcomes"] if one["name"] == name)
    assert not found, f"{outcome['answer']}\n{''.join(report['log'][-60:])}"
