"""A held-out task for the example bank: sort requests into the queues of a house whose names say nothing.

No model can know what `Q-47` stands for; it can see it from requests that were sorted before and rated good. The bank's
requests and the held-out ones are worded by different templates. Scored: the share of answers that name the right
queue, with 0 and with k examples, through the same store, prompt and budgets as a turn; beside it what the nearest
example alone would say, without a model."""

from __future__ import annotations

import random
import re
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any, Final

import msgspec

from memory.embed import Embedder
from memory.memory_store import MemoryStore
from memory.rows import Change, ExampleRow, TurnRecord
from streams import ids
from streams.events import InputItem
from streams.events.generating import Message
from streams.events.intake import TurnOptions
from streams.events.recalling import ExampleItem, Recalled
from streams.events.turn import TurnAccepted
from workers.agents.catalog import Agent, load_all
from workers.planning.rendering import answer_values

NOW_MS: Final = 1_800_000_000_000
TENANT, USER, AGENT = "bench", "clerk", "companion"
INSTRUCTIONS: Final = "Reply with nothing but the queue that the request belongs to. Queues: {queues}."
CODE: Final = re.compile(r"Q-\d\d")
QUEUES: Final[dict[str, tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]]] = {
    # queue: (things, templates of the bank, templates that are held out)
    "Q-47": (("invoice", "bill", "receipt", "refund", "payment", "direct debit"),
             ("My {x} shows the wrong amount.", "I was charged twice, see the {x}.", "Where can I find my last {x}?"),
             ("There is an error in the {x} of March.", "Please check the {x}, the sum is too high.")),
    "Q-12": (("laptop", "printer", "monitor", "keyboard", "docking station", "headset"),
             ("My {x} does not turn on.", "The {x} makes a strange noise.", "I need a new {x}, this one is broken."),
             ("Since this morning the {x} has been dead.", "Somebody spilled coffee over my {x}.")),
    "Q-83": (("holiday", "parental leave", "sick note", "overtime", "day off", "sabbatical"),
             ("How do I request {x}?", "Who approves my {x}?", "I want to hand in {x} for next week."),
             ("To whom do I send {x}?", "Is {x} in August still possible?")),
    "Q-29": (("password", "account", "login", "two-factor code", "access rights", "user name"),
             ("I forgot my {x}.", "My {x} has been locked.", "The {x} is no longer accepted."),
             ("It says my {x} is invalid.", "Could you reset the {x} for me?")),
    "Q-65": (("meeting room", "parking space", "desk", "projector room", "bike shed", "canteen"),
             ("Is the {x} free tomorrow?", "I would like to book the {x}.", "The heating in the {x} is off."),
             ("Could you reserve the {x} for Friday?", "It is far too cold in the {x}.")),
    "Q-38": (("parcel", "delivery", "courier", "shipment", "letter", "pallet"),
             ("Where is my {x}?", "The {x} has arrived damaged.", "When will the {x} be picked up?"),
             ("I have been waiting for the {x} since Monday.", "The {x} was left in the rain.")),
}  # fmt: skip
Ask = Callable[[tuple[Message, ...]], Awaitable[str]]


class Item(msgspec.Struct, frozen=True):
    text: str
    queue: str


def requests(held_out: bool, seed: int = 7) -> list[Item]:
    """The bank's requests, or those that are held out, shuffled."""
    items = [
        Item(template.format(x=thing), queue)
        for queue, (things, bank, held) in QUEUES.items()
        for thing in things
        for template in (held if held_out else bank)
    ]
    random.Random(seed).shuffle(items)
    return items


async def filled_store(embedder: Embedder) -> MemoryStore:
    """A store whose member has rated the bank's answers good."""
    store = MemoryStore(embedder.dimensions)
    bank = requests(held_out=False)
    vectors = await embedder.embed([item.text for item in bank])
    changes = [
        change
        for number, (item, vector) in enumerate(zip(bank, vectors, strict=True), 1)
        for change in _rated(number, item, vector)
    ]
    await store.project(0, len(bank), changes)
    return store


def _rated(number: int, item: Item, vector: list[float]) -> Iterator[Change]:
    conversation = ids.conversation_id(0, NOW_MS, b"conversation")
    turn = ids.turn_id(conversation, NOW_MS + number, f"turn-{number:08d}".encode())
    record = TurnRecord(
        turn=turn, conversation=conversation, tenant=TENANT, user=USER, begin_offset=number, end_offset=number,
        status="completed", reason="", routed=True, agent=AGENT, messages=(), models=(), accepted_at_ms=NOW_MS,
        ended_at_ms=NOW_MS, previous_turn="", previous_offset=-1, event_id="", origin="client",
    )  # fmt: skip
    yield Change(number, record)
    example = ExampleRow(
        turn=turn, conversation=conversation, tenant=TENANT, user=USER, agent=AGENT, question=item.text,
        answer=item.queue, rating="good", shared=False, at_ms=NOW_MS, vector=vector,
    )  # fmt: skip
    yield Change(number, example)


def prompt(agent: Agent, item: Item, examples: Sequence[ExampleItem]) -> tuple[Message, ...]:
    """The answer prompt of a turn that asks this, with these examples."""
    queues = ", ".join(sorted(QUEUES))
    accepted = TurnAccepted(
        turn="", conversation="", tenant=TENANT, user=USER, input=(InputItem(text=item.text),), at_ms=NOW_MS,
        deadline_at_ms=NOW_MS, options=TurnOptions(instructions=INSTRUCTIONS.format(queues=queues)),
    )  # fmt: skip
    recalled = Recalled(items=(), history=(), at_ms=NOW_MS, examples=tuple(examples))
    return agent.answer.prompt.render(**answer_values(accepted, item.text, recalled, (), agent))


async def measure(embedder: Embedder, ask: Ask, depths: Sequence[int], limit: int) -> dict[str, Any]:
    """The share of right answers by number of examples, and of the nearest example's own answer."""
    store, agent = await filled_store(embedder), load_all()[AGENT]
    held = requests(held_out=True)[:limit]
    right = dict.fromkeys(depths, 0)
    nearest = 0
    for item in held:
        [vector] = await embedder.embed([item.text])
        found = await store.examples(TENANT, USER, vector, max(*depths, 1))
        shown = [
            ExampleItem(turn=one.turn, agent=one.agent, question=one.question, answer=one.answer, score=one.score)
            for one in found
        ]
        nearest += found[0].answer == item.queue
        for depth in depths:
            named = CODE.findall(await ask(prompt(agent, item, shown[:depth])))
            right[depth] += named[:1] == [item.queue]
    return {
        "bank": len(requests(held_out=False)), "held_out": len(held), "queues": len(QUEUES),
        "right_by_examples": {str(depth): round(right[depth] / len(held), 3) for depth in depths},
        "nearest_example_alone": round(nearest / len(held), 3),
    }  # fmt: skip
