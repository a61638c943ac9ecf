"""Facts that services publish for a member while a turn of the conversation runs: how the turn takes each in. Pure.

The agent's policy (workers/agents/on_fact.py) says what a fact may do, the moment says what it still can:

                before the plan     planning, calls in flight     the answer is written          no turn runs
    ignore      nothing             nothing                       nothing                        nothing
    remember    memory              memory                        memory                         memory
    tell        in the answer       in the answer                 a turn of its own, after this  memory
    steer       in plan and answer  the turn ends; another begins, with its question and the fact  memory
    open        a turn of its own, after this one                                                  a turn of its own

Every fact gets one `fact.taken` with its outcome. It is written when the outcome is sure: at once, with the model call
whose prompt shows the fact, or at the end of an answer that it came too late for. A fact that found no place when its
turn ended (it was stopped, or waits for its client) is left untaken: the conversation's next turn hears of it, or,
where none is queued, it is remembered (fact_desk.py). So does the next owner of a turn that changes hands.

A turn is steered only where starting over repeats nothing: it has said nothing but words, no call of it has had an
effect, and no fact has steered it before. Any other is told instead.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final

import msgspec

from streams import ids
from streams.events import Event
from streams.events.conversation import FactPublished, FactTaken
from streams.events.turn import TurnCompleted, TurnEnd, TurnIncomplete
from workers.agents.catalog import OUT_OF_SCOPE
from workers.agents.on_fact import Policy, policy_of
from workers.planning.commands import Cancelled, Command, FactCame, Publish

if TYPE_CHECKING:
    from workers.planning.machine import Phase, TurnMachine

SHOWN_CHARACTERS: Final = 600  # of one fact in a prompt: about 150 tokens
ORIGIN: Final = "fact"  # of a turn that a fact opened, or steered into being
TELLING: Final = "tell"  # of a turn that only tells facts: it makes no plan
AFTER_END: Final = "after_end"
MOMENTS: Final[dict[Phase, str]] = {
    "looking": "before_plan", "routing": "before_plan", "recalling": "before_plan", "discovering": "before_plan",
    "planning": "planning", "calling": "call_in_flight", "answering": "generating", "ended": AFTER_END,
}  # fmt: skip


class Heard(msgspec.Struct):
    """A fact that the turn has heard of and not taken in yet. policy: None until the agent is known."""

    fact: str
    event: FactPublished
    moment: str
    policy: Policy | None = None


class Shown(msgspec.Struct, frozen=True):
    """A fact that the turn's prompts show."""

    kind: str
    text: str


class Facts:
    """Those of one turn: heard and not taken yet, and shown in its prompts besides those of its input."""

    def __init__(self) -> None:
        self.heard: list[Heard] = []
        self.shown: list[Shown] = []


def hear(machine: TurnMachine, item: FactCame, now_ms: float) -> list[Command]:
    """The machine's input."""
    machine.facts.heard.append(Heard(item.fact, item.event, MOMENTS[machine.phase]))
    return weigh(machine, now_ms) if machine.decided else []


def weigh(machine: TurnMachine, now_ms: float) -> list[Command]:
    """Gives each fact that was heard its policy, now that the agent is known; what needs no waiting is done."""
    commands: list[Command] = []
    for heard in [one for one in machine.facts.heard if one.policy is None]:
        heard.policy = policy_of(machine.agent.on_fact, heard.event.kind)
        if heard.policy == "steer" and heard.moment != "before_plan":
            if _may_start_over(machine):
                return [*commands, *_steer(machine, heard, now_ms)]
            heard.policy = "tell"
        if heard.policy in ("ignore", "remember", "open"):
            commands.append(_at_once(machine, heard, now_ms))
    return commands


def show(machine: TurnMachine, now_ms: float, *, telling: bool) -> list[Command]:
    """Takes in what the prompt that is rendered next may show. telling: it is the answer's."""
    commands: list[Command] = []
    for heard in list(machine.facts.heard):
        if heard.policy == "steer" or (telling and heard.policy == "tell"):
            told = Shown(heard.event.kind, shown_text(heard.event.text))
            machine.facts.shown.append(told)
            outcome = "steered" if heard.policy == "steer" else "told"
            commands.append(_take(machine, heard, outcome, now_ms, text=told.text))
    return commands


