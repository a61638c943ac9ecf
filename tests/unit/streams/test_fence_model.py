"""The fence against every interleaving: writers, zombies, repeats, takeovers. Whoever reads, and wherever a reader was
stopped and went on, the history is the same; and it is one that a single honest writer could have written.

`BREAKS` leaves out one rule at a time, of the fence or of those who write: the model has to notice each.
"""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from streams.codec import Identity
from streams.events.calling import CallAnswered
from streams.events.generating import AnswerDelta
from streams.events.turn import TERMINAL_TYPES, TurnCompleted
from streams.fence import NOTE, Fence, Verdict

TURN = "turn_x"
EPOCHS = 5  # of one history; more of them would only be further apart


class Fact(msgspec.Struct, frozen=True):
    identity: Identity
    writer: str
    kind: str
    content: str


def counted(log: list[Fact], fence: Fence) -> list[Fact]:
    return [fact for fact in log if fence.judge(fact.identity, fact.writer, fact.kind) == "counts"]


class Interleavings(RuleBasedStateMachine):
    """Each rule is something that can happen between a process and the log.

    A writer holds the facts it has sent and not seen acknowledged; they may reach the log late, twice, or never, but
    in their order and without holes: a writer stops when a fact of its is given up. Processes never stop because a
    successor exists. What a successor goes on from is what it has read when its opening is in the log.
    """

    fence: type[Fence] = Fence
    reads_before_it_writes = False
    in_order = True
    stops_at_a_failure = True

    def __init__(self) -> None:
        super().__init__()
        self.log: list[Fact] = []
        self.sent: dict[tuple[str, int], list[Fact]] = {}  # (writer, epoch) -> facts in order
        self.arrived: dict[tuple[str, int], int] = {}
        self.lost: dict[tuple[str, int], int] = {}  # (writer, epoch) -> index of a fact that was given up
        self.epoch = 0
        self.went_on_from: dict[tuple[str, int], list[Fact]] = {}  # (writer, epoch) -> what it continues
        self.live = self.fence()  # a reader that has read along from the start
        self.live_history: list[Fact] = []
        self.read = 0

    @rule(writer=st.sampled_from(["a", "b", "c"]), same_epoch=st.booleans(), says=st.integers(0, 3))
    def take_over(self, writer: str, same_epoch: bool, says: int) -> None:
        """A process opens the stage; two may be asked with the same epoch (a request that was delivered twice)."""
        if not (same_epoch and self.epoch) and self.epoch < EPOCHS:
            self.epoch += 1
        key = (writer, self.epoch)
        if key not in self.sent:
            opening = Fact(Identity(TURN, "answer", self.epoch, 0), writer, "answer.started", f"{writer} opens")
            self.sent[key] = [opening]
            self.arrived[key] = 0
            for number in range(says):
                self._say(key, f"{writer} {number}")
            if self.reads_before_it_writes:
                self.went_on_from[key] = self.answers(self.log)

    @precondition(lambda self: self.sent)
    @rule(data=st.data(), content=st.text(max_size=3))
    def say(self, data: st.DataObject, content: str) -> None:
        key = self._one(data)
        if key not in self.lost or not self.stops_at_a_failure:
            self._say(key, content)

    def _one(self, data: st.DataObject) -> tuple[str, int]:
        """A writer: one of the newest two as often as any."""
        by_epoch = sorted(self.sent, key=lambda key: (key[1], key[0]))
        return data.draw(st.sampled_from(by_epoch[-2:] if data.draw(st.booleans()) else by_epoch))

    def _say(self, key: tuple[str, int], content: str) -> None:
        writer, epoch = key
        facts = self.sent[key]
        facts.append(Fact(Identity(TURN, "answer", epoch, len(facts)), writer, AnswerDelta.TYPE, content))

    @precondition(lambda self: self.sent)
    @rule(data=st.data(), count=st.integers(1, 4))
    def arrive(self, data: st.DataObject, count: int) -> None:
        """Some of what a writer sent reaches the log."""
        key = self._one(data)
        begin = self.arrived[key]
        batch = self.sent[key][begin : begin + count]
        if begin == 0 and batch:
            self.went_on_from.setdefault(key, self.answers(self.log))
        self.log.extend(batch if self.in_order else reversed(batch))
        self.arrived[key] = begin + len(batch)

    @precondition(lambda self: self.sent)
    @rule(data=st.data())
    def give_up(self, data: st.DataObject) -> None:
        """The next fact of a writer never reaches the log, and it is told so."""
        key = self._one(data)
        at = self.arrived[key]
        if key not in self.lost and at < len(self.sent[key]):
            self.lost[key] = at
            if self.stops_at_a_failure:
                del self.sent[key][at + 1 :]
            self.arrived[key] = at + 1

    @precondition(lambda self: any(self.arrived.values()))
    @rule(data=st.data(), back=st.integers(1, 5))
    def repeat(self, data: st.DataObject, back: int) -> None:
        """A batch whose acknowledgement was lost is sent again."""
        key = data.draw(st.sampled_from(sorted(key for key, count in self.arrived.items() if count)))
        upto = self.arrived[key]
        kept = [fact for at, fact in enumerate(self.sent[key][:upto]) if at != self.lost.get(key)]
        self.log.extend(kept[-back:])

    @precondition(lambda self: len(self.log) > 6)  # otherwise most histories would be over before they begin
    @rule(writer=st.sampled_from(["owner", "other owner"]), epoch=st.integers(1, 2))
    def end_turn(self, writer: str, epoch: int) -> None:
        self.log.append(Fact(Identity(TURN, "turn", epoch, 0), writer, TurnCompleted.TYPE, "end"))

    @rule(claim=st.integers(1, 2))
    def answer_call(self, claim: int) -> None:
        self.log.append(Fact(Identity(TURN, "call.0", claim, 0), "skill", CallAnswered.TYPE, "result"))

    @rule(number=st.integers(0, 2))
    def note(self, number: int) -> None:
        self.log.append(Fact(Identity(TURN, NOTE, 1, number), "owner", "conversation.renamed", f"note {number}"))

    @rule()
    def read_along(self) -> None:
        self.live_history += counted(self.log[self.read :], self.live)
        self.read = len(self.log)

    @invariant()
    def every_reader_has_the_same_history(self) -> None:
        """One from the start now, and one that has read along in pieces of any size."""
        whole = self.history()
        assert whole[: len(self.live_history)] == self.live_history
        assert self.live_history == counted(self.log[: self.read], self.fence())

    @invariant()
    def the_history_is_an_honest_one(self) -> None:
        answers = self.answers(self.log)
        epochs = [fact.identity.epoch for fact in answers]
        assert epochs == sorted(epochs)
        for epoch in set(epochs):
            facts = [fact for fact in answers if fact.identity.epoch == epoch]
            assert [fact.identity.seq for fact in facts] == list(range(len(facts)))
            assert len({fact.writer for fact in facts}) == 1
        identities = [fact.identity.text() for fact in self.history()]
        assert len(identities) == len(set(identities))

    @invariant()
    def the_end_is_one_and_last(self) -> None:
        history = self.history()
        ends = [number for number, fact in enumerate(history) if fact.kind in TERMINAL_TYPES]
        assert len(ends) <= 1
        for number in ends:
            stages = {fact.identity.stage for fact in history[number + 1 :]}
            assert all(stage == NOTE or stage.startswith(("call.", "memory")) for stage in stages)

    @invariant()
    def what_a_successor_goes_on_from_is_final(self) -> None:
        """It continues exactly what counts of the earlier epochs, whatever else arrives and whenever."""
        answers = self.answers(self.log)
        for key, before in self.went_on_from.items():
            if self.sent[key][0] in answers:
                assert before == [fact for fact in answers if fact.identity.epoch < key[1]]

    @invariant()
    def whoever_holds_the_stage_loses_nothing(self) -> None:
        """What reached the log of the writer in force counts, as long as the turn has not ended."""
        answers = self.answers(self.log)
        if answers and not any(fact.kind in TERMINAL_TYPES for fact in self.log):
            key = (answers[-1].writer, answers[-1].identity.epoch)
            mine = [fact for fact in answers if fact.identity.epoch == key[1]]
            arrived = enumerate(self.sent[key][: self.arrived[key]])
            assert mine == [fact for at, fact in arrived if at != self.lost.get(key)]

    @invariant()
    def an_outcome_and_a_note_count_whenever_they_come(self) -> None:
        counting = {fact.identity.text() for fact in self.history()}
        for fact in self.log:
            if fact.identity.stage == NOTE:
                assert fact.identity.text() in counting
        claims = [fact.identity.epoch for fact in self.log if fact.identity.stage == "call.0"]
        if claims:
            assert Identity(TURN, "call.0", claims[0], 0).text() in counting

    def history(self) -> list[Fact]:
        return counted(self.log, self.fence())

    def answers(self, log: list[Fact]) -> list[Fact]:
        return [fact for fact in counted(log, self.fence()) if fact.identity.stage == "answer"]


