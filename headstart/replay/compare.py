"""What an owner wrote when a turn ran again, held against what was recorded: fact by fact, as canonical JSON. Pure.

Facts of stage "turn" must be the same in the same order, and so must what was sent to skills (`call.fired`). Outcomes
of calls and what a model said are inputs. Where another owner took over, or the recording ends, the owner before may
have decided more than it lived to write: what goes beyond the recording is no difference there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any, Final

import msgspec

from headstart.replay.turns import TURN, ConversationLog, Replayed, TurnLog
from streams.codec import Identity, Record, identity
from streams.events import REGISTRY
from streams.events.calling import CallFired, CallVoided
from streams.events.turn import TurnAdopted, TurnCompleted
from streams.fence import NOTE

# What masking personal data changes by itself: a key is a hash over arguments.
_MASKED: Final = frozenset({"key"})
_NONE: Final = msgspec.NODEFAULT
Canonical = dict[str, Any]


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """The first place at which a turn differs.

    kind: changed | missing (recorded, not written now) | extra (written now, not recorded) | order | input.
    place: the fact's id in the log. path: the field, for a change. recorded, replayed: the facts, or the fields.
    """

    turn: str
    kind: str
    place: str
    path: str = ""
    recorded: Any = None
    replayed: Any = None
    words: str = ""

    def text(self) -> str:
        """In one line or a few, for people."""
        head = f"{self.turn}: {self.kind} at {self.place}{self.path}"
        lines = [f"  {self.words}"] if self.words else []
        if self.recorded is not None:
            lines.append(f"  recorded  {_json(self.recorded)}")
        if self.replayed is not None:
            lines.append(f"  replayed  {_json(self.replayed)}")
        return "\n".join([head, *lines])


def compare(
    logs: Mapping[str, ConversationLog], replayed: Mapping[str, Replayed], *, redacted: bool = False
) -> list[Difference]:
    """The first difference of every turn that has one, in the recording's order."""
    found: list[Difference] = []
    for name, log in logs.items():
        again = replayed.get(name, Replayed())
        for turn in log.turns.values():
            one = compare_turn(turn, again.facts.get(turn.turn, []), again.problems.get(turn.turn, []), redacted)
            if one is not None:
                found.append(one)
        found += _new_turns(log, again)
        found += _notes(log, again)
    return found


def compare_turn(
    turn: TurnLog, records: Sequence[Record], problems: Sequence[str] = (), redacted: bool = False
) -> Difference | None:
    """The first difference of one turn; None when it is the same. problems: what its replay met."""
    was = _of_turn([(fact.identity, fact.record) for fact in turn.facts], redacted)
    now = _of_turn([(identity(record), record) for record in records], redacted)
    epochs = sorted(was.keys() | now.keys())
    for epoch in epochs:
        whole = epoch == epochs[-1] and turn.end is not None
        difference = _facts(turn.turn, f"{turn.turn}/{TURN}/{epoch}", was.get(epoch, []), now.get(epoch, []), whole)
        if difference is not None:
            return difference
    if (difference := _firings(turn, records, redacted)) is not None:
        return difference
    if problems:
        return Difference(turn=turn.turn, kind="input", place=turn.turn, words="; ".join(problems))
    return None


def canonical(record: Record, redacted: bool = False) -> Canonical:
    """A fact without what only its place says: its type and its fields, those that say their default left out."""
    data = msgspec.json.decode(record.value)
    if isinstance(data, dict):
        usual = _defaults(record.type)
        hidden = _MASKED if redacted else frozenset()
        data = {
            key: value for key, value in data.items() if key not in hidden and (key not in usual or usual[key] != value)
        }  # fmt: skip
    return {"type": record.type, "data": data}


@cache
def _defaults(kind: str) -> Mapping[str, Any]:
    """What the fields of a type are when nothing is said, as JSON: an encoder may say it or not."""
    cls = REGISTRY.get(kind)
    if cls is None:
        return {}
    fields = msgspec.structs.fields(cls)
    return {field.encode_name: msgspec.to_builtins(field.default) for field in fields if field.default is not _NONE}


def _of_turn(facts: Iterable[tuple[Identity, Record]], redacted: bool) -> dict[int, list[Canonical]]:
    epochs: dict[int, list[Canonical]] = {}
    for fact, record in facts:
        if fact.stage == TURN:
            epochs.setdefault(fact.epoch, []).append(canonical(record, redacted))
    return epochs


def _facts(turn: str, stage: str, was: Sequence[Canonical], now: Sequence[Canonical], whole: bool) -> Difference | None:
    for index, (one, other) in enumerate(zip(was, now, strict=False)):
        if one != other:
            return _differs(turn, stage, index, was, now)
    if len(now) < len(was):
        return Difference(turn=turn, kind="missing", place=f"{stage}/{len(now)}", recorded=was[len(now)])
    if whole and len(now) > len(was):
        return Difference(turn=turn, kind="extra", place=f"{stage}/{len(was)}", replayed=now[len(was)])
    return None


