"""From a client's cancel to the last token that it is shown: over the gateway, the turn's owner, the generation worker
and its engine, and back, on a whole installation.

Each client begins a turn, cancels it somewhere in the middle, waits for its end, and begins the next.
"""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, field
from typing import Final

import orjson

from tests.bench.clients import COMPLETED, DELTA, INCOMPLETE, WRONG, TurnWentWrong
from tests.bench.driving import MS, clock
from tests.bench.figures import number, spread, table
from tests.bench.gateway import sockets
from tests.bench.gateway.parts import Section, World
from tests.bench.installation import installed
from tests.bench.scenarios import LONG_TOKENS, NO_PLAN, TOKENS_PER_SECOND

CLIENTS: Final = (1, 16)
CANCELS, CANCELS_QUICK = (30, 320), (8, 16)
TOKENS: Final = (5, 25)  # shown before the cancel
ACCEPTED: Final = b'{"type":"headstart.accepted"'
PATIENCE_S: Final = 30.0
SEED: Final = 6
TEXT = """\
Turns of {tokens} tokens at {rate:g} tokens/s, cancelled after {few} to {many} of them. Last token: from the cancel's
send to the last token received, 0 where none came after it. Terminal frame: until the client is told that the response
has ended. Shown after: tokens that came after the cancel was sent."""


@dataclass(slots=True)
class Turn:
    """One turn of a client: cancels after `cancel_at` tokens, then notes what still comes."""

    cancel_at: int
    ended: asyncio.Future[tuple[float, float, int]]
    response: str = ""
    shown: int = 0
    after: int = 0
    cancelled_at: float = 0.0
    last_at: float = 0.0

    def seen(self, socket: sockets.Socket, body: bytes) -> None:
        if body.startswith(DELTA):
            self.shown += 1
            if self.cancelled_at:
                self.after += 1
                self.last_at = clock()
            elif self.shown == self.cancel_at:
                self.cancelled_at = self.last_at = clock()
                socket.send({"type": "response.cancel", "response_id": self.response})
        elif body.startswith(ACCEPTED):
            self.response = orjson.loads(body)["response_id"]
        elif body.startswith(INCOMPLETE) and self.cancelled_at:
            since = self.cancelled_at
            self.ended.set_result(((self.last_at - since) * MS, (clock() - since) * MS, self.after))
        elif body.startswith((*WRONG, COMPLETED)) and not self.ended.done():
            self.ended.set_exception(TurnWentWrong(f"it was not cancelled: {body[:500].decode()}"))


@dataclass(slots=True)
class Figures:
    clients: int
    last_ms: list[float] = field(default_factory=list)
    terminal_ms: list[float] = field(default_factory=list)
    after: list[float] = field(default_factory=list)


async def run(world: World) -> Section:
    found = []
    async with installed(world.folder / "cancel", kafka_home=world.kafka_home, separate=True) as running:
        url, keys = running.where.url, running.where.keys
        await cancels(url, keys, 1, 2)  # so that groups are joined and pools filled
        for clients, count in zip(CLIENTS, CANCELS_QUICK if world.quick else CANCELS, strict=True):
            world.say(f"  cancel: {count} cancels by {clients} clients …")
            found.append(await cancels(url, keys, clients, count))
    rows, figures = [], []
    for one in found:
        last, terminal, after = spread(one.last_ms), spread(one.terminal_ms), spread(one.after)
        rows.append([
            str(one.clients), str(last.count), f"{number(last.p50)} / {number(last.p95)} / {number(last.p99)}",
            f"{number(terminal.p50)} / {number(terminal.p95)} / {number(terminal.p99)}",
            f"{number(after.p50, 0)} / {number(after.p99, 0)}",
        ])  # fmt: skip
        figures.append({
            "clients": one.clients, "last_token_ms": last.as_json(), "terminal_frame_ms": terminal.as_json(),
            "tokens_shown_after": after.as_json(),
        })  # fmt: skip
    head = ["clients", "cancels", "last token p50 / p95 / p99 ms", "terminal frame p50 / p95 / p99 ms",
            "shown after p50 / p99"]  # fmt: skip
    text = TEXT.format(tokens=LONG_TOKENS, rate=TOKENS_PER_SECOND, few=TOKENS[0], many=TOKENS[1])
    return Section("cancel", f"{text}\n\n{table(head, rows)}", {"rows": figures})


async def cancels(url: str, keys: list[str], clients: int, count: int) -> Figures:
    """`count` of them by so many clients, each at its own pace."""
    found, chance = Figures(clients), random.Random(SEED)
    opened = await sockets.open_sockets(url, keys, clients)

    async def one_after_the_other(socket: sockets.Socket) -> None:
        for number_ in range(count // clients):
            await asyncio.sleep(chance.random() / TOKENS_PER_SECOND)
            turn = Turn(chance.randint(*TOKENS), asyncio.get_running_loop().create_future())
            socket.on_frame = turn.seen
            question = NO_PLAN.ask(number_, LONG_TOKENS)
            socket.send({"type": "response.create", "model": f"headstart/{NO_PLAN.agent}", "input": question})
            async with asyncio.timeout(PATIENCE_S):
                last, terminal, after = await turn.ended
            found.last_ms.append(last)
            found.terminal_ms.append(terminal)
            found.after.append(after)

    try:
        async with asyncio.TaskGroup() as group:
            for socket in opened:
                _ = group.create_task(one_after_the_other(socket))
    finally:
        sockets.drop_all(opened)
    return found
