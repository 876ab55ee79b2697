"""Nobody's packet, link or record takes another's pictures: the short form of ``python -m tests.soak strangers``."""

import asyncio
from typing import Any

import pytest

from tests.soak.stranger.registry import chosen
from tests.soak.strangers import QUICK_SECONDS, attempts, quick, started_launcher

pytestmark = pytest.mark.webrtc

PLAN = quick(chosen([], short=True))


@pytest.fixture(scope="module")
def report() -> dict[str, Any]:
    """What all of them came to, on one server. How fast it stays is for the soak: here pictures must go on."""
    return asyncio.run(attempts(PLAN, started_launcher(), engine="warp", seconds=QUICK_SECONDS, strict=False))


@pytest.mark.parametrize("name", [one.name for one in PLAN])
def test_a_bystander_does_not_notice(report: dict[str, Any], name: str) -> None:
    found = [sentence for sentence in report["failed"] if sentence.startswith(f"{name}: ")]
    (outcome,) = (one for one in report["outcomes"] if one["name"] == name)
    assert not found, f"{outcome['answer']}\n{''.join(report['log'][-60:])}"
