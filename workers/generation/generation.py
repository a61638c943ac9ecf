"""One generation from request to last word.

    started ─▶ (takeover: read what was delivered) ─▶ engine ─▶ checks ─▶ deltas ─▶ finished

Once `*.started` is in the log the turn's owner watches over the stage, so the request may be committed. Whatever goes
wrong becomes the stage's last fact, with the exception of a log that cannot be written: then the stage falls silent,
and its lease gives it to another worker.

An answer that goes on where another worker stopped writes its `started` first, before it can know where that was and
what the prompt was: both stand in the earlier epochs. Plans and routes are generated anew. An answer whose text was
shown and cannot be continued (an engine that does not tell its tokens, text that a check changed) ends with reason
`abort` and code `cannot_continue`, its text kept.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import aclosing

import msgspec

from streams.bus import Bus
from streams.errors import HeadstartError, InvalidInput, PeerError, PeerUnavailable
from streams.events.base import Usage
from streams.events.generating import GenerationRequested
from streams.writer import StageWriter
from workers.generation import engine as port
from workers.generation.engine import Engine, EngineDelta, EngineFinished, EngineRequest, EngineStarted
from workers.generation.stage import Clock, Stage
from workers.generation.takeover import read_delivered
from workers.response.pipeline import Pipeline, make_pipeline

log = logging.getLogger(__name__)


class Ending(msgspec.Struct, frozen=True):
    """Why a generation is ended from outside."""

    reason: str
    code: str = ""
    message: str = ""
    retriable: bool = False


ABORTED = Ending("abort")
LEAVING = Ending("error", "worker_leaving", "the worker is shutting down", retriable=True)
DEADLINE = Ending("error", "deadline", "the turn's deadline has passed")


class Generation:
    """Carries out one GenerationRequested: `run` it in a task of its own, wait for `opened`, `end` it from outside.

    engine: None when the worker has none for the model; the stage then says so and ends.
    """

    def __init__(
        self,
        bus: Bus,
        request: GenerationRequested,
        engine: Engine | None,
        writer: str,
        clock: Clock,
        spacing_ms: float,
    ) -> None:
        self.request = request
        self.opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._bus = bus
        self._engine = engine
        self._writer = writer
        self._clock = clock
        stage_writer = StageWriter(bus, request.conversation, request.turn, request.step, request.epoch, writer)
        self._stage = Stage(stage_writer, request.step, clock, spacing_ms)
        self._pipeline = Pipeline([])
        self._prompt_tokens = 0
        self._made = 0  # tokens of the answer so far, those of earlier epochs included
        self._ending: Ending | None = None
        self._closing = False
        self._task: asyncio.Task[None] | None = None

    def end(self, ending: Ending) -> None:
        """End it now, wherever it is; the first call counts, and one that comes after the answer's end changes
        nothing. Returns at once; the engine's iterator is closed before the last fact is written."""
        if self._ending is None and not self._closing:
            self._ending = ending
            if self._task is not None:
                self._task.cancel()

    async def tick(self) -> None:
        """Called several times a second: the deadline, and a sign of life."""
        if self._clock.wall_ms() >= self.request.deadline_at_ms:
            self.end(DEADLINE)
        try:
            await self._stage.beat()
        except PeerError:
            return  # the stage is broken; whoever says the next word of it learns the same

    async def run(self) -> None:
        """Generate to the end. Raises nothing but CancelledError, after which nothing more is written.

        `opened` is done when `*.started` is in the log, or has the PeerError because of which it is not.
        """
        self._task = asyncio.current_task()
        assert self._task is not None
        try:
            await self._run(self._task)
        except PeerError as error:
            self._stage.abandon()
            if self.opened.done():
                log.warning("the stage %s/%s is given up: %s", self.request.turn, self.request.step, error)
            else:
                self.opened.set_exception(error)
        finally:
            if not self.opened.done():
                self.opened.set_exception(PeerUnavailable("the generation was given up before it was begun"))
            if not self.opened.cancelled():
                self.opened.exception()  # whoever does not wait for it has no use for the reason

    async def _run(self, task: asyncio.Task[None]) -> None:
        """`run`, but for a log that cannot be written."""
        ending: Ending | None
        try:
            if self._ending is None and self._clock.wall_ms() >= self.request.deadline_at_ms:
                self._ending = DEADLINE
            if self._ending is None:
                await self._answer()
            ending = self._ending
        except asyncio.CancelledError:
            if self._ending is None:
                self._stage.abandon()
                raise
            task.uncancel()
            ending = self._ending
        except HeadstartError as error:
            if self._stage.broken:
                raise
            ending = Ending("error", error.code, error.message, error.retriable)
        except Exception as error:
            log.exception("generation of %s/%s met a defect", self.request.turn, self.request.step)
            ending = Ending("error", "defect", type(error).__name__)
        if ending is not None and not self._stage.finished:
            self._closing = True
            if not self._stage.open:
                await self._start(None, None)
            await self._finish(ending)

    async def _answer(self) -> None:
        request, engine = self.request, self._engine
        if engine is None:
            raise InvalidInput(f"no worker here serves the model {request.model!r}", code="unknown_model")
        self._pipeline = make_pipeline(request.checks)
        call = EngineRequest(
            request_id=f"{request.turn}/{request.step}/{request.epoch}",
            model=request.model,
            messages=[port.Message(_role(message.role), message.content) for message in request.messages],
            max_tokens=request.sampling.max_tokens,
            temperature=request.sampling.temperature,
            top_p=request.sampling.top_p,
            seed=request.sampling.seed,
            stop=list(request.sampling.stop),
            json_schema=request.sampling.json_schema,
            step=request.step,
        )
        if request.resume and request.step == "answer":
            await self._start(None, None)
            continued = await self._continue(call, engine)
            if continued is None:
                return
            call = continued
        async with aclosing(engine.generate(call)) as events:
            async for event in events:
                if isinstance(event, EngineDelta):
                    await self._say(event)
                    if self._pipeline.stopped:
                        break
                elif isinstance(event, EngineStarted):
                    self._prompt_tokens = event.prompt_tokens or 0
                    if not self._stage.open:
                        await self._start(event.prompt_ids, event.prompt_tokens)
                else:
                    await self._end_as(event)
                    return
        await self._end_as(None)

    async def _continue(self, call: EngineRequest, engine: Engine) -> EngineRequest | None:
        """The call that goes on after what was delivered; None when there is nothing to be generated (any more)."""
        verdict, delivered = await read_delivered(self._bus, self.request, self._writer)
        if verdict in ("fenced", "ended"):
            self._closing = True
            self._stage.abandon()
            return None
        self._prompt_tokens, self._made = delivered.prompt_tokens, len(delivered.ids)
        if delivered.finished is not None:
            self._closing = True
            said = delivered.finished
            await self._finish(Ending(said.reason), said.usage, said.filtered)
            return None
        if not delivered.anything:
            return call
        if not (engine.can_continue and delivered.whole_ids and delivered.prompt_ids is not None):
            self._ending = Ending("abort", "cannot_continue", "the answer was cut off and cannot be continued")
            return None
        self._pipeline.prime(delivered.text)
        if len(delivered.ids) >= call.max_tokens:
            self._ending = Ending("length")
            return None
        return msgspec.structs.replace(
            call, prompt_ids=delivered.prompt_ids, logged_ids=delivered.ids, logged_text=delivered.text
        )

    async def _start(self, prompt_ids: list[int] | None, prompt_tokens: int | None) -> None:
        """Open the stage. The acknowledgement is waited for by `opened` alone; what follows is queued behind it."""
        engine = self._engine
        kept = await self._stage.start(
            self.request.model, engine.name if engine else "", prompt_ids=prompt_ids, prompt_tokens=prompt_tokens or 0,
            can_continue=engine is not None and engine.can_continue and self.request.step == "answer",
        )  # fmt: skip
        kept.add_done_callback(self._opened)

    def _opened(self, kept: asyncio.Future[int]) -> None:
        if self.opened.done():
            return
        if kept.cancelled():
            self.opened.cancel()
        elif (error := kept.exception()) is not None:
            self.opened.set_exception(error)
        else:
            self.opened.set_result(None)

    async def _say(self, delta: EngineDelta) -> None:
        self._made = max(self._made, delta.index + max(1, len(delta.ids)))  # an engine without ids counts deltas
        for piece in self._pipeline.feed(delta.text, tuple(delta.ids), delta.index):
            await self._stage.say(piece)

    async def _end_as(self, event: EngineFinished | None) -> None:
        """The engine's own end, or (None) the one that a check put."""
        self._closing = True
        for piece in self._pipeline.finish():
            await self._stage.say(piece)
        filtered = self._pipeline.filtered
        if event is None:
            await self._finish(Ending("filtered"), None, filtered)
            return
        usage = Usage(
            prompt=event.usage.prompt_tokens, completion=event.usage.completion_tokens, hidden=event.usage.hidden_tokens
        )
        ending = Ending(event.reason)
        if event.reason == "error":
            ending = Ending("error", "engine_gave_up", "the engine ended the answer before its end")
        await self._finish(ending, usage, filtered)

    async def _finish(self, ending: Ending, usage: Usage | None = None, filtered: tuple[str, ...] = ()) -> None:
        await self._stage.finish(
            ending.reason,
            usage or Usage(prompt=self._prompt_tokens, completion=self._made),
            filtered or self._pipeline.filtered,
            ending.code,
            ending.message,
            ending.retriable,
        )


def _role(role: str) -> port.Role:
    """Roles that an engine has no name for (`developer`) speak as the system."""
    return role if role in ("system", "user", "assistant", "tool") else "system"  # type: ignore[return-value]
