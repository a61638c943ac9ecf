"""An event loop whose clock stands still while anything runs and jumps when everything waits, with real sockets.

Sockets are served first: only when none has news, and no thread works for the loop, does time go to the next timer. So
three minutes of a skill over HTTP are as long as the work that is done in them. (virtual_time.py is for code without
sockets; it waits for nothing at all.)
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import Executor
from typing import Any, Final, TypeVar, TypeVarTuple, Unpack

T = TypeVar("T")
Arguments = TypeVarTuple("Arguments")
BEGIN_MS: Final = 1_700_000_000_000
GRACE_S: Final = 0.001  # for what the kernel still carries from one socket of this process to another


class JumpingLoop(asyncio.SelectorEventLoop):
    """`time` counts seconds from 0."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.threads = 0
        super().__init__(_Jumping(self))

    def time(self) -> float:
        return self.now_s

    def run_in_executor(
        self, executor: Executor | None, func: Callable[[Unpack[Arguments]], T], *args: *Arguments
    ) -> asyncio.Future[T]:
        future = super().run_in_executor(executor, func, *args)
        self.threads += 1
        future.add_done_callback(self._thread_done)
        return future

    def _thread_done(self, _: asyncio.Future[Any]) -> None:
        self.threads -= 1


class _Jumping(selectors.BaseSelector):
    def __init__(self, loop: JumpingLoop) -> None:
        self._loop = loop
        self._real = selectors.DefaultSelector()

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None or timeout <= 0:
            return self._real.select(timeout)
        ready = self._real.select(GRACE_S)
        if not ready and not self._loop.threads:
            self._loop.now_s += timeout
        return ready

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self._real.register(fileobj, events, data)

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return self._real.unregister(fileobj)

    def modify(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self._real.modify(fileobj, events, data)

    def close(self) -> None:
        self._real.close()

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return self._real.get_map()


def clock_ms() -> float:
    """The wall clock of the jumping loop that runs."""
    return BEGIN_MS + asyncio.get_running_loop().time() * 1000


def run(work: Coroutine[Any, Any, T]) -> T:
    """`asyncio.run` on a jumping clock."""
    with asyncio.Runner(loop_factory=JumpingLoop) as runner:
        return runner.run(work)
