"""Which partition of `generations` a model call goes to: the worker that holds the conversation's KV prefix, unless it
is loaded past a bound.

Consistent hashing with bounded loads: every conversation has its own order of the workers (rendezvous hashing, so a
worker that comes or goes moves only its own share), and takes the first that runs less than 1.25 times its fair share
and has a free place; when none has, the least loaded. Order is not needed here, since facts are ordered in `events`;
hashing alone would leave some engines idle beside full ones.

A worker says its load every 500 ms; what was placed since then is counted on top. Pure: time is an argument.
"""

from __future__ import annotations

import hashlib
import math
from collections import deque

from streams.events.registering import WorkerAlive

STAGE = "generation"
LOAD_BOUND = 1.25  # times the fair share: at most a quarter more work than on an even spread, most prefixes kept
FORGET_MS = 2_000  # four missed signs of life
SETTLE_MS = 1_500  # a placed request shows in its worker's own count by then


class Placement:
    """Fed with `worker.alive` facts of all stages; `choose` gives partitions."""

    def __init__(self, load_bound: float = LOAD_BOUND) -> None:
        self._load_bound = load_bound
        self._workers: dict[str, WorkerAlive] = {}
        self._heard_at_ms: dict[str, float] = {}
        self._placed: dict[str, deque[float]] = {}

    def hear(self, alive: WorkerAlive, now_ms: float) -> None:
        """A worker's newest sign of life. now_ms: this process's clock, the one that `choose` is given."""
        if alive.stage != STAGE:
            return
        if alive.leaving:
            for known in (self._workers, self._heard_at_ms, self._placed):
                known.pop(alive.worker, None)
            return
        self._workers[alive.worker] = alive
        self._heard_at_ms[alive.worker] = now_ms

    def choose(self, conversation: str, model: str, now_ms: float, partitions: int) -> int:
        """The partition for a model call of this conversation; counts it as placed.

        With no living worker for the model, the partition is the conversation's own hash: whoever holds it when it
        comes to life finds the request there.
        """
        able = [worker for worker in self._living(now_ms) if not worker.models or model in worker.models]
        if not able:
            return _hash(conversation, "") % partitions
        loads = {worker.worker: self._load(worker, now_ms) for worker in able}
        capacity = sum(worker.capacity for worker in able)
        share = (sum(loads.values()) + 1) / max(1, capacity)
        in_order = sorted(able, key=lambda worker: _hash(conversation, worker.worker))
        for worker in in_order:
            bound = math.ceil(self._load_bound * share * worker.capacity)
            if loads[worker.worker] < min(bound, worker.capacity):
                break
        else:
            worker = min(in_order, key=lambda worker: loads[worker.worker] / max(1, worker.capacity))
        self._placed.setdefault(worker.worker, deque()).append(now_ms)
        return worker.partitions[_hash(conversation, "") % len(worker.partitions)]

    def _living(self, now_ms: float) -> list[WorkerAlive]:
        for name in [name for name, at in self._heard_at_ms.items() if now_ms - at > FORGET_MS]:
            del self._workers[name], self._heard_at_ms[name]
            self._placed.pop(name, None)
        return [worker for worker in self._workers.values() if worker.partitions]

    def _load(self, worker: WorkerAlive, now_ms: float) -> int:
        """What it says it runs, and what was placed there too recently to be in that."""
        placed = self._placed.get(worker.worker)
        if placed is None:
            return worker.running
        while placed and now_ms - placed[0] > SETTLE_MS:
            placed.popleft()
        heard = self._heard_at_ms[worker.worker]
        return worker.running + sum(1 for at in placed if at >= heard)


def _hash(conversation: str, worker: str) -> int:
    digest = hashlib.blake2b(f"{worker}\0{conversation}".encode(), digest_size=8)
    return int.from_bytes(digest.digest(), "big")
