"""Nothing crashes, and no cut changes what is told: nonsense made of each dialect's own markers, and edited traces.

`FUZZ_EXAMPLES` sets how many texts each dialect reads (default 60); `python -m tests.fuzz.minutes` goes on for minutes.
"""

from __future__ import annotations

import os
import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz.material import COMMON, MARKERS, check_text, edited
from workers.toolcalls import dialects
from workers.toolcalls.parser import Mode

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "60"))
MODES: list[Mode] = ["strict", "repair"]


@pytest.mark.parametrize("dialect", dialects.names())
def test_nothing_crashes_and_no_cut_matters(dialect: str) -> None:
    @settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
    @given(
        pieces=st.lists(st.sampled_from(MARKERS[dialect] * 3 + COMMON), max_size=30),
        mode=st.sampled_from(MODES),
        reason=st.sampled_from(["stop", "length"]),
        seed=st.integers(0, 1000),
    )
    def run(pieces: list[str], mode: Mode, reason: str, seed: int) -> None:
        check_text(dialect, "".join(pieces), mode, reason, seed)

    run()


@pytest.mark.parametrize("dialect", dialects.names())
def test_an_edited_trace_is_read_the_same_however_it_is_cut(dialect: str) -> None:
    seeded = random.Random(dialect)
    for number in range(EXAMPLES):
        text = edited(dialect, seeded)
        check_text(dialect, text, MODES[number % 4 > 0], "stop" if number % 3 else "length", number)
