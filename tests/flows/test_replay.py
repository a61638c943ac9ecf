"""Recorded turns run again: the same facts, whatever went wrong while they were recorded; and a worker that does
otherwise is found out, with the place."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest

from headstart.replay.compare import compare
from headstart.replay.files import read_recording, write_recording
from headstart.replay.pacing import paced, span_s
from headstart.replay.recorder import Selection, choose
from headstart.replay.recording import Recording, lines, parse
from headstart.replay.redaction import redact
from headstart.replay.result import result_recording
from headstart.replay.stub import recorded_setups, replay_stub
from headstart.replay.turns import conversations
from streams.codec import Record, decode
from streams.errors import InvalidInput, NotFound
from streams.events.calling import CallClosed, CallFired, PlanCommitted
from streams.events.recalling import Recalled
from streams.events.turn import TurnAdopted, TurnEnd
from streams.topology import EVENTS, PROMPTS, TURNS
from tests.support.recordings import recorded_traffic
from workers.planning.commands import Publish, Recollected
from workers.planning.firing import FiringCore
from workers.planning.machine import TurnMachine

ROOT = Path(__file__).resolve().parent.parent.parent
TURNS_RECORDED = 500


@pytest.fixture(scope="module")
def recording() -> Recording:
    return recorded_traffic(TURNS_RECORDED, seed=20)


def differences(recording: Recording, **more: Any) -> list[Any]:
    replayed = asyncio.run(replay_stub(recording, **more))
    return compare(conversations(recording.events, recording.commands), replayed, redacted=recording.head.redacted)


def few(recording: Recording, count: int = 4) -> Recording:
    """Some conversations of it, whole."""
    names = sorted(conversations(recording.events))[:count]
    return choose(recording, Selection(conversations=frozenset(names)))


def test_the_recording_has_faults_among_its_turns(recording: Recording) -> None:
    logs = conversations(recording.events)
    turns = [turn for log in logs.values() for turn in log.turns.values()]
    assert len(turns) >= TURNS_RECORDED
    assert all(turn.end is not None for turn in turns)
    ends = Counter(type(turn.end).__name__ for turn in turns)
    assert min(ends[name] for name in ("TurnCompleted", "TurnIncomplete", "TurnCancelled", "TurnFailed")) >= 3
    epochs = Counter(
        (fact.identity.stage, fact.identity.epoch) for turn in turns for fact in turn.facts if fact.identity.seq == 0
    )
    assert epochs[("turn", 2)] >= 3  # taken over by another owner
    assert epochs[("answer", 2)] + epochs[("plan", 2)] >= 3  # taken over by another generation worker
    failed = sum("call.failed" in fact.record.type for turn in turns for fact in turn.facts)
    voided = sum("call.voided" in fact.record.type for turn in turns for fact in turn.facts)
    assert min(failed, voided) >= 3
    assert recording.head.missing == ()


def test_every_turn_comes_out_the_same(recording: Recording, capsys: pytest.CaptureFixture[str]) -> None:
    began = time.perf_counter()
    replayed = asyncio.run(replay_stub(recording))
    took_s = time.perf_counter() - began
    found = compare(conversations(recording.events, recording.commands), replayed)
    assert [one.text() for one in found] == []
    with capsys.disabled():
        print(f"\n{recording.head.turns} turns of {span_s(recording):.0f} s replayed {span_s(recording) / took_s:.0f}×")


def test_it_comes_out_the_same_from_a_file_and_from_facts_alone(recording: Recording, tmp_path: Path) -> None:
    file = tmp_path / "traffic.jsonl.gz"
    write_recording(few(recording), file)
    again = read_recording(file)
    assert list(lines(again)) == list(lines(few(recording)))
    assert differences(again) == []
    without = Recording(again.head, [record for record in again.records if record.topic != TURNS.name])
    notes = {one.turn for one in differences(without) if not one.turn.startswith("conv_")}
    assert notes == set()  # commands are made from facts; only a rename has no fact to be made from


def test_a_replay_can_be_replayed(recording: Recording) -> None:
    part = few(recording, 2)
    result = result_recording(part, asyncio.run(replay_stub(part)), {"mode": "stub"}, 5)
    before = {turn.turn: [fact.record.type for fact in turn.facts if fact.identity.stage == "turn"]
              for log in conversations(part.events).values() for turn in log.turns.values()}  # fmt: skip
    after = {turn.turn: [fact.record.type for fact in turn.facts if fact.identity.stage == "turn"]
             for log in conversations(result.events).values() for turn in log.turns.values()}  # fmt: skip
    assert after == before
    assert result.head.shadow == {"mode": "stub"}


# -- a changed worker ------------------------------------------------------------------------------------------------


def test_two_facts_in_another_order_are_found_and_named(recording: Recording, monkeypatch: pytest.MonkeyPatch) -> None:
    finish = FiringCore.finish

    def commit_first(self: FiringCore, reason: str, now_ms: float) -> list[Any]:
        decisions = finish(self, reason, now_ms)
        committed = [one for one in decisions if isinstance(one, Publish) and isinstance(one.event, PlanCommitted)]
        return committed + [one for one in decisions if one not in committed]

    part = choose(recording, Selection(turns=frozenset({_turn_that_closes_late(recording)})))
    assert differences(part) == []
    monkeypatch.setattr(FiringCore, "finish", commit_first)
    [found] = differences(part)
    assert found.kind == "order"
    assert "plan.committed" in found.words
    assert found.place.startswith(found.turn + "/turn/1/")
    at = int(found.place.rpartition("/")[2])
    log = next(iter(conversations(part.events).values())).turns[found.turn]
    assert log.of_stage["turn"][at].record.type == found.recorded["type"]  # the place is where the log has it


def _turn_that_closes_late(recording: Recording) -> str:
    """A turn whose plan voids a call, or closes one, in the very step in which it is committed."""
    for log in conversations(recording.events).values():
        for turn in log.turns.values():
            decided = turn.of_stage["turn"]
            for before, fact in pairwise(decided):
                if isinstance(fact.event, PlanCommitted) and not fact.taken and not isinstance(before.event, CallFired):
                    return turn.turn
    raise AssertionError("no such turn was recorded")


def test_a_changed_decision_is_found_with_its_field(recording: Recording, monkeypatch: pytest.MonkeyPatch) -> None:
    close = FiringCore._close

    def louder(self: FiringCore, call: Any, arguments: dict[str, Any], now_ms: float) -> list[Any]:
        return close(self, call, {**arguments, "city": "Bern"} if "city" in arguments else arguments, now_ms)

    part = few(recording, 6)
    monkeypatch.setattr(FiringCore, "_close", louder)
    found = differences(part)
    changed = [one for one in found if one.kind == "changed" and one.path.endswith("call.closed.arguments.city")]
    assert changed
    assert (changed[0].recorded, changed[0].replayed) == ("Rome", "Bern")


def test_a_forgotten_fact_and_an_added_one_are_found(recording: Recording, monkeypatch: pytest.MonkeyPatch) -> None:
    part = few(recording, 3)
    recollected = TurnMachine._recollected

    def forgetful(self: TurnMachine, item: Recollected, now_ms: float) -> list[Any]:
        return [
            one
            for one in recollected(self, item, now_ms)
            if not (isinstance(one, Publish) and isinstance(one.event, Recalled))
        ]

    handlers = dict(_handlers())
    handlers[Recollected] = forgetful
    monkeypatch.setattr("workers.planning.machine._HANDLERS", handlers)
    kinds = {one.kind for one in differences(part)}
    assert "missing" in kinds


def _handlers() -> dict[Any, Any]:
    from workers.planning import machine

    return dict(machine._HANDLERS)


def test_a_tampered_input_is_found(recording: Recording) -> None:
    part = few(recording, 6)
    records = [_with_another_result(record) for record in part.records]
    assert records != part.records
    assert any("model.asked" in one.path or one.kind == "changed" for one in differences(Recording(part.head, records)))


def _with_another_result(record: Record) -> Record:
    if record.topic == EVENTS.name and record.type.endswith("call.answered.v1"):
        return msgspec.structs.replace(record, value=record.value.replace(b"Anna", b"Otto"))
    return record


# -- cut, masked, mailed ---------------------------------------------------------------------------------------------


def test_one_conversation_is_mailed_and_replayed_elsewhere(recording: Recording, tmp_path: Path) -> None:
    """In a process of its own that knows no broker and no database, in a folder of its own."""
    name = max(conversations(recording.events).values(), key=lambda log: len(log.segments)).conversation
    cut = choose(recording, Selection(conversations=frozenset({name})))
    assert 1 <= cut.head.turns < recording.head.turns
    assert {(record.key or b"").decode() for record in cut.events} == {name}
    file = tmp_path / "mail" / "one.jsonl.gz"
    file.parent.mkdir()
    write_recording(cut, file)
    out = file.with_name("again.jsonl")
    said = subprocess.run(
        [sys.executable, "-m", "headstart", "replay", str(file), "--out", str(out)],
        cwd=file.parent, env={"PATH": "/usr/bin", "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert said.returncode == 0, said.stdout + said.stderr
    assert f"{cut.head.turns} of {cut.head.turns} turns came out the same" in said.stdout
    assert read_recording(out).head.turns == cut.head.turns


def test_what_a_recording_lacks_is_named(recording: Recording) -> None:
    part = few(recording, 2)
    bare = Recording(part.head, [record for record in part.records if record.topic != PROMPTS.name])
    with pytest.raises(NotFound, match="has no setup"):
        differences(bare)
    bare = choose(bare, Selection(since_ms=0))
    assert any(name.startswith("setup/") for name in bare.head.missing)
    setups = recorded_setups(part)
    assert differences(bare, setups=setups) == []


def test_masked_it_still_comes_out_the_same(recording: Recording) -> None:
    part = redact(few(recording, 6), words=("Anna",))
    text = b"".join(lines(part))
    assert not any(f'"user{number}"'.encode() in text for number in range(5))
    assert b'"Anna' not in text
    assert b"Anna" not in b"".join(record.value for record in part.events)
    assert differences(part) == []


def test_a_word_that_a_prompt_says_itself_is_not_masked(recording: Recording) -> None:
    with pytest.raises(InvalidInput, match="says 'chef' itself"):
        redact(few(recording, 1), words=("chef",))


# -- time ------------------------------------------------------------------------------------------------------------


@pytest.mark.asyncio
async def test_at_a_factor_it_waits_for_what_was_recorded(recording: Recording) -> None:
    part = few(recording, 2)
    slept: list[float] = []
    now = [0.0]

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        now[0] += seconds
        await asyncio.sleep(0)

    first_ms = min(record.timestamp_ms for record in part.events)
    pace = paced(first_ms, 10.0, sleep, lambda: now[0])
    replayed = await replay_stub(part, pace=pace)
    assert compare(conversations(part.events, part.commands), replayed) == []
    last_ms = max(
        fact.record.timestamp_ms
        for log in conversations(part.events).values()
        for segment in log.segments
        for fact in segment.facts
    )
    assert now[0] >= (last_ms - first_ms) / 1000 / 10 - 1e-6
    assert slept


def test_takeovers_are_replayed_as_such(recording: Recording) -> None:
    logs = conversations(recording.events)
    adopted = [
        turn.turn
        for log in logs.values()
        for turn in log.turns.values()
        if any(isinstance(fact.event, TurnAdopted) for fact in turn.facts)
    ]
    part = choose(recording, Selection(turns=frozenset(adopted)))
    replayed = asyncio.run(replay_stub(part))
    written = [record.type for again in replayed.values() for records in again.facts.values() for record in records]
    assert written.count(TurnAdopted.TYPE) >= len(adopted)


def test_the_lines_are_json_and_carry_their_schemas(recording: Recording) -> None:
    text = list(lines(few(recording, 1)))
    kinds = Counter(json.loads(line)["kind"] for line in text)
    assert kinds["recording"] == 1
    assert kinds["schema"] >= 10
    assert parse(text).schemas["headstart.turn.accepted.v1"]["x-topics"] == ["events"]
    assert any(isinstance(decode(record), TurnEnd | CallClosed) for record in parse(text).events)
