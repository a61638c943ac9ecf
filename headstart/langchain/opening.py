"""One member's memory, opened once for the adapters: the store, the bus and the embedder, on a loop of their own.

LangChain's interfaces are synchronous and asynchronous at once, and are called from any thread and any loop, while the
connections here belong to one loop. So they live on a loop in a thread of their own; a synchronous caller blocks for
its answer, an asynchronous one awaits it.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from typing import Any, TypeVar

from headstart.memory_edits import say
from memory.drafts import told_id
from memory.embed import Embedder
from memory.opening import Parts, open_parts
from memory.store import Store
from streams import ids
from streams.bus import Bus
from streams.events.editing import MemoryEdit
from streams.events.intake import ConversationEdit
from streams.settings import Settings
from streams.signing import command_secret, signed_by_gateway
from streams.topology import TURNS

T = TypeVar("T")
SOURCE = "operator/langchain"
Opening = Callable[[], AbstractAsyncContextManager[Parts]]


@contextmanager
def open_memory(
    settings: Settings, *, tenant: str, user: str, opening: Opening | None = None, wait_s: float = 30.0
) -> Iterator[Memory]:
    """The memory of one member, until the block ends. wait_s: how long a write may take to be seen by the next read; 0
    does not wait. opening: what opens the parts, else the settings do (HEADSTART_KAFKA, HEADSTART_POSTGRES, and
    HEADSTART_SIGNING_KEY unless HEADSTART_DEV is set). Raises Misconfigured, PeerUnavailable."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="headstart-memory", daemon=True)
    thread.start()
    made = (opening or (lambda: open_parts(settings, "headstart-langchain")))()
    try:
        parts = asyncio.run_coroutine_threadsafe(_enter(made), loop).result()
        try:
            yield Memory(parts, loop, tenant, user, wait_s)
        finally:
            asyncio.run_coroutine_threadsafe(_exit(made), loop).result()
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def _enter(made: AbstractAsyncContextManager[Parts]) -> Parts:
    return await made.__aenter__()


async def _exit(made: AbstractAsyncContextManager[Parts]) -> None:
    _ = await made.__aexit__(None, None, None)


class Memory:
    """What the adapters share. Safe to use from several threads and loops at once; made by `open_memory`."""

    def __init__(self, parts: Parts, loop: asyncio.AbstractEventLoop, tenant: str, user: str, wait_s: float) -> None:
        self.tenant, self.user = tenant, user
        self._parts, self._loop, self._wait_s = parts, loop, wait_s

    @property
    def store(self) -> Store:
        return self._parts.store

    @property
    def bus(self) -> Bus:
        return self._parts.bus

    @property
    def embedder(self) -> Embedder:
        return self._parts.embedder

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """The work's outcome, for a caller that blocks. Not from the memory's own loop."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    async def arun(self, work: Coroutine[Any, Any, T]) -> T:
        """The work's outcome, for a caller on another loop. Cancelling the caller cancels the work."""
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self._loop))

    # on the memory's loop

    async def say(self, item: str, *, text: str = "", muted: bool = False, forget: bool = False) -> None:
        """Corrects or forgets a memory or a habit. Raises as headstart.memory_edits.say."""
        await self._say(self._edit(item, text=text, muted=muted, forget=forget), os.urandom(10).hex())

    async def tell(self, name: str, text: str) -> str:
        """A new memory; its id, which is the same for the same name."""
        item = told_id(self.tenant, self.user, name)
        await self._say(self._edit(item, text=text, new=True), os.urandom(10).hex())
        return item

    async def delete(self, conversation: str) -> None:
        """Deletes one of the member's conversations, with everything remembered of it."""
        event = ConversationEdit(
            conversation=conversation, tenant=self.tenant, user=self.user, at_ms=now_ms(), delete=True
        )
        name = f"{conversation}/edit/{os.urandom(10).hex()}"
        key = self._parts.settings.signing_key
        extra = signed_by_gateway(event, name, TURNS.name, conversation, command_secret(key)) if key else ()
        partition = ids.partition_of(conversation)
        _ = await self.bus.publish(TURNS.name, partition, conversation, event, name, SOURCE, extra)

        async def is_deleted() -> bool:
            row = await self.store.conversation(conversation)
            return row is None or row.deleted

        await self._until(is_deleted)

    def _edit(
        self, item: str, *, text: str = "", muted: bool = False, forget: bool = False, new: bool = False
    ) -> MemoryEdit:  # fmt: skip
        return MemoryEdit(
            conversation="", tenant=self.tenant, user=self.user, item=item, at_ms=now_ms(), text=text, muted=muted,
            forget=forget, new=new,
        )  # fmt: skip

    async def _say(self, edit: MemoryEdit, nonce: str) -> None:
        await say(self.bus, self.store, edit, self._parts.settings.signing_key, nonce, self._wait_s)

    async def _until(self, so: Callable[[], Awaitable[bool]]) -> None:
        deadline = time.monotonic() + self._wait_s
        while True:
            if time.monotonic() >= deadline or await so():
                return
            await asyncio.sleep(0.05)


def now_ms() -> int:
    return time.time_ns() // 1_000_000