def _differs(turn: str, stage: str, index: int, was: Sequence[Canonical], now: Sequence[Canonical]) -> Difference:
    place, one, other = f"{stage}/{index}", was[index], now[index]
    if one in now[index + 1 :] and other in was[index + 1 :]:
        later = index + 1 + list(now[index + 1 :]).index(one)
        words = f"{_name(one)} was written before {_name(other)}; now it stands at {stage}/{later}, behind it"
        return Difference(turn=turn, kind="order", place=place, recorded=one, replayed=other, words=words)
    if one["type"] != other["type"]:
        kind = "extra" if one in now[index + 1 :] else "missing" if other in was[index + 1 :] else "changed"
        return Difference(turn=turn, kind=kind, place=place, recorded=one, replayed=other)
    path, before, after = first_change(one["data"], other["data"])
    return Difference(
        turn=turn, kind="changed", place=place, path=f" {_name(one)}{path}", recorded=before, replayed=after
    )


def first_change(was: Any, now: Any, path: str = "") -> tuple[str, Any, Any]:
    """The first place at which two JSON values differ, as a path, with both sides."""
    if isinstance(was, dict) and isinstance(now, dict):
        for key in [*was, *(key for key in now if key not in was)]:
            if was.get(key) != now.get(key):
                return first_change(was.get(key), now.get(key), f"{path}.{key}")
    if isinstance(was, list) and isinstance(now, list):
        for index, (one, other) in enumerate(zip(was, now, strict=False)):
            if one != other:
                return first_change(one, other, f"{path}[{index}]")
    return path, was, now


def _firings(turn: TurnLog, records: Sequence[Record], redacted: bool) -> Difference | None:
    """What was sent to skills, claim by claim of each call. An owner may have wanted to send what it did not live, or
    have time, to send: what is sent beyond the recording counts where the turn completed with the call. What was sent
    after the turn's end, by an owner that had not read so far, decides nothing."""
    until_end = [fact for fact in turn.facts if turn.end_offset < 0 or fact.record.offset < turn.end_offset]
    was = _sent([(fact.identity, fact.record) for fact in until_end], redacted)
    now = _sent([(identity(record), record) for record in records], redacted)
    voided = {f"call.{fact.event.call}" for fact in turn.facts if isinstance(fact.event, CallVoided)}
    adopted = any(isinstance(fact.event, TurnAdopted) for fact in turn.facts)
    for stage, epoch in sorted(was.keys() | now.keys()):
        one, other = was.get((stage, epoch)), now.get((stage, epoch))
        place = f"{turn.turn}/{stage}/{epoch}"
        if one is not None and other is not None and one != other:
            path, old, new = first_change(one["data"], other["data"])
            return Difference(
                turn=turn.turn, kind="changed", place=place, path=f" call.fired{path}", recorded=old, replayed=new
            )
        if one is not None and other is None:
            words = "the call was sent, and is not now"
            return Difference(turn=turn.turn, kind="missing", place=place, recorded=one, words=words)
        if one is None and isinstance(turn.end, TurnCompleted) and stage not in voided and not adopted:
            words = "the call was not sent, and is now"
            return Difference(turn=turn.turn, kind="extra", place=place, replayed=other, words=words)
    return None


def _sent(facts: Iterable[tuple[Identity, Record]], redacted: bool) -> dict[tuple[str, int], Canonical]:
    """What was sent, by the call's stage and the claim."""
    return {
        (fact.stage, fact.epoch): canonical(record, redacted) for fact, record in facts if record.type == CallFired.TYPE
    }


def _new_turns(log: ConversationLog, again: Replayed) -> list[Difference]:
    """Turns that exist only now."""
    return [
        Difference(turn=subject, kind="extra", place=subject, words="the turn is not in the recording")
        for subject in again.facts
        if subject not in log.turns and subject != log.conversation
    ]


def _notes(log: ConversationLog, again: Replayed) -> list[Difference]:
    """Facts about the conversation itself, each identified by the command it came from."""
    now = {
        identity(record).seq: canonical(record)
        for record in again.facts.get(log.conversation, [])
        if identity(record).stage == NOTE
    }
    found = [
        Difference(turn=log.conversation, kind="changed", place=fact.identity.text(), recorded=was, replayed=new)
        for fact in log.notes
        if (new := now.get(fact.identity.seq)) is not None and new != (was := canonical(fact.record))
    ]
    if problems := again.problems.get(log.conversation):
        found.append(
            Difference(turn=log.conversation, kind="input", place=log.conversation, words="; ".join(problems))
        )  # fmt: skip
    return found


def _name(fact: Canonical) -> str:
    return str(fact["type"]).removeprefix("headstart.").rpartition(".v")[0]


def _json(value: Any) -> str:
    return msgspec.json.encode(value, order="deterministic").decode()


__all__ = ["Canonical", "Difference", "canonical", "compare", "compare_turn", "first_change"]
