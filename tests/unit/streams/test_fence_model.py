"""The fence against every interleaving: writers, zombies, repeats, takeovers. Whoever reads, and wherever a reader was
stopped and went on, the history is the same; and it is one that a single honest writer could have written.
"""

from __future__ import annotations

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from streams.codec import Identity
from streams.events.calling import CallAnswered
from streams.events.generating import AnswerDelta
from streams.events.turn import TERMINAL_TYPES, TurnCompleted
from streams.fence import NOTE, Fence

TURN = "turn_x"


class Fact(msgspec.Struct, frozen=True):
    identity: Identity
    writer: str
    kind: str
    content: str


def counted(log: list[Fact], fence: Fence | None = None) -> list[Fact]:
    fence = fence or Fence()
    return [fact for fact in log if fence.judge(fact.identity, fact.writer, fact.kind) == "counts"]


class Interleavings(RuleBasedStateMachine):
    """Each rule is something that can happen between a process and the log.

    A writer holds the facts it has sent and not seen acknowledged; they may reach the log late, twice, or never, but
    in their order and without holes (the rule of the bus). Processes never stop because a successor exists.
    """

    def __init__(self) -> None:
        super().__init__()
        self.log: list[Fact] = []
        self.sent: dict[tuple[str, int], list[Fact]] = {}  # (writer, epoch) -> facts in order
        self.arrived: dict[tuple[str, int], int] = {}
        self.epoch = 0
        self.live = Fence()  # a reader that has read along from the start
        self.live_history: list[Fact] = []
        self.read = 0

    @rule(writer=st.sampled_from(["a", "b", "c"]), same_epoch=st.booleans())
    def take_over(self, writer: str, same_epoch: bool) -> None:
        """A process opens the stage; two may be asked with the same epoch (a request that was delivered twice)."""
        if not (same_epoch and self.epoch):
            self.epoch += 1
        key = (writer, self.epoch)
        if key not in self.sent:
            opening = Fact(Identity(TURN, "answer", self.epoch, 0), writer, "answer.started", f"{writer} opens")
            self.sent[key] = [opening]
            self.arrived[key] = 0

    @precondition(lambda self: self.sent)
    @rule(data=st.data(), content=st.text(max_size=3))
    def say(self, data: st.DataObject, content: str) -> None:
        key = data.draw(st.sampled_from(sorted(self.sent)))
        writer, epoch = key
        facts = self.sent[key]
        facts.append(Fact(Identity(TURN, "answer", epoch, len(facts)), writer, AnswerDelta.TYPE, content))

    @precondition(lambda self: self.sent)
    @rule(data=st.data(), count=st.integers(1, 4))
    def arrive(self, data: st.DataObject, count: int) -> None:
        """Some of what a writer sent reaches the log."""
        key = data.draw(st.sampled_from(sorted(self.sent)))
        begin = self.arrived[key]
        self.log.extend(self.sent[key][begin : begin + count])
        self.arrived[key] = min(begin + count, len(self.sent[key]))

    @precondition(lambda self: any(self.arrived.values()))
    @rule(data=st.data(), back=st.integers(1, 5))
    def repeat(self, data: st.DataObject, back: int) -> None:
        """A batch whose acknowledgement was lost is sent again."""
        key = data.draw(st.sampled_from(sorted(key for key, count in self.arrived.items() if count)))
        upto = self.arrived[key]
        self.log.extend(self.sent[key][max(0, upto - back) : upto])

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
        whole = counted(self.log)
        assert whole[: len(self.live_history)] == self.live_history
        assert self.live_history == counted(self.log[: self.read])

    @invariant()
    def the_history_is_an_honest_one(self) -> None:
        history = counted(self.log)
        answers = [fact for fact in history if fact.identity.stage == "answer"]
        epochs = [fact.identity.epoch for fact in answers]
        assert epochs == sorted(epochs)
        for epoch in set(epochs):
            facts = [fact for fact in answers if fact.identity.epoch == epoch]
            assert [fact.identity.seq for fact in facts] == list(range(len(facts)))
            assert len({fact.writer for fact in facts}) == 1
        identities = [fact.identity.text() for fact in history]
        assert len(identities) == len(set(identities))

    @invariant()
    def the_end_is_one_and_last(self) -> None:
        history = counted(self.log)
        ends = [number for number, fact in enumerate(history) if fact.kind in TERMINAL_TYPES]
        assert len(ends) <= 1
        for number in ends:
            stages = {fact.identity.stage for fact in history[number + 1 :]}
            assert all(stage == NOTE or stage.startswith(("call.", "memory")) for stage in stages)

    @invariant()
    def what_a_successor_reads_is_final(self) -> None:
        """What counts before an opening that counts is exactly what counts of the earlier epochs, whatever comes."""
        history = counted(self.log)
        for number, fact in enumerate(self.log):
            if fact.identity.stage == "answer" and fact.identity.seq == 0 and fact in history:
                before = [f for f in counted(self.log[:number]) if f.identity.stage == "answer"]
                earlier = [
                    f for f in history if f.identity.stage == "answer" and f.identity.epoch < fact.identity.epoch
                ]
                if fact in counted(self.log[: number + 1]) and fact not in before:
                    assert before == earlier


Interleavings.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestInterleavings = Interleavings.TestCase


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
