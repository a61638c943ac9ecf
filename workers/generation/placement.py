"""Which partition of `generations` a model call goes to: the worker that holds the conversation's KV prefix, unless it
is loaded past a bound.

Consistent hashing with bounded loads: every conversation has its own order of the workers (rendezvous hashing, so a
worker that comes or goes moves only its own share), and takes the first that runs less than 1.25 times its fair share
and has a free place; when none has, the one where a place is free soonest. Order is not needed here, since facts are
ordered in `events`; hashing alone would leave some engines idle beside full ones, and queue behind a slow one.

A worker says its load every 500 ms. In between, what was placed is counted on top, and what has probably ended is
taken off: workers say how many of theirs have ended, which gives each one's pace. Without the latter every worker
would look full before its next word, and the requests would go to whoever looks least so. Pure: time is an argument.
"""

from __future__ import annotations

import hashlib
import math

from streams.events.registering import WorkerAlive

STAGE = "generation"
LOAD_BOUND = 1.25  # times the fair share: at most a quarter more work than on an even spread, most prefixes kept
FORGET_MS = 2_000  # four missed signs of life
KEPT_OF_PACE = 0.8  # of what is known of a worker's pace, at each sign: half of it is from the last 1.5 seconds
SECOND_MS = 1_000.0


class _Worker:
    """What is known of one worker: its last sign, what was placed with it since, and how long its answers take."""

    def __init__(self, alive: WorkerAlive, now_ms: float) -> None:
        self.alive = alive
        self.heard_at_ms = now_ms
        self.placed = 0
        self._ended = self._busy_s = 0.0  # generations that ended, and the seconds that all of them ran, both decayed

    def hear(self, alive: WorkerAlive, now_ms: float) -> None:
        before, took_s = self.alive, max(0.0, now_ms - self.heard_at_ms) / SECOND_MS
        ended = max(0, alive.ended - before.ended)
        self._ended = self._ended * KEPT_OF_PACE + ended
        self._busy_s = self._busy_s * KEPT_OF_PACE + (before.running + alive.running) / 2 * took_s
        self.alive, self.heard_at_ms, self.placed = alive, now_ms, 0

    @property
    def ends_per_second(self) -> float:
        """How often one place becomes free while it is in use; 0 while nothing is known."""
        return self._ended / self._busy_s if self._busy_s > 0 else 0.0

    def load(self, now_ms: float) -> float:
        """How many it has by now: as it said, more by what was placed since, less by what has ended since."""
        most = self.alive.running + self.alive.waiting + self.placed
        in_use = min(most, self.alive.capacity)
        ended = in_use * self.ends_per_second * (now_ms - self.heard_at_ms) / SECOND_MS
        return max(0.0, most - ended)

    def wait(self, now_ms: float) -> tuple[float, float]:
        """For comparing workers that are full: seconds until one more gets a place, infinite while its pace is not
        known; then its load by its size."""
        capacity = max(1, self.alive.capacity)
        load = self.load(now_ms)
        pace = capacity * self.ends_per_second
        return (max(0.0, load + 1 - capacity) / pace if pace else math.inf, load / capacity)


class Placement:
    """Fed with `worker.alive` facts of all stages; `choose` gives partitions."""

    def __init__(self, load_bound: float = LOAD_BOUND) -> None:
        self._load_bound = load_bound
        self._workers: dict[str, _Worker] = {}

    def hear(self, alive: WorkerAlive, now_ms: float) -> None:
        """A worker's newest sign of life. now_ms: this process's clock, the one that `choose` is given."""
        if alive.stage != STAGE:
            return
        known = self._workers.get(alive.worker)
        if alive.leaving:
            self._workers.pop(alive.worker, None)
        elif known is None:
            self._workers[alive.worker] = _Worker(alive, now_ms)
        else:
            known.hear(alive, now_ms)

    def choose(self, conversation: str, model: str, now_ms: float, partitions: int) -> int:
        """The partition for a model call of this conversation; counts it as placed.

        With no living worker for the model, the partition is the conversation's own hash: whoever holds it when it
        comes to life finds the request there.
        """
        able = [one for one in self._living(now_ms) if not one.alive.models or model in one.alive.models]
        if not able:
            return _hash(conversation, "") % partitions
        loads = {one.alive.worker: one.load(now_ms) for one in able}
        capacity = sum(one.alive.capacity for one in able)
        share = (sum(loads.values()) + 1) / max(1, capacity)
        in_order = sorted(able, key=lambda one: _hash(conversation, one.alive.worker))
        for worker in in_order:
            most = min(math.ceil(self._load_bound * share * worker.alive.capacity), worker.alive.capacity)
            if loads[worker.alive.worker] < most:
                break
        else:
            worker = min(in_order, key=lambda one: one.wait(now_ms))
        worker.placed += 1
        return worker.alive.partitions[_hash(conversation, "") % len(worker.alive.partitions)]

    def _living(self, now_ms: float) -> list[_Worker]:
        for name in [name for name, one in self._workers.items() if now_ms - one.heard_at_ms > FORGET_MS]:
            del self._workers[name]
        return [one for one in self._workers.values() if one.alive.partitions]


def _hash(conversation: str, worker: str) -> int:
    digest = hashlib.blake2b(f"{worker}\0{conversation}".encode(), digest_size=8)
    return int.from_bytes(digest.digest(), "big")
