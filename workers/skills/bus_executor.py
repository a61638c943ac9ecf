"""Calls a skill over the bus: `call.requested` on `calls`, `call.result` on `turns`, as executor.py does over HTTP.

- The request goes to the conversation's partition, keyed by the conversation, with the signed `Headstart-Context` of
  HTTP as a header (over the record's whole value) and the skill as `ce_subject`, so that a service drops what is not
  its own before it parses anything. Its id is `<turn>/call.<call>/<claim>/<attempt>`.
- A request that was sent stays on the topic: a service that was down answers when it is back, and a worker that takes
  the turn over uses the result that the one before asked for. So nothing is sent again because somebody was silent;
  a request goes again only after an answer that says so, and only where a second one does no harm.
- `timeout_ms` bounds the whole call, waiting for a place (limits.py) and retries included; so does the turn's deadline.
- Only the skill's owner may answer: the service key's user is the manifest's owner (the caller of `take` has checked
  the signature). A result from anybody else is refused, or dropped where it came before anybody waited for it.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from streams import ids
from streams.bus import Bus
from streams.codec import Headers, encode
from streams.errors import InvalidInput, NotPermitted, OurError, PeerError
from streams.events import Event
from streams.events.calling import CallAbandoned, CallRequested
from streams.events.intake import CallResult
from streams.events.registering import SkillManifest
from streams.topology import CALLS
from workers.skills.answer import to_result
from workers.skills.awaited import Awaited, Done
from workers.skills.context import HEADER, CallContext, sign
from workers.skills.execution import Outcome
from workers.skills.failures import SkillBroke, SkillFailed, SkillTimeout, SkillUnreachable, failure
from workers.skills.limits import Limits

log = logging.getLogger("headstart.skills")
SUBJECT_HEADER: Final = "ce_subject"
CONTEXT_HEADER: Final = HEADER.lower()
FIRST_PAUSE_MS: Final = 50
LONGEST_PAUSE_MS: Final = 2_000


class _Course:
    """What happened so far in one call."""

    def __init__(self, on_sent: Callable[[], None] | None) -> None:
        self.started = time.perf_counter()
        self.attempts = 0
        self.sent = self.sent_now = False
        self.sent_ms = 0.0
        self._on_sent = on_sent

    def took_ms(self) -> float:
        return round((time.perf_counter() - self.started) * 1000, 3)

    def facts(self) -> dict[str, Any]:
        return {"attempts": self.attempts, "took_ms": self.took_ms()}

    def left(self) -> None:
        """The newest attempt's request was handed to the bus."""
        self.sent_ms = self.took_ms()
        if self._on_sent is not None:
            self._on_sent()
            self._on_sent = None


