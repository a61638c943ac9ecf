"""From tokens to deltas: characters stay whole, and nothing of a stop string is ever delivered.

Tokens go in one by one, each with the text that it completes; deltas come out. Two things hold a token back:

* Its text is empty because its bytes only begin a character. It leaves together with the token that completes it.
* Its text may be the beginning of a stop string. It leaves when the next text shows that it is not.

A token is held back whole, so that the delivered ids decode to the delivered text at every delta boundary. Where a stop
string begins inside a token, the text before it is delivered with that token's id; the answer ends there.

Text delivered by an earlier worker takes part in the search: a stop string may begin in it and end in the next token.
What was delivered stays delivered; the answer then ends at once.
"""

from __future__ import annotations

from collections.abc import Sequence

from workers.generation.engine import EngineDelta


class TextGate:
    """Holds back what may not be delivered yet. `push` tokens, then `take` a delta; `finish` at the end.

    stop: stop strings, none of them empty.
    first_index: position of the first pushed token in the answer.
    said: text already delivered for this answer.
    unsaid: text of tokens already delivered whose text was not (a token in which a stop string may begin).
    """

    def __init__(self, stop: Sequence[str] = (), *, first_index: int = 0, said: str = "", unsaid: str = "") -> None:
        self._stop = list(stop)
        # A match that ends in new text begins at most this many characters before it.
        self._reach = max((len(text) for text in stop), default=1) - 1
        self._index = first_index
        self._tail = said[len(said) - self._reach :] if self._reach and said else ""
        self._ids: list[int] = []
        # For each held token, where its text ends in `_held`; 0 for `unsaid`, which has no token of its own.
        self._ends: list[int] = []
        self._held = unsaid
        self._unsaid_size = len(unsaid)
        self._stopped = False
        if unsaid:
            self._search(0)

    @property
    def stopped(self) -> bool:
        """Whether a stop string was found. Nothing may be pushed afterwards."""
        return self._stopped

    def push(self, token_id: int, text: str) -> bool:
        """Add a token and the text it completes ("" inside a character). True once a stop string was found."""
        before = len(self._held)
        self._held += text
        self._ids.append(token_id)
        self._ends.append(len(self._held))
        if text and self._stop:
            self._search(before)
        return self._stopped

    def take(self) -> EngineDelta | None:
        """The delta that may be delivered now, or None."""
        if self._stopped:
            return self._release_up_to_stop()
        limit = len(self._held) - self._possible_stop_size()
        count = len(self._ids)
        while count and (self._ends[count - 1] > limit or self._ends[count - 1] == self._end_before(count - 1)):
            count -= 1
        return self._release(count, self._ends[count - 1]) if count else None

    def finish(self) -> EngineDelta | None:
        """The last delta: all that is held, since no more text will come. Its text may be empty, its ids not."""
        if self._stopped:
            return self._release_up_to_stop()
        return self._release(len(self._ids), len(self._held)) if self._ids or self._held else None

    def _search(self, new_from: int) -> None:
        """Look for the stop string that ends first; at equal ends, the one that begins first."""
        text = self._tail + self._held
        start = max(0, len(self._tail) + new_from - self._reach)
        found: tuple[int, int] | None = None
        for stop in self._stop:
            begin = text.find(stop, start)
            if begin >= 0 and (found is None or (begin + len(stop), begin) < found):
                found = (begin + len(stop), begin)
        if found is not None:
            self._stopped = True
            self._held = self._held[: max(0, found[1] - len(self._tail))]

    def _possible_stop_size(self) -> int:
        """The length of the longest end of the text with which a stop string begins."""
        text = self._tail + self._held
        longest = 0
        for stop in self._stop:
            for size in range(min(len(stop) - 1, len(text)), longest, -1):
                if text.endswith(stop[:size]):
                    longest = size
                    break
        return longest

    def _end_before(self, position: int) -> int:
        return self._ends[position - 1] if position else self._unsaid_size

    def _release_up_to_stop(self) -> EngineDelta | None:
        size = len(self._held)
        count = 0
        while count < len(self._ids) and self._end_before(count) < size:
            count += 1
        return self._release(count, size) if size else None

    def _release(self, count: int, size: int) -> EngineDelta:
        delta = EngineDelta(self._held[:size], self._ids[:count], self._index)
        self._tail = (self._tail + delta.text)[-self._reach :] if self._reach else ""
        self._index += count
        self._ids = self._ids[count:]
        self._ends = [end - size for end in self._ends[count:]]
        self._held = self._held[size:]
        self._unsaid_size = 0
        return delta
