"""The client's core against a simulated gateway: any cut, any order of answers, any slowness of consumers."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from headstart.client_readers import Bound, Deliver, Fail, Frame, Reconnect, Send
from headstart.client_state import ClientState
from streams.errors import HeadstartError, InvalidInput, NotFound, PeerError, Refused
from tests.support.frame_log import FrameLog, conversation_name
from tests.support.scripted_gateway import Feeds, World


class Simulation:
    """One client core and its gateway, moved step by step. Holds what each reader was given and not yet consumed."""

    def __init__(self, limit_bytes: int = 1 << 20, late_answers: bool = False) -> None:
        self.world = World()
        self.state = ClientState(limit_bytes=limit_bytes)
        self.late_answers = late_answers
        self.feeds: Feeds | None = None
        self.given: dict[int, list[Frame]] = {}
        self.queued: dict[int, list[int]] = {}
        self.ended: set[int] = set()
        self.errors: dict[int, HeadstartError] = {}
        self.responses: dict[int, str] = {}

    def apply(self, actions: list[Any]) -> None:
        for action in actions:
            match action:
                case Send(frame):
                    if self.feeds is not None:
                        self.feeds.receive(frame)
                case Deliver(key, frame, size, last):
                    assert key not in self.ended
                    self.given.setdefault(key, []).append(frame)
                    self.queued.setdefault(key, []).append(size)
                    if last:
                        self.ended.add(key)
                case Fail(key, error):
                    self.errors[key] = error
                case Bound(key, response, _):
                    self.responses[key] = response

    def connect(self) -> None:
        self.cut()
        self.feeds = Feeds(self.world, self.late_answers)
        self.apply(self.state.connected())

    def cut(self) -> None:
        if self.feeds is not None:
            self.feeds = None
            self.state.disconnected()

    def pump(self, count: int = 1 << 30) -> None:
        """Deliver up to `count` frames from the gateway."""
        while self.feeds is not None and count > 0:
            frame = self.feeds.next()
            if frame is None:
                return
            self.apply(self.state.received(frame, len(orjson.dumps(frame))))
            count -= 1

    def consume(self, key: int, count: int = 1 << 30) -> None:
        queue = self.queued.get(key, [])
        while queue and count > 0:
            self.apply(self.state.consumed(key, queue.pop(0)))
            count -= 1

    def settle(self) -> None:
        """Until nothing moves any more."""
        if self.feeds is None:
            self.connect()
        while True:
            self.pump()
            if not any(self.queued.values()):
                return
            for key in list(self.queued):
                self.consume(key)

    def submit(self, event_id: str, conversation: str | None = None, **options: Any) -> int:
        request = {"type": "response.create", "event_id": event_id, "input": "hello", **options}
        if conversation:
            request["conversation"] = conversation
        key, actions = self.state.submit(request)
        self.apply(actions)
        return key

    def attach(self, conversation: str, after: str) -> int:
        key, actions = self.state.attach(conversation, after)
        self.apply(actions)
        return key

    def answer(self, event_id: str, words: int = 5, status: str = "completed") -> list[Frame]:
        """The turn's worker speaks and ends it; the response's frames."""
        conversation, response = self.world.turns[event_id]
        log = self.world.logs[conversation]
        for word in range(words):
            log.say(response, f"{word} ")
        log.end(response, status)
        return log.of(response)


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


@pytest.mark.parametrize(("code", "status"), [("no_worker", 503), ("rate_limited", 429), ("unknown_conversation", 404)])
def test_what_a_caller_has_to_know_is_not_repeated(code: str, status: int) -> None:
    sim = Simulation()
    sim.connect()
    key = sim.submit("e1")
    sim.apply(sim.state.received({"type": "error", "event_id": "e1", "status": status, "error": {"code": code}}, 9))
    assert sim.errors[key].code == code


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