class BusExecutor:
    """Calls of one worker over one bus. Belongs to one event loop.

    signing_key: signs Headstart-Context; None sends calls without it. source: this worker's name. limits: shared with
    the calls over HTTP. clock_ms: wall clock in milliseconds. timeout(seconds): bounds each whole call.
    """

    def __init__(
        self, bus: Bus, *, signing_key: str | None, source: str, limits: Limits | None = None,
        clock_ms: Callable[[], float] = lambda: time.time() * 1000,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep, jitter: Callable[[], float] = random.random,
        timeout: Callable[[float], asyncio.Timeout] = asyncio.timeout,
    ) -> None:  # fmt: skip
        self.limits = limits or Limits()
        self.results: Counter[str] = Counter()
        """What became of the results that came in, by verdict: taken, early, repeated, unexpected, not_the_owner."""
        self._bus, self._signing_key, self._source = bus, signing_key, source
        self._clock_ms, self._sleep, self._jitter, self._timeout = clock_ms, sleep, jitter, timeout
        self._awaited = Awaited()
        self._tasks: set[asyncio.Task[None]] = set()
        self._requested: dict[tuple[str, int], CallRequested] = {}

    # -- the port --------------------------------------------------------------------------------------------------

    async def call(
        self, manifest: SkillManifest, arguments: Mapping[str, Any], context: CallContext,
        on_sent: Callable[[], None] | None = None,
    ) -> Outcome:  # fmt: skip
        """See execution.Executor. With `context.sent_before` nothing is sent; without a result in time it raises
        OurError (`call_in_doubt`)."""
        course = _Course(on_sent)
        allowed_ms, code = float(manifest.timeout_ms), "skill_timeout"
        now_ms = self._clock_ms()
        if context.deadline_at_ms and context.deadline_at_ms - now_ms < allowed_ms:
            allowed_ms, code = context.deadline_at_ms - now_ms, "turn_deadline"
        self._awaited.expect(context.turn, context.call, context.key, manifest.owner)
        try:
            if allowed_ms <= 0:
                raise TimeoutError
            async with (
                self._timeout(allowed_ms / 1000),
                self.limits.place(manifest.name, manifest.concurrency, context.tenant, context.turn),
            ):
                return await self._attempts(manifest, arguments, context, course, int(now_ms + allowed_ms))
        except TimeoutError:
            if context.sent_before:
                raise OurError("an earlier attempt may have had its effect", code="call_in_doubt") from None
            self.abandon(context.turn, context.call)
            message = f"no result within {max(0, round(allowed_ms))} ms"
            raise failure(SkillTimeout, code, message, manifest, course.sent, **course.facts()) from None
        except asyncio.CancelledError:
            self._awaited.left(context.turn, context.call, context.key)
            raise
        finally:
            self._requested.pop((context.turn, context.call), None)

    def take(self, result: CallResult, event_id: str, signer: str, done: Done) -> str:
        """A result of a turn that runs, whose signature was right; gives what became of it (awaited.Verdict).

        signer: user of the key that signed it, "" where unsigned ones are allowed. done: called once its record need
        not be read again. Raises NotPermitted (`not_the_owner`); done is then not called.
        """
        owner = self._awaited.owner(result.turn, result.call, result.key)
        if owner and signer and signer != owner:
            self.results["not_the_owner"] += 1
            raise NotPermitted("only the skill's owner may answer its calls", code="not_the_owner", call=result.call)
        verdict = self._awaited.take(result, event_id, signer, done)
        self.results[verdict] += 1
        return verdict

    def awaits(self, result: CallResult) -> bool:
        """See execution.Results."""
        return self._awaited.waits(result.turn, result.call, result.key)

    def settled(self, turn: str, call: int) -> None:
        """See execution.Results."""
        self._awaited.settled(turn, call)

    def abandon(self, turn: str, call: int) -> None:
        """See execution.Results. Best effort: a service that does not hear it does its work in vain."""
        request = self._requested.pop((turn, call), None)
        if request is not None:
            task = asyncio.get_running_loop().create_task(self._abandon(request))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def forget(self, turn: str) -> None:
        """See execution.Results."""
        self._awaited.forget(turn)

    def drop(self, turn: str) -> None:
        """See execution.Results."""
        self._awaited.drop(turn)

    # -- inside ----------------------------------------------------------------------------------------------------

    async def _attempts(
        self, manifest: SkillManifest, arguments: Mapping[str, Any], context: CallContext, course: _Course,
        deadline_at_ms: int,
    ) -> Outcome:  # fmt: skip
        pause_ms = FIRST_PAUSE_MS
        while True:
            course.attempts += 1
            course.sent_now = False
            request = CallRequested(
                conversation=context.conversation, turn=context.turn, call=context.call, claim=context.claim,
                skill=manifest.id, arguments=dict(arguments), tenant=context.tenant, user=context.user,
                key=context.key, at_ms=int(self._clock_ms()), deadline_at_ms=deadline_at_ms, locale=context.locale,
                attempt=course.attempts,
            )  # fmt: skip
            try:
                return await self._attempt(manifest, request, context, course)
            except PeerError as error:
                error.facts.update(course.facts(), sent=course.sent)
                harmless = not course.sent_now or manifest.effect == "pure" or manifest.idempotent_key
                if not (error.retriable and harmless and course.attempts <= manifest.retries):
                    raise
            await self._sleep(pause_ms * (0.5 + self._jitter() / 2) / 1000)
            pause_ms = min(2 * pause_ms, LONGEST_PAUSE_MS)

    async def _attempt(
        self, manifest: SkillManifest, request: CallRequested, context: CallContext, course: _Course
    ) -> Outcome:
        """One request, unless its result is there already, and what comes back."""
        coming = asyncio.ensure_future(self._result(manifest, request))
        try:
            await asyncio.sleep(0)
            if not coming.done() and not context.sent_before:
                await self._send(manifest, request, context, course, coming)
            return self._outcome(manifest, await coming, course)
        finally:
            coming.cancel()

    async def _send(
        self, manifest: SkillManifest, request: CallRequested, context: CallContext, course: _Course,
        coming: asyncio.Future[CallResult],
    ) -> None:  # fmt: skip
        """Returns when the log has the request or its result is there."""
        event_id = f"{request.turn}/call.{request.call}/{request.claim}/{request.attempt}"
        partition = ids.partition_of(request.conversation)
        headers = self._headers(manifest, request, event_id, context)
        course.sent = course.sent_now = True
        self._requested[request.turn, request.call] = request
        try:
            kept = await self._bus.post(
                CALLS.name, partition, request.conversation, request, event_id, self._source, headers
            )  # fmt: skip
            course.left()
            either: set[asyncio.Future[Any]] = {kept, coming}
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if kept.done():
                _ = kept.result()
            else:
                kept.add_done_callback(_heed)
        except InvalidInput as error:
            course.sent = course.sent_now = False
            raise failure(SkillFailed, "skill_refused", "the arguments are too large", manifest, False) from error
        except PeerError as error:
            message = "the request could not be put on the bus"
            raise failure(SkillUnreachable, "skill_unreachable", message, manifest, True) from error

    async def _result(self, manifest: SkillManifest, request: CallRequested) -> CallResult:
        """The call's next result that its owner signed."""
        while True:
            result, signer = await self._awaited.next(request.turn, request.call, request.key)
            if signer in ("", manifest.owner):
                return result
            self.results["not_the_owner"] += 1
            log.warning("a result that was not its owner's was dropped: call %d of %s", request.call, request.turn)

    def _outcome(self, manifest: SkillManifest, result: CallResult, course: _Course) -> Outcome:
        if result.error:
            raise _failed(manifest, result, course)
        body = result.result.encode()
        cut = len(body) > manifest.result_bytes
        text = to_result(manifest, "application/json", "", body[: manifest.result_bytes], cut)
        return Outcome(
            result=text, status=200, took_ms=course.took_ms(), sent_ms=course.sent_ms, size_bytes=len(body), cut=cut,
            attempts=max(1, course.attempts),
        )  # fmt: skip

    def _headers(self, manifest: SkillManifest, request: CallRequested, event_id: str, context: CallContext) -> Headers:
        headers: Headers = [(SUBJECT_HEADER, manifest.id.encode())]
        if context.traceparent:
            headers.append(("traceparent", context.traceparent.encode()))
        if self._signing_key is not None:
            _, value = encode(request, event_id, self._source)
            signed = sign(context, manifest.name, value, int(self._clock_ms()), self._signing_key)
            headers.append((CONTEXT_HEADER, signed.encode()))
        return headers

    async def _abandon(self, request: CallRequested) -> None:
        event: Event = CallAbandoned(
            turn=request.turn, call=request.call, claim=request.claim, skill=request.skill, key=request.key,
            at_ms=int(self._clock_ms()),
        )  # fmt: skip
        event_id = f"{request.turn}/call.{request.call}/{request.claim}/{request.attempt}/abandoned"
        headers: Headers = [(SUBJECT_HEADER, request.skill.encode())]
        partition = ids.partition_of(request.conversation)
        try:
            kept = await self._bus.post(
                CALLS.name, partition, request.conversation, event, event_id, self._source, headers
            )  # fmt: skip
            _ = await kept
        except PeerError as error:
            log.info("a skill was not told that nobody waits: %s", error.code)


def _failed(manifest: SkillManifest, result: CallResult, course: _Course) -> PeerError:
    """The error that a service's own word stands for (CallResult.error)."""
    if result.error == "refused":
        return failure(SkillFailed, "skill_refused", "the skill refused the call", manifest, course.sent)
    if result.error == "busy":
        return failure(SkillBroke, "skill_busy", "the skill is busy", manifest, course.sent)
    kind = SkillBroke if result.retriable else SkillFailed
    return failure(kind, "skill_failed", "the skill failed", manifest, course.sent)


def _heed(kept: asyncio.Future[int]) -> None:
    """The result came before the log's acknowledgement: whatever that says, the skill had the request."""
    if not kept.cancelled():
        _ = kept.exception()
