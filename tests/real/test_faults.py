"""Ten seeded runs of the fault matrix (`make test-faults` has all of it) and one round of rolling restarts, on one
installation of real processes on Apache Kafka."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import pytest
import pytest_asyncio

from tests.faults.cells import Cell, cells
from tests.faults.judging import misremembered
from tests.faults.rolling import rolling
from tests.faults.running import one_run
from tests.faults.stack import FaultStack, fault_stack
from tests.support.buses import kafka_broker

pytestmark = [pytest.mark.kafka, pytest.mark.slow, pytest.mark.asyncio(loop_scope="module")]
# Every part, every moment and both ways: by what, when, how. Their seeds are their places in the list.
SAMPLE: Final = (
    Cell("generation", "generating", "kill"),
    Cell("turns", "planning", "kill"),
    Cell("broker", "last", "kill"),
    Cell("gateway", "generating", "zombie"),
    Cell("turns", "call", "zombie"),
    Cell("postgres", "queued", "kill"),
    Cell("memory", "committing", "kill"),
    Cell("skills", "call", "kill"),
    Cell("generation", "last", "zombie"),
    Cell("gateway", "planning", "kill"),
)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stack() -> AsyncIterator[FaultStack]:
    with tempfile.TemporaryDirectory(prefix="headstart-test-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)
        async with fault_stack(Path(folder), kafka_broker(Path(folder) / "kafka")) as running:
            yield running


def test_the_sample_is_of_the_matrix() -> None:
    assert set(SAMPLE) <= set(cells())


@pytest.mark.parametrize("seed", range(len(SAMPLE)), ids=[cell.text().replace(" ", "-") for cell in SAMPLE])
async def test_a_fault(stack: FaultStack, seed: int) -> None:
    ran = await one_run(stack, seed, SAMPLE[seed])
    report = ran.report
    assert report.hit, "no turn was seen at the moment"
    assert report.verdict.broken == [], stack.logs()
    assert await misremembered(stack.parts.store, ran.said) == []
    assert report.verdict.completed == report.verdict.turns >= 15


async def test_rolling_restarts_fail_no_turn(stack: FaultStack) -> None:
    ran = await rolling(stack, len(SAMPLE), 1, lambda line: print(line, file=sys.stderr))
    report = ran.report
    assert report.verdict.broken == [], stack.logs()
    assert await misremembered(stack.parts.store, ran.said) == []
    assert report.verdict.completed == report.verdict.turns >= 30
