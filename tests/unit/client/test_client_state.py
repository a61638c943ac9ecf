"""The client's core against a simulated gateway: any cut, any order of answers, any slowness of consumers."""

from __future__ import annotations

import orjson
import pytest

from streams.errors import InvalidInput, Refused
from tests.support.client_simulation import Simulation
from tests.support.frame_log import FrameLog, conversation_name


def test_a_turn_gets_its_frames_in_order_and_ends() -> None:
    sim = Simulation()
    sim.connect()
    key = sim.submit("e1")
    sim.pump()
    frames = sim.answer("e1")
    sim.settle()
    assert sim.given[key] == frames
    assert key in sim.ended
    assert sim.responses[key] == frames[0]["response_id"]


@pytest.mark.parametrize("cut_after", range(9))
def test_a_cut_anywhere_repeats_and_loses_nothing(cut_after: int) -> None:
    sim = Simulation()
    sim.connect()
    key = sim.submit("e1")
    frames = sim.answer("e1")
    sim.pump(cut_after)
    sim.connect()
    sim.settle()
    assert sim.given[key] == frames
    assert len({request["event_id"] for request in sim.world.submits}) == 1


def test_a_submit_while_there_is_no_connection_goes_out_with_the_next_one() -> None:
    sim = Simulation()
    key = sim.submit("e1")
    sim.connect()
    frames = sim.answer("e1")
    sim.settle()
    assert sim.given[key] == frames


def test_a_request_is_repeated_only_until_its_first_frame() -> None:
    sim = Simulation()
    sim.connect()
    sim.submit("e1")
    sim.pump()
    sim.connect()
    sim.pump()
    assert [request["event_id"] for request in sim.world.submits] == ["e1"]


def test_frames_that_come_before_accepted_are_kept() -> None:
    sim = Simulation(late_answers=True)
    sim.connect()
    key = sim.submit("e1")
    frames = sim.answer("e1")
    sim.settle()
    assert sim.given[key] == frames


def test_more_frames_before_accepted_than_may_be_held_are_read_from_the_log() -> None:
    sim = Simulation(late_answers=True)
    sim.connect()
    key = sim.submit("e1")
    frames = sim.answer("e1", words=2_000)
    assert sum(len(orjson.dumps(frame)) for frame in frames) > 1 << 18
    sim.settle()
    assert sim.given[key] == frames


def test_a_slow_consumer_keeps_only_its_bound_and_gets_everything() -> None:
    sim = Simulation(limit_bytes=2_000)
    sim.connect()
    slow, quick = sim.submit("e1"), sim.submit("e2")
    slow_frames, quick_frames = sim.answer("e1", words=100), sim.answer("e2", words=100)
    while quick not in sim.ended:
        sim.pump(1)
        sim.consume(quick)
        assert sum(sim.queued.get(slow, [])) <= 2_000 + 400
    assert sim.given[quick] == quick_frames
    sim.settle()
    assert sim.given[slow] == slow_frames


def test_a_slow_reader_does_not_stop_another_of_the_same_conversation() -> None:
    sim = Simulation(limit_bytes=1_500)
    sim.connect()
    first = sim.submit("e1")
    sim.pump()
    conversation, _ = sim.world.turns["e1"]
    first_frames = sim.answer("e1", words=50)
    second = sim.submit("e2", conversation)
    second_frames = sim.answer("e2", words=50)
    while second not in sim.ended:
        sim.pump(1)
        sim.consume(second)
    assert sim.given[second] == second_frames
    sim.settle()
    assert sim.given[first] == first_frames


def test_a_live_attachment_goes_on_where_it_was_cut() -> None:
    sim = Simulation()
    conversation = conversation_name(1)
    log = sim.world.log(conversation)
    earlier = log.open()
    log.end(earlier)
    sim.connect()
    key = sim.attach(conversation, "live")
    sim.pump()
    response = log.open()
    sim.pump()
    sim.cut()
    log.say(response, "while away")
    log.end(response)
    sim.settle()
    assert sim.given[key] == log.of(response)


