"""The process of the turns worker that carries a turn is killed with SIGKILL, at points of a turn with one irreversible
call and two pure ones; on a real broker and a real database, with a second worker to take over.

What was done is read in the demo service's own ledger, which counts arrivals. `schedule_interview` ignores idempotency
keys, so a second request would be a second interview. Every run takes two of the points, by its seed;
HEADSTART_TEST_MOMENTS=all takes all of them.
"""

from __future__ import annotations

import asyncio
import os
import random
from pathlib import Path
from typing import Any, Final

import pytest

from headstart.stack import until_ready
from headstart.turn_facts import of_type
from streams import ids
from streams.codec import Record, decode, identity
from streams.embedded import EmbeddedBroker
from streams.events import Event
from streams.events.calling import (
    CallAnswered,
    CallClosed,
    CallFailed,
    CallFired,
    CallOpened,
    PlanCommitted,
)
from streams.events.generating import AnswerDelta, ModelAsked
from streams.events.turn import TurnAccepted, TurnAdopted, TurnCompleted, TurnEnd
from tests.real.test_effects_processes import ended, ledger, started
from tests.support.stacks import Installation, installation
from workers.generation.scripted_engine import Rule, When

pytestmark = [pytest.mark.slow, pytest.mark.asyncio]
PATIENCE_S: Final = 400.0  # ends a test that would hang; nothing is judged by it
SKILL_MS: Final = 1_000  # long enough to be in flight when its worker dies
SESSION_MS: Final = 6_000
TOKENS_PER_SECOND: Final = 60.0
SAMPLE: Final = 2
SEED: Final = int(os.environ.get("HEADSTART_TEST_SEED", "0")) or random.SystemRandom().randrange(1, 1 << 31)
LOOK_EVERY_S: Final = 0.02
PEOPLE: Final = ("Ada", "Berta", "Clara", "Doris", "Edith", "Frida", "Greta", "Hanna", "Ines", "Judith", "Klara")


def _is(kind: type[Event], **fields: Any) -> Any:
    return lambda event: isinstance(event, kind) and all(getattr(event, name) == fields[name] for name in fields)


MOMENTS: Final = {
    "accepted": _is(TurnAccepted),
    "the first call is opened": _is(CallOpened, call=0),
    "a pure call is fired": _is(CallFired, call=0),
    "the interview is written": _is(CallClosed, call=1),
    "the plan is committed": _is(PlanCommitted),
    "the interview is about to leave": _is(CallFired, call=1),
    "the interview was asked for": None,  # seen in the ledger
    "a pure call is answered": _is(CallAnswered, call=0),
    "the interview is answered": _is(CallAnswered, call=1),
    "the answer is asked for": _is(ModelAsked, step="answer"),
    "the answer is being written": _is(AnswerDelta),
}


def rules() -> list[Rule]:
    plan = (
        '[{{"name":"search_people","arguments":{{"title":"data engineer","location":"Berlin"}}}},'
        '{{"name":"schedule_interview","arguments":{{"person":"{0}","day":"tomorrow"}}}},'
        '{{"name":"search_people","arguments":{{"title":"data engineer","location":"Paris"}}}}]'
    )
    plans = [Rule(step="plan", when=When(contains=f"with {name} tomorrow"), say=plan.format(name)) for name in PEOPLE]
    return [*plans, Rule(say="All of that is done as far as it could be done, and you will hear from me.")]


async def happened(stack: Installation, turn: str, moment: str, person: str) -> str:
    """Waits for the moment; gives the name of the worker that carries the turn then."""
    reader = await stack.parts.bus.reader("events", {ids.partition_of(turn): "earliest"})
    owner = ""
    try:
        while True:
            for record in await reader.batch():
                if not _of(turn, record):
                    continue
                event = decode(record)
                owner = record.source if record.source.startswith("turns/") else owner
                if (wanted := MOMENTS[moment]) is not None and wanted(event):
                    return owner
            if MOMENTS[moment] is None and await asked(stack, turn):
                return owner
    finally:
        await reader.close()


def _of(turn: str, record: Record) -> bool:
    return identity(record).subject == turn


async def asked(stack: Installation, turn: str) -> list[Any]:
    """Requests for the interview that have arrived."""
    arrivals = (await ledger(stack))["arrivals"]
    return [row for row in arrivals if row["turn"] == turn and row["skill"] == "schedule_interview"]


async def kill(stack: Installation, writer: str) -> None:
    [name] = [name for name, child in stack.children.items() if f"-{child.pid}-" in writer]
    child = stack.children.pop(name)
    child.kill()
    await child.wait()


async def judge(stack: Installation, turn: str, person: str, moment: str) -> None:
    facts = await ended(stack, turn)
    kinds = [type(event) for event in facts]
    [end] = of_type(facts, TurnEnd)
    assert isinstance(end, TurnCompleted), f"{moment}: {end}"
    interviews = await asked(stack, turn)
    effects = [row for row in (await ledger(stack))["effects"] if row["detail"].get("person") == person]
    assert len(interviews) <= 1, f"{moment}: an interview was asked for twice"
    assert len(effects) <= 1, moment
    assert kinds.count(PlanCommitted) == 1, moment
    fired = [index for index, event in enumerate(facts) if isinstance(event, CallFired) and event.call == 1]
    assert all(index > kinds.index(PlanCommitted) for index in fired), f"{moment}: fired before the commit"
    assert fired or not interviews, f"{moment}: a request without its fact"
    failed = of_type(facts, CallFailed)
    assert all(event.in_doubt for event in failed), f"{moment}: {failed}"
    doubted = {event.call for event in failed}
    assert set(end.in_doubt) == doubted, f"{moment}: what nobody knows is said, and nothing else"
    assert doubted or effects, f"{moment}: it was done, or the turn says that it may not be"
    prompt = [event for event in of_type(facts, ModelAsked) if event.step == "answer"][-1].messages[-1].content
    assert prompt.count("search_people:") == 2, f"{moment}: the pure calls' results are used"


async def test_the_worker_is_killed_at_points_of_the_turn(tmp_path: Path) -> None:
    chosen = list(MOMENTS)
    if os.environ.get("HEADSTART_TEST_MOMENTS") != "all":
        chosen = random.Random(SEED).sample(chosen, SAMPLE)
    print(f"\nHEADSTART_TEST_SEED={SEED}: {', '.join(chosen)}")
    told = {"HEADSTART_DEMO_DELAY_MS": str(SKILL_MS), "HEADSTART_SESSION_TIMEOUT_MS": str(SESSION_MS)}
    async with (
        installation(
            tmp_path, EmbeddedBroker(tmp_path), rules(), tokens_per_second=TOKENS_PER_SECOND, settings=told
        ) as stack,
        asyncio.timeout(PATIENCE_S),
    ):  # fmt: skip
        await until_ready(stack.start("turns 2", "workers", "turns"))
        for number, (moment, person) in enumerate(zip(chosen, PEOPLE, strict=False), 3):
            question = (
                "Find a data engineer in Berlin, tell me the weather there, and schedule an interview with "
                f"{person} tomorrow"
            )
            turn = await started(stack, question)
            await kill(stack, await happened(stack, turn, moment, person))
            newcomer = stack.start(f"turns {number}", "workers", "turns")
            await judge(stack, turn, person, moment)
            facts = await ended(stack, turn)
            assert of_type(facts, TurnAdopted), f"{moment}: nobody had to take over"
            await until_ready(newcomer)