def close(machine: TurnMachine, end: TurnEnd) -> list[Command]:
    """The turn ends. What came too late for an answer that came to its end is told in a turn of its own."""
    cut = isinstance(end, TurnIncomplete) and end.reason in ("max_output_tokens", "content_filter")
    if not cut and not (isinstance(end, TurnCompleted) and not end.awaiting):
        return []
    late = [one for one in machine.facts.heard if one.policy == "tell"]
    return [
        _take(machine, heard, "told", end.at_ms, successor=opened_turn(late[0].event, late[0].fact)) for heard in late
    ]  # fmt: skip


def restore(machine: TurnMachine, facts: Iterable[Event]) -> None:
    """What the turn's prompts show, from its facts: an owner before has taken it in."""
    machine.facts.shown = [
        Shown(event.kind, event.text) for event in facts if isinstance(event, FactTaken) and event.text
    ]  # fmt: skip


def shown(machine: TurnMachine, values: dict[str, Any]) -> dict[str, Any]:
    """A prompt's values, with the facts that the turn has taken in after those of its input."""
    told = [{"kind": one.kind, "text": one.text} for one in machine.facts.shown]
    return {**values, "facts": [*values["facts"], *told]}


def shown_text(text: str) -> str:
    """As much of a fact as a prompt shows, in one line."""
    text = " ".join(text.split())
    return text if len(text) <= SHOWN_CHARACTERS else text[:SHOWN_CHARACTERS] + "…"


def taken(
    fact: str, event: FactPublished, *, agent: str, policy: str, moment: str, outcome: str, at_ms: float,
    successor: str = "", text: str = "",
) -> FactTaken:  # fmt: skip
    return FactTaken(
        conversation=event.conversation, fact=fact, kind=event.kind, service=event.service, agent=agent, policy=policy,
        moment=moment, outcome=outcome, at_ms=int(at_ms), successor=successor, text=text,
    )  # fmt: skip


def idle(fact: str, event: FactPublished, agent: str, policy: Policy, now_ms: float) -> FactTaken:
    """What becomes of a fact that no turn can take in."""
    outcome = {"ignore": "ignored", "open": "opened"}.get(policy, "remembered")
    return taken(
        fact, event, agent=agent, policy=policy, moment=AFTER_END, outcome=outcome, at_ms=now_ms,
        successor=opened_turn(event, fact) if outcome == "opened" else "",
    )  # fmt: skip


def opened_turn(event: FactPublished, fact: str) -> str:
    """The turn that a fact opens: the same for whoever takes it in, so that it is opened once."""
    return ids.keyed_turn_id(event.conversation, event.user, f"fact/{fact}")


def _at_once(machine: TurnMachine, heard: Heard, now_ms: float) -> Publish:
    outcome = {"ignore": "ignored", "open": "opened"}.get(heard.policy or "", "remembered")
    successor = opened_turn(heard.event, heard.fact) if outcome == "opened" else ""
    return _take(machine, heard, outcome, now_ms, successor=successor)


def _steer(machine: TurnMachine, heard: Heard, now_ms: float) -> list[Command]:
    """The turn ends, and another begins with its question, this fact, and those that were still to be told."""
    successor = opened_turn(heard.event, heard.fact)
    commands: list[Command] = [_take(machine, heard, "steered", now_ms, successor=successor)]
    waiting = [one for one in machine.facts.heard if one.policy == "tell"]
    commands += [_take(machine, other, "told", now_ms, successor=successor) for other in waiting]
    return [*commands, *machine.receive(Cancelled("steered", successor), now_ms)]


def _take(
    machine: TurnMachine, heard: Heard, outcome: str, now_ms: float, *, successor: str = "", text: str = ""
) -> Publish:
    machine.facts.heard.remove(heard)
    policy = policy_of(machine.agent.on_fact, heard.event.kind)
    agent = "" if machine.agent.name == OUT_OF_SCOPE else machine.agent.name
    return Publish(
        taken(
            heard.fact, heard.event, agent=agent, policy=policy, moment=heard.moment, outcome=outcome, at_ms=now_ms,
            successor=successor, text=text,
        )
    )  # fmt: skip


def _may_start_over(machine: TurnMachine) -> bool:
    accepted = machine.accepted
    if accepted.origin in (ORIGIN, TELLING) or any(item.kind != "message" for item in accepted.input):
        return False
    calls = machine.firing.calls if machine.firing is not None else []
    return all(call.state != "client" and (call.effect == "pure" or call.sent is None) for call in calls)
