"""What a turn took in before it wrote a fact, with the times: the header `ce_took` on facts of stage "turn".

The log holds what a turn's owner was told (deltas, results, recalled texts) and what it wrote. It does not hold the
order in which one owner took in what several stages wrote, nor the moments, to the fraction of a millisecond, from
which savings are computed, nor the timers that fired. So each fact that a turn writes says what it was decided from:
the inputs since the fact before. Replay feeds exactly these again. A fact without the header was decided from nothing
new. A `call.fired` says what no fact of its turn has said yet when it leaves: an owner that dies then says no more.

Contents that stand in the log are not repeated: a `generated` is the next fact of its stage and epoch, a `called` the
outcome of its call, `recollected` and `discovered` the facts that follow.

Pure. Cost: about 45 bytes per input; an answer's deltas decide nothing and are counted, not listed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from streams.codec import Record

HEADER: Final = "ce_took"


class Taken(msgspec.Struct, frozen=True, array_like=True, omit_defaults=True):
    """One input, or `count` of the same kind without another between them; at_ms is then the last one's.

    kind and what the other fields say:
      begin         the turn was opened                     resume   it was taken over: `at_ms` is when it went on
      routed        name: the router's agent, detail: its verdict
      recollected   memories and history                    discovered   skills for the plan
      approvals     detail: the requests that were found, separated by spaces
      generated     name: route | plan | answer, number: the stage's epoch
      called        number: the call, claim: the claim it was delivered under
      heard         number: the call that another worker has in flight
      cancelled     name: the reason, detail: the successor turn
      fact          name: the id of a service's fact about the conversation
      tick          a timer                                 broken   name: the code of the defect that ended the turn
    Any other kind is a type of input that this build does not know.
    """

    kind: str
    at_ms: float
    name: str = ""
    number: int = 0
    claim: int = 0
    detail: str = ""
    count: int = 1


_encoder: Final = msgspec.json.Encoder()
_decoder: Final = msgspec.json.Decoder(tuple[Taken, ...])


def header(inputs: Sequence[Taken]) -> tuple[tuple[str, bytes], ...]:
    """The extra headers of a fact that was decided from these."""
    return ((HEADER, _encoder.encode(inputs)),) if inputs else ()


def taken(record: Record) -> tuple[Taken, ...]:
    """What a fact was decided from, () when it does not say. A header that can not be read says nothing."""
    for name, value in record.headers:
        if name == HEADER:
            try:
                return _decoder.decode(value)
            except msgspec.DecodeError:
                return ()
    return ()
