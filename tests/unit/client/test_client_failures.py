"""The client's core when something fails: refusals, gaps, holes, lost connections, and any order of all that."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from headstart.client_readers import Fail, Frame, Reconnect, Send, Wait
from streams.errors import NotFound, PeerError, Refused
from tests.support.client_simulation import Simulation
from tests.support.frame_log import conversation_name


def test_an_error_frame_ends_the_reader_it_names_and_no_other() -> None:
    sim = Simulation()
    sim.connect()
    sim.world.refuse["bad"] = "conversation_not_found"
    bad = sim.submit("e1", input="bad")
    good = sim.submit("e2")
    frames = sim.answer("e2")
    sim.settle()
    assert isinstance(sim.errors[bad], NotFound)
    assert sim.given[good] == frames
    assert sim.state.received({"type": "error", "code": "x", "message": "to nobody"}, 10) == []


@pytest.mark.parametrize("error", [{"code": "draining"}, {"code": "peer_unavailable"}, {"code": "bus_down"}])
def test_a_request_a_gateway_could_not_take_is_repeated_elsewhere_and_not_for_ever(error: Frame) -> None:
    sim = Simulation()
    sim.connect()
    key = sim.submit("e1")
    frame = {"type": "error", "event_id": "e1", "status": 503, "error": {"message": "not now", **error}}
    for _ in range(5):
        assert sim.state.received(frame, 9) == [Reconnect()]
    sim.apply(sim.state.received(frame, 9))
    assert key in sim.errors


@pytest.mark.parametrize(("code", "status"), [("rate_limited", 429), ("unknown_conversation", 404)])
def test_what_a_caller_has_to_know_is_not_repeated(code: str, status: int) -> None:
    sim = Simulation()
    sim.connect()
    key = sim.submit("e1")
    sim.apply(sim.state.received({"type": "error", "event_id": "e1", "status": status, "error": {"code": code}}, 9))
    assert sim.errors[key].code == code


@pytest.mark.parametrize("code", ["no_worker", "database_unavailable"])
def test_what_passes_is_waited_out_and_the_same_request_is_sent_again(code: str) -> None:
    sim = Simulation()
    sim.connect()
    key = sim.submit("e1")
    request = sim.world.submits[0]
    if code == "no_worker":
        sim.pump(1)  # the gateway has taken it; nobody behind it does
    frame = {"type": "error", "event_id": "e1", "status": 503, "error": {"message": "not now", "code": code}}
    for times in range(1, 20):
        [wait] = sim.state.received(frame, 9)
        assert isinstance(wait, Wait)
        assert (wait.reader, wait.error.code, wait.times) == (key, code, times)
        assert sim.state.received(frame, 9) == []  # said twice, waited once
        assert sim.state.repeat(key) == [Send(request)]
    error = PeerError("not now", code=code)
    assert sim.state.give_up(key, error) == [Fail(key, error)]
    assert sim.state.repeat(key) == sim.state.give_up(key, error) == []


def test_a_turn_that_has_begun_while_its_request_waited_is_not_asked_for_again() -> None:
    sim = Simulation()
    sim.connect()
    key = sim.submit("e1")
    sim.pump(1)
    sim.apply(sim.state.received({"type": "error", "event_id": "e1", "error": {"code": "no_worker"}}, 9))
    frames = sim.answer("e1")
    sim.pump(3)
    assert sim.state.repeat(key) == []
    sim.settle()
    assert sim.given[key] == frames


def test_a_gap_ends_a_turn_and_is_told_to_an_attachment() -> None:
    sim = Simulation()
    sim.connect()
    turn = sim.submit("e1")
    sim.pump()
    conversation, response = sim.world.turns["e1"]
    attachment = sim.attach(conversation, "start")
    sim.pump()
    sim.apply(sim.state.received({"type": "session.gap", "conversation": conversation, "oldest": 9}, 50))
    assert isinstance(sim.errors[turn], PeerError)
    assert sim.errors[turn].code == "history_gone"
    assert sim.given[attachment][-1]["type"] == "session.gap"
    sim.world.logs[conversation].end(response)
    sim.settle()
    assert sim.given[attachment][-1]["type"] == "response.completed"


def test_an_attach_that_is_refused_ends_its_reader_and_one_that_may_be_tried_again_ends_the_connection() -> None:
    sim = Simulation()
    sim.connect()
    conversation = conversation_name(1)
    first, second = sim.attach(conversation, "start"), sim.attach(conversation, "start")
    error: Frame = {"type": "error", "event_id": f"attach/1/{conversation}", "status": 503}
    assert sim.state.received({**error, "error": {"code": "peer_unavailable", "retriable": True}}, 9) == [Reconnect()]
    sim.apply(sim.state.received({**error, "error": {"code": "unknown_conversation", "message": "no"}}, 9))
    assert isinstance(sim.errors[first], NotFound)
    assert second not in sim.errors


def test_a_conversation_nobody_reads_any_more_is_detached_from() -> None:
    sim = Simulation()
    sim.connect()
    conversation = conversation_name(1)
    first, second = sim.attach(conversation, "start"), sim.attach(conversation, "live")
    sim.settle()
    assert sim.state.release(first) == []
    assert sim.state.release(second) == [Send({"type": "session.detach", "conversation": conversation})]
    assert sim.state.release(second) == []
    key = sim.attach(conversation, "start")
    sim.world.log(conversation).open()
    sim.settle()
    assert sim.given[key] == sim.world.log(conversation).frames


def test_a_gap_behind_another_reader_does_not_end_a_turn_that_is_whole() -> None:
    sim = Simulation()
    sim.connect()
    turn = sim.submit("e1")
    sim.pump()
    conversation, _ = sim.world.turns["e1"]
    log = sim.world.logs[conversation]
    gap = {"type": "session.gap", "conversation": conversation, "oldest": log.frames[0]["cursor"]}
    sim.apply(sim.state.received(gap, 50))
    frames = sim.answer("e1")
    sim.settle()
    assert sim.given[turn] == frames


def test_a_cancel_is_said_again_once_the_turn_stands_in_the_log() -> None:
    sim = Simulation()
    sim.connect()
    key = sim.submit("e1")
    sim.pump(1)  # accepted, and no frame of it yet
    sim.world.unknown_to_cancel.add(sim.responses[key])
    sim.apply(sim.state.cancel(key))
    assert sim.world.cancelled == []
    sim.settle()
    assert sim.given[key][-1]["response"]["status"] == "cancelled"


def test_a_hole_in_a_response_is_asked_for_again_and_reported_when_it_stays() -> None:
    sim = Simulation()
    sim.connect()
    key = sim.submit("e1")
    frames = sim.answer("e1")
    assert sim.feeds is not None
    sim.pump(3)
    conversation, _ = sim.world.turns["e1"]
    sim.feeds.places[conversation] += 2  # the gateway leaves two frames out
    sim.settle()
    assert sim.given[key] == frames
    assert sim.state.holes == 1

    other = sim.submit("e2")
    frames = sim.answer("e2")
    conversation, _ = sim.world.turns["e2"]
    log = sim.world.logs[conversation]
    del log.frames[log.frames.index(frames[2])]  # the log itself has a hole
    sim.settle()
    assert isinstance(sim.errors[other], PeerError)


def test_a_malformed_cursor_is_counted_and_harms_nobody() -> None:
    sim = Simulation()
    sim.connect()
    assert sim.state.received({"type": "response.created", "cursor": "zzz"}, 10) == []
    assert sim.state.received({"type": "response.created", "cursor": 4}, 10) == []
    assert sim.state.malformed == 2


def test_when_no_connection_will_come_every_reader_is_told() -> None:
    sim = Simulation()
    keys = [sim.submit("e1"), sim.submit("e2")]
    sim.apply(sim.state.failed(Refused("closed")))
    assert set(sim.errors) == set(keys)


STEPS = st.one_of(
    st.tuples(st.just("submit"), st.integers(0, 2)),
    st.tuples(st.just("attach"), st.integers(0, 2)),
    st.tuples(st.just("say"), st.integers(0, 5)),
    st.tuples(st.just("end"), st.integers(0, 5)),
    st.tuples(st.just("pump"), st.integers(1, 6)),
    st.tuples(st.just("send"), st.integers(1, 6)),
    st.tuples(st.just("consume"), st.integers(0, 5)),
    st.tuples(st.just("cut"), st.just(0)),
    st.tuples(st.just("connect"), st.just(0)),
)


@settings(max_examples=400, deadline=None)
@example(
    [("attach", 1), ("submit", 1), ("connect", 0), ("submit", 1), ("say", 0), ("say", 0), ("say", 0), ("say", 1)],
    600,
    False,
)  # two slow readers of one conversation ask for it again before either is answered
@given(st.lists(STEPS, max_size=60), st.sampled_from([600, 2_000, 1 << 20]), st.booleans())
def test_whatever_happens_every_reader_gets_exactly_its_frames(
    steps: list[tuple[str, int]], limit_bytes: int, late_answers: bool
) -> None:
    """Random turns in three conversations, cuts, slow consumers and late answers: nothing lost, repeated, reordered."""
    sim = Simulation(limit_bytes, late_answers)
    names = [conversation_name(number) for number in range(3)]
    turns: dict[int, str] = {}
    attached: dict[int, str] = {}
    for kind, number in steps:
        match kind:
            case "submit":
                event_id = f"e{len(turns)}"
                turns[sim.submit(event_id, names[number])] = event_id
            case "attach":
                attached[sim.attach(names[number], "start")] = names[number]
            case "say" | "end" if sim.world.turns:
                event_id = sorted(sim.world.turns)[number % len(sim.world.turns)]
                conversation, response = sim.world.turns[event_id]
                log = sim.world.logs[conversation]
                if log.of(response)[-1]["type"] != "response.completed":
                    log.say(response, "word") if kind == "say" else log.end(response)
            case "pump":
                sim.pump(number)
            case "send" if sim.feeds is not None:
                sim.feeds.send(number)
            case "consume":
                sim.consume(number, 3)
            case "cut":
                sim.cut()
            case "connect":
                sim.connect()
    sim.settle()
    for conversation, response in sim.world.turns.values():
        log = sim.world.logs[conversation]
        if log.of(response)[-1]["type"] != "response.completed":
            log.end(response)
    sim.settle()
    assert not sim.errors
    for key, event_id in turns.items():
        conversation, response = sim.world.turns[event_id]
        assert sim.given[key] == sim.world.logs[conversation].of(response)
    for key, conversation in attached.items():
        assert sim.given.get(key, []) == sim.world.log(conversation).frames
