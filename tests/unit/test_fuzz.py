"""Short fuzzing of all inputs from outside; ``python -m tests.fuzz`` does it at length."""

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz.targets import TARGETS, seeds

SEEDS = seeds()
CASES_PER_TARGET = {"picture": 150, "http": 150, "query": 100, "motion_file": 200}


@st.composite
def mutated(draw: Any, sound: list[bytes]) -> bytes:
    """A valid input with parts removed, repeated, overwritten or inserted."""
    data = bytearray(draw(st.sampled_from(sound)))
    for _ in range(draw(st.integers(0, 6))):
        at = draw(st.integers(0, len(data)))
        length = draw(st.integers(0, 40))
        match draw(st.integers(0, 3)):
            case 0:
                del data[at : at + length]
            case 1:
                data[at:at] = data[at : at + length] * draw(st.integers(1, 50))
            case 2:
                data[at : at + length] = draw(st.binary(max_size=40))
            case _:
                data[at:at] = draw(
                    st.sampled_from([b"\r\n", b"\0", b"\xff\xfe", b"m=", b"a=candidate:", b"9" * 30, b'"', b"{"])
                )
    return bytes(data)


@pytest.mark.parametrize("name", TARGETS)
def test_fuzzed_inputs_raise_only_expected_errors(name: str) -> None:
    @settings(max_examples=CASES_PER_TARGET.get(name, 400), deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.one_of(mutated(SEEDS[name]), st.binary(max_size=400)))
    def run(data: bytes) -> None:
        TARGETS[name](data)

    for sound in SEEDS[name]:
        TARGETS[name](sound)
    run()