def test_an_attachment_from_the_start_beside_a_running_turn_gets_the_whole_conversation() -> None:
    sim = Simulation()
    sim.connect()
    turn = sim.submit("e1")
    sim.pump()
    conversation, response = sim.world.turns["e1"]
    log = sim.world.logs[conversation]
    log.say(response, "a")
    sim.pump()
    log.say(response, "b")
    key = sim.attach(conversation, "start")
    log.end(response)
    sim.settle()
    assert sim.given[key] == log.frames
    assert sim.given[turn] == log.frames


def test_frames_on_their_way_when_an_attach_is_sent_are_not_taken_for_its_answer() -> None:
    sim = Simulation()
    sim.connect()
    sim.submit("e1")
    sim.pump()
    conversation, response = sim.world.turns["e1"]
    log = sim.world.logs[conversation]
    log.say(response, "on its way")
    assert sim.feeds is not None
    sim.feeds.send(1)
    key = sim.attach(conversation, "start")
    sim.settle()
    assert sim.given[key] == log.frames


def test_a_cursor_of_another_conversation_is_refused_here() -> None:
    sim = Simulation()
    log = FrameLog(conversation_name(1))
    log.open()
    with pytest.raises(InvalidInput):
        sim.attach(conversation_name(2), log.frames[0]["cursor"])
    with pytest.raises(InvalidInput):
        sim.attach(conversation_name(2), "yesterday")


def test_cancel_is_sent_at_once_kept_over_a_cut_and_over_a_missing_response_id() -> None:
    sim = Simulation()
    key = sim.submit("e1")
    sim.apply(sim.state.cancel(key))  # neither connected nor accepted
    sim.connect()
    sim.settle()
    _, response = sim.world.turns["e1"]
    assert sim.world.cancelled[0] == response
    assert sim.given[key][-1]["response"]["status"] == "cancelled"
    assert sim.state.cancel(key) == []


def test_a_steered_turn_ends_and_its_successor_is_another_reader() -> None:
    sim = Simulation()
    sim.connect()
    key = sim.submit("e1")
    sim.pump()
    successor, actions = sim.state.steer(key, {"type": "response.steer", "event_id": "s1", "input": "and cheap"})
    sim.apply(actions)
    sim.pump()
    frames = sim.answer("s1")
    sim.settle()
    assert sim.given[key][-1]["response"]["headstart"] == {"reason": "steered"}
    assert sim.given[successor] == frames


@pytest.mark.parametrize("pumped", range(5))
def test_a_steer_survives_a_cut(pumped: int) -> None:
    sim = Simulation()
    sim.connect()
    key = sim.submit("e1")
    sim.pump()
    successor, actions = sim.state.steer(key, {"type": "response.steer", "event_id": "s1", "input": "and cheap"})
    if pumped == 0:
        sim.cut()  # it never reached the gateway
    sim.apply(actions)
    sim.pump(pumped)
    sim.connect()
    frames = sim.answer("s1")
    sim.settle()
    assert sim.given[successor] == frames
    assert sim.given[key][-1]["type"] == "response.incomplete"


def test_a_steer_that_fails_or_waits_says_so_to_its_own_reader() -> None:
    sim = Simulation()
    sim.connect()
    key = sim.submit("e1")
    sim.pump()
    for event_id, kind in (("s1", "response.steer.failed"), ("s2", "response.steer.pending")):
        successor, _ = sim.state.steer(key, {"type": "response.steer", "event_id": event_id, "input": "x"})
        steer = {"previous_response_id": sim.responses[key]}
        error = {"code": "response_already_completed", "message": "too late"}
        sim.apply(sim.state.received({"type": kind, "steer": steer, "event_id": event_id, "error": error}, 10))
        if kind.endswith("failed"):
            assert isinstance(sim.errors[successor], Refused)
        else:
            assert successor in sim.ended
    assert key not in sim.ended


def test_steering_what_is_not_running_is_refused() -> None:
    sim = Simulation()
    key = sim.submit("e1")
    with pytest.raises(InvalidInput):
        sim.state.steer(key, {"type": "response.steer", "event_id": "s1", "input": "x"})