Interleavings.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestInterleavings = Interleavings.TestCase


class SeqUnchecked(Fence):
    """Rule 2 without its first half: a repeat counts again."""

    def _judge(self, fact: Identity, writer: str, kind: str) -> Verdict:
        verdict = super()._judge(fact, writer, kind)
        return "counts" if verdict == "repeat" and fact.stage != NOTE else verdict


class HolesAllowed(Fence):
    """Rule 2 without its second half: a fact that is not the next counts and becomes the next."""

    def _judge(self, fact: Identity, writer: str, kind: str) -> Verdict:
        verdict = super()._judge(fact, writer, kind)
        if verdict != "gap":
            return verdict
        self._stages[fact.subject, fact.stage] = (fact.epoch, writer, fact.seq + 1)
        return "counts"


class ZombiesCount(Fence):
    """Rule 1 without its heart: facts of lower epochs count, each epoch in its own order."""

    def _judge(self, fact: Identity, writer: str, kind: str) -> Verdict:
        apart = Identity(fact.subject, f"{fact.stage}#{fact.epoch}", fact.epoch, fact.seq)
        known = super()._judge(fact, writer, kind)
        if fact.stage == "answer" and known in ("counts", "fenced"):
            return super()._judge(apart, writer, kind)
        return known


class LastWriterWins(Fence):
    """Rule 1 without its tie-break: a second writer of the same epoch takes the stage over."""

    def _judge(self, fact: Identity, writer: str, kind: str) -> Verdict:
        epoch, owner, _ = self._stages.get((fact.subject, fact.stage), (0, "", 0))
        if fact.epoch == epoch and writer != owner and owner:
            self._stages[fact.subject, fact.stage] = (epoch, writer, fact.seq)
        return super()._judge(fact, writer, kind)


