"""The timeline of a turn, from the very frames a gateway makes of its facts."""

from __future__ import annotations

from headstart.timeline import render, render_view
from headstart.turn_view import TurnView, printable, view_of
from streams.events import calling as c
from streams.events import turn as t
from tests.support.sample_turn import T0, accepted, beginning, facts, frames_of

WHOLE = """\
turn resp_0003018bcfe568647589a36465666768696a: completed in 1,500 ms
     12 ms  route     people, by embedding in 3.2 ms
     20 ms  recall    1 memory, 1 message in 4.1 ms
     20 ms            fact 0.83: Ada prefers people who answer fast
     24 ms  skills    search_people@1 0.81, weather@1 0.74 in 2.0 ms
     40 ms  plan      begins (small)
    120 ms  call 0    opened    search_people at token 4
    260 ms  call 0    fired     search_people at token 11, still being written {"skill": "kafka"}
    360 ms  call 0    closed    search_people at token 16, repaired: trailing_comma
    420 ms  call 1    opened    weather at token 19
    560 ms  call 0    answered  200 in 300 ms [{"name":"Lin \\u001b[31m"}]
    600 ms  call 1    fired     weather at token 28, still being written {"city": "Berlin"}
    620 ms  call 1    closed    weather at token 29
    660 ms  plan      stop after 31 tokens, the first after 38 ms
    662 ms  plan      committed: 2 calls, 31 tokens
  1,000 ms  call 1    failed    peer_timeout, in doubt
  1,010 ms  answer    begins (big)
  1,480 ms  answer    stop after 6 tokens, the first after 90 ms
  1,500 ms  completed 44 characters: Lin knows Kafka; the weather did not answer.

                      0                                               1,500 ms
plan                   ░░░░░░░░░░░░░░░░░░░░░░░░
call 0 search_people      ░░░░░████━━━━━━━━
call 1 weather                       ░░░░░░░█━━━━━━━━━━━━━━
answer                                                     ░░░░░░░░░░░░░░░░░░
░ written  ━ running  █ running while written

saved 280 ms of at most 290 ms; plan 31 tokens in 620 ms
  call 0 search_people: 300 ms hidden behind the plan
  call 1 weather: 20 ms hidden behind the plan
plan: small, 310 tokens in, 31 out, $0.000100
answer: big, 520 tokens in, 6 out, 2 of them hidden
"""


def test_a_whole_turn() -> None:
    assert render(frames_of(facts())) == WHOLE


def test_every_prefix_of_a_turn_has_a_timeline() -> None:
    frames = frames_of(facts())
    view = TurnView()
    for count, frame in enumerate(frames):
        view.feed(frame)
        assert render_view(view) == render(frames[: count + 1])
    assert render([]).startswith("turn ?: in_progress")


def test_a_call_that_is_voided_and_fired_again() -> None:
    log = facts()[:8]
    log += [
        ("turn", 1, 50, c.CallVoided(call=0, reason="late_argument", at_ms=T0 + 300, refire=True)),
        ("call.0", 2, 0, c.CallFired(
            call=0, skill="search_people", arguments={"skill": "go"}, effect="pure", claim=2, token=-1, at_ms=T0 + 310,
        )),
    ]  # fmt: skip
    view = view_of(frames_of(log))
    assert (view.calls[0].outcome, view.calls[0].firings, view.calls[0].fired_early) == ("", 2, False)
    assert 'fired     search_people written whole, firing 2 {"skill": "go"}' in render_view(view)


def test_a_turn_that_failed_says_why() -> None:
    end = t.TurnFailed(at_ms=T0 + 30, code="no_model", message="no model\x1b[2J answers", fault="peer")
    text = render(frames_of([("turn", 1, 0, accepted()), ("turn", 1, 1, end)]))
    assert "failed    no_model: no model␛[2J answers" in text
    assert "saved" not in text


def test_a_cancelled_turn_keeps_its_text_and_reason() -> None:
    log = [("turn", 1, seq, event) for seq, event in enumerate([*beginning(), t.TurnCancelled(at_ms=T0 + 40)])]
    text = render(frames_of(log))
    assert "cancelled in 40 ms (client)" in text
    assert "no text" in text


def test_text_for_a_terminal_can_not_steer_it() -> None:
    assert printable("a\x1b[31m\tb\n\x7f\x9b") == "a␛[31m\tb\n␡␡"
    assert printable("one\n  two   three", 9) == "one two …"
