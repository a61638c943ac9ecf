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

from tests.faults.cells import Cell, Ran, cells
from tests.faults.judging import changed, misremembered
from tests.faults.rolling import rolling
from tests.faults.running import run_all
from tests.faults.stack import FaultStack, fault_stack
from tests.support.buses import kafka_broker

pytestmark = [pytest.mark.kafka, pytest.mark.slow]
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


@pytest.mark.asyncio(loop_scope="module")
async def test_ten_faults(stack: FaultStack) -> None:
    ran: list[Ran] = []
    await run_all(stack, enumerate(SAMPLE), ran.append)
    assert len(ran) == len(SAMPLE)
    for one in ran:
        report = one.report
        assert report.hit, f"no turn was seen at {report.cell.moment}"
        assert report.verdict.broken == [], f"{report.cell.text()}\n{stack.logs()}"
        assert report.verdict.completed == report.verdict.turns >= 15
    said = {conversation: texts for one in ran for conversation, texts in one.said.items()}
    assert await misremembered(stack.parts.store, said) == []
    assert await changed(stack.parts.bus, [one.spans for one in ran]) == []


@pytest.mark.asyncio(loop_scope="module")
async def test_rolling_restarts_fail_no_turn(stack: FaultStack) -> None:
    ran = await rolling(stack, len(SAMPLE), 1, lambda line: print(line, file=sys.stderr))
    report = ran.report
    assert report.verdict.broken == [], stack.logs()
    assert await misremembered(stack.parts.store, ran.said) == []
    assert report.verdict.completed == report.verdict.turns >= 30