class EndsAgain(Fence):
    """Rule 3 without its first half: the stages of an ended turn go on."""

    def _judge(self, fact: Identity, writer: str, kind: str) -> Verdict:
        self._ended.clear()
        return super()._judge(fact, writer, kind)


class NothingAfterTheEnd(Fence):
    """Rule 3 without its second half: results of calls are lost once the turn has ended."""

    def _judge(self, fact: Identity, writer: str, kind: str) -> Verdict:
        return "after_end" if fact.subject in self._ended else super()._judge(fact, writer, kind)


class NotesRepeat(Fence):
    """Facts outside of a turn's order are not deduplicated."""

    def _judge(self, fact: Identity, writer: str, kind: str) -> Verdict:
        return "counts" if fact.stage == NOTE else super()._judge(fact, writer, kind)


class RemembersTooLittle(Fence):
    """A reader that forgets a stage now and then: it judges by when it began to read, and not by the log alone."""

    def _judge(self, fact: Identity, writer: str, kind: str) -> Verdict:
        if sum(self.dropped.values()) % 3 == 2:
            self._stages.clear()
        return super()._judge(fact, writer, kind)


BREAKS: dict[str, dict[str, object]] = {
    "seq is not checked": {"fence": SeqUnchecked},
    "holes are allowed": {"fence": HolesAllowed, "stops_at_a_failure": False},
    "a writer goes on behind a hole": {"stops_at_a_failure": False},
    "lower epochs count": {"fence": ZombiesCount},
    "the last of two writers wins": {"fence": LastWriterWins},
    "a turn goes on after its end": {"fence": EndsAgain},
    "results are lost after the end": {"fence": NothingAfterTheEnd},
    "notes count twice": {"fence": NotesRepeat},
    "a reader forgets": {"fence": RemembersTooLittle},
    "a successor reads before it writes": {"reads_before_it_writes": True},
    "a writer overtakes itself": {"in_order": False},
}


@pytest.mark.parametrize("broken", BREAKS)
def test_each_rule_left_out_is_noticed(broken: str) -> None:
    machine = type("Broken", (Interleavings,), BREAKS[broken])
    looking = settings(
        max_examples=1000, stateful_step_count=40, deadline=None, derandomize=True, database=None,
        phases=[Phase.generate], print_blob=False,
    )  # fmt: skip
    with pytest.raises(AssertionError):
        run_state_machine_as_test(machine, settings=looking)


@given(st.permutations(range(6)))
def test_out_of_order_facts_never_count_out_of_order(order: list[int]) -> None:
    fence = Fence()
    counts = [seq for seq in order if fence.judge(Identity(TURN, "answer", 1, seq), "w", "k") == "counts"]
    assert counts == list(range(len(counts)))


def test_what_was_dropped_is_counted_by_reason_and_forgotten_on_request() -> None:
    fence = Fence()
    verdicts = [
        fence.judge(Identity(TURN, "answer", epoch, seq), writer, AnswerDelta.TYPE)
        for epoch, seq, writer in [(1, 0, "a"), (1, 0, "a"), (1, 2, "a"), (1, 1, "b"), (2, 0, "b"), (1, 1, "a")]
    ]
    assert verdicts == ["counts", "repeat", "gap", "fenced", "counts", "fenced"]
    assert fence.judge(Identity(TURN, "turn", 1, 0), "o", TurnCompleted.TYPE) == "counts"
    assert fence.judge(Identity(TURN, "answer", 2, 1), "b", AnswerDelta.TYPE) == "after_end"
    assert fence.judge(Identity(TURN, "call.1", 1, 0), "s", CallAnswered.TYPE) == "counts"
    assert fence.dropped == {"repeat": 1, "fenced": 2, "gap": 1, "after_end": 1}
    assert (fence.epoch(TURN, "answer"), fence.ended(TURN)) == (2, True)
    fence.forget(TURN)
    assert (fence.epoch(TURN, "answer"), fence.ended(TURN)) == (0, False)
