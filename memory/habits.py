"""Experience: what a member does again and again, counted from the log, and what of it is worth telling a prompt.

Counted are the agents that took the member's turns, the skills that answered and the short arguments they were given,
and the suggestions (calls that waited for the member's word) that were taken or declined. A habit counts once it was
seen SEEN times; it is told when it has to do with one of the skills that the turn may use. What the person
says instead takes the place of what was counted, and what they muted is never told.

Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Final

import msgspec

from memory.rows import HabitRow, Observed
from streams.events.recalling import RecalledItem
from streams.ids import digest_hex

SEEN: Final = 3
HOURS: Final = 24
# Parts of the day in UTC hours, first to last; the one that holds most of a habit's times names it.
PARTS: Final = {"at night": range(5), "in the morning": range(5, 12), "in the afternoon": range(12, 18),
                "in the evening": range(18, 24)}  # fmt: skip
MOSTLY: Final = 0.6
# Of a habit that had this share of all its skill's uses: the others are chance.
USUAL: Final = 0.5
TOLD: Final = 12


def habit_id(tenant: str, user: str, kind: str, name: str) -> str:
    """`habit_` and 32 hex digits: one per member and thing that is counted."""
    return f"habit_{digest_hex('habit', tenant, user, kind, name)[:32]}"


def counted(known: HabitRow | None, seen: Observed) -> HabitRow:
    """The habit with one more time counted."""
    if known is None:
        known = HabitRow(
            id=habit_id(seen.tenant, seen.user, seen.kind, seen.name), tenant=seen.tenant, user=seen.user,
            kind=seen.kind, name=seen.name, taken=0, declined=0, hours=(0,) * HOURS, first_at_ms=seen.at_ms,
            last_at_ms=seen.at_ms,
        )  # fmt: skip
    hour = datetime.fromtimestamp(seen.at_ms / 1000, UTC).hour
    hours = tuple(times + 1 if at == hour else times for at, times in enumerate(known.hours))
    return msgspec.structs.replace(
        known, taken=known.taken + seen.taken, declined=known.declined + (not seen.taken), hours=hours,
        first_at_ms=min(known.first_at_ms, seen.at_ms), last_at_ms=max(known.last_at_ms, seen.at_ms),
    )  # fmt: skip


def part_of_day(habit: HabitRow) -> str:
    """When it mostly happens, "" when at any time."""
    whole = sum(habit.hours)
    for name, hours in PARTS.items():
        if whole and sum(habit.hours[hour] for hour in hours) >= MOSTLY * whole:
            return name
    return ""


def sentence(habit: HabitRow) -> str:
    """The habit in words, as the person sees it and a prompt is told; the correction where there is one."""
    if habit.correction:
        return habit.correction
    when = part_of_day(habit)
    if habit.kind == "argument":
        skill, _, pair = habit.name.partition("/")
        parameter, _, value = pair.partition("=")
        text = f"I usually mean {value} as {parameter.replace('_', ' ')} for {skill}"
    elif habit.kind == "suggestion":
        whole = habit.taken + habit.declined
        did = "approved" if habit.taken >= habit.declined else "declined"
        text = f"I {did} {habit.name} {max(habit.taken, habit.declined)} of {whole} times"
    else:
        text = f"I often use {habit.name}"
    return f"{text}, mostly {when}." if when else f"{text}."


def told(habits: Sequence[HabitRow]) -> list[RecalledItem]:
    """What prompts may be told of a member's habits, the most certain first, each with the skill that it is about.

    A habit of agents is for routing and not told.
    """
    uses = {habit.name: habit.taken for habit in habits if habit.kind == "skill"}
    items: list[RecalledItem] = []
    for habit in habits:
        skill = habit.name.partition("/")[0]
        times = habit.taken + habit.declined
        if habit.muted or habit.kind == "agent":
            continue
        if not habit.correction and times < SEEN:
            continue
        share = habit.taken / max(1, uses.get(skill, times))
        if habit.kind == "argument" and not habit.correction and share < USUAL:
            continue
        if habit.kind == "skill" and not habit.correction:
            continue  # that a skill is used often says nothing about how
        why = f"{habit.taken} times" + (f", declined {habit.declined}" if habit.declined else "")
        items.append(
            RecalledItem(
                id=habit.id, layer="procedure", text=sentence(habit), score=round(min(1.0, share), 4),
                at_ms=habit.last_at_ms, why="corrected by the person" if habit.correction else why,
                about=skill,
            )
        )  # fmt: skip
    items.sort(key=lambda item: (-item.score, item.id))
    return items[:TOLD]


def leaning(habits: Iterable[HabitRow]) -> dict[str, float]:
    """By agent, the share of the member's turns that it took, 0..1; {} before SEEN turns. Settles what a router finds
    equally near."""
    agents = {habit.name: habit.taken for habit in habits if habit.kind == "agent" and not habit.muted}
    whole = sum(agents.values())
    return {name: times / whole for name, times in agents.items()} if whole >= SEEN else {}
