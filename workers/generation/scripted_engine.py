"""An engine that says what a script says: for tests and benchmarks, where the model must cost nothing and never vary.

It keeps every promise of the port that a real engine keeps: token ids that decode to the text, tokens that cut through
characters, stop strings, `max_tokens`, continuing from logged ids, JSON, abort. Its tokens are three bytes of UTF-8
each, and an id is those bytes read as a number, so ids mean the same in every process.

A script is a function from a request to a text, or a list of rules in JSON (`parse_rules`), which several processes can
share through a file or an environment variable:

    [{"step": "plan", "when": {"contains": "weather"}, "say": "[{\\"name\\": \\"get_weather\\", \\"arguments\\": {}}]"},
     {"step": "answer", "when": {"anywhere": "14 degrees"}, "say": "It is 14 degrees."},
     {"say": "I cannot tell."}]

The first rule that fits speaks.
"""

from __future__ import annotations

import asyncio
import codecs
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from typing import Any

import msgspec

from workers.generation.engine import (
    EngineEvent,
    EngineFinished,
    EngineMisconfigured,
    EngineRefused,
    EngineRequest,
    EngineStarted,
    EngineUnavailable,
    FinishReason,
    Message,
    Usage,
    check_request,
)
from workers.generation.text_gate import TextGate

Script = Callable[[EngineRequest], str]
BYTES_PER_TOKEN = 3
# Each byte takes a digit from 1 to 256, so that the number tells how many bytes there are.
_BASE = 257


def encode(text: str) -> list[int]:
    """The ids of a text. The ids of a longer text begin with those of its beginning, up to the last one."""
    data = text.encode()
    ids = []
    for start in range(0, len(data), BYTES_PER_TOKEN):
        number = 0
        for byte in data[start : start + BYTES_PER_TOKEN]:
            number = number * _BASE + byte + 1
        ids.append(number)
    return ids


def decode_bytes(token_id: int) -> bytes:
    """The bytes of one token."""
    digits = []
    while token_id:
        token_id, digit = divmod(token_id, _BASE)
        digits.append(digit - 1)
    return bytes(reversed(digits))


def decode(ids: Sequence[int]) -> str:
    """The text of a list of ids; raises `UnicodeDecodeError` where it ends inside a character."""
    return b"".join(map(decode_bytes, ids)).decode()


class When(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a request must contain, letter case aside; "" contains nothing in particular.

    contains: in the last message of the user. anywhere: in any message.
    """

    contains: str = ""
    anywhere: str = ""


class Rule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What to say to requests of a step ("" for all steps) that fit."""

    say: str
    when: When = When()
    step: str = ""

    def fits(self, request: EngineRequest) -> bool:
        if self.step and self.step != request.step:
            return False
        last = next((message.content for message in reversed(request.messages) if message.role == "user"), "")
        everything = "\n".join([message.content for message in request.messages])
        return self.when.contains.lower() in last.lower() and self.when.anywhere.lower() in everything.lower()


def parse_rules(data: str | bytes) -> list[Rule]:
    """Rules from a JSON list. Raises `EngineMisconfigured` with the place of the mistake."""
    try:
        return msgspec.json.decode(data, type=list[Rule])
    except msgspec.DecodeError as error:
        raise EngineMisconfigured(f"the script's rules are not valid: {error}") from error


def rules_script(rules: Sequence[Rule]) -> Script:
    """A script that lets the first fitting rule speak; a request that none fits is refused."""

    def script(request: EngineRequest) -> str:
        for rule in rules:
            if rule.fits(request):
                return rule.say
        raise EngineRefused("no rule of the script fits", hint="end the script with a rule for all", step=request.step)

    return script


class ScriptedEngine:
    """`Engine` on a script.

    tokens_per_second: the pace of each answer, the first token included; None is as fast as the loop goes.
    tokens_per_delta: how many tokens come at once, as from an engine that is busy.
    end_ms: the silence between the last token and the end, as in the step in which a model says that it has ended.
    sleep, now: the clock, in seconds; tests give their own. Tokens are due at fixed times after the start of the
        answer, so that late wake-ups do not add up.
    """

    name = "scripted"
    can_continue = True

    def __init__(
        self,
        script: Script | Sequence[Rule],
        *,
        model: str = "scripted",
        tokens_per_second: float | None = None,
        tokens_per_delta: int = 1,
        end_ms: float = 0.0,
        sleep: Callable[[float], Awaitable[Any]] = asyncio.sleep,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._script: Script = script if callable(script) else rules_script(script)
        self._model = model
        self._seconds_per_token = 1 / tokens_per_second if tokens_per_second else 0.0
        self._tokens_per_delta = tokens_per_delta
        self._end_s = end_ms / 1000
        self._sleep = sleep
        self._now = now
        self._running: set[str] = set()
        self._open = False

    @property
    def model(self) -> str:
        return self._model

    async def start(self) -> None:
        self._open = True

    async def close(self) -> None:
        self._open = False

    async def ready(self) -> bool:
        return self._open

    def broken(self) -> str:
        return ""

    def running(self) -> int:
        return len(self._running)

    async def generate(self, request: EngineRequest) -> AsyncGenerator[EngineEvent, None]:
        check_request(request, can_continue=self.can_continue)
        if not self._open:
            raise EngineUnavailable("the engine is not started or closed")
        prompt_ids = request.prompt_ids if request.prompt_ids is not None else render(request.messages)
        if request.prompt_ids is not None:
            request = msgspec.structs.replace(request, messages=unrender(request.prompt_ids))
        ids = self._answer_ids(request)
        yield EngineStarted(prompt_ids, len(prompt_ids))
        self._running.add(request.request_id)
        try:
            async for event in self._say(request, ids, len(prompt_ids)):
                yield event
        finally:
            self._running.discard(request.request_id)

    def _answer_ids(self, request: EngineRequest) -> list[int]:
        """All ids of the answer, the logged ones included. Refuses what the script does not provide."""
        text = self._script(request)
        if request.json_schema is not None:
            try:
                msgspec.json.decode(text)
            except msgspec.DecodeError as error:
                raise EngineRefused(f"a JSON answer is asked for; the script says something else: {error}") from error
        ids = encode(text)
        if request.logged_ids != ids[: len(request.logged_ids)]:
            raise EngineRefused("the logged tokens are not from this script", request_id=request.request_id)
        return ids

    async def _say(
        self, request: EngineRequest, ids: list[int], prompt_tokens: int
    ) -> AsyncGenerator[EngineEvent, None]:
        decoder = codecs.getincrementaldecoder("utf-8")()
        replayed = "".join([decoder.decode(decode_bytes(token_id)) for token_id in request.logged_ids])
        if not replayed.startswith(request.logged_text):
            raise EngineRefused("logged_text is not what logged_ids say", request_id=request.request_id)
        made = len(request.logged_ids)
        unsaid = replayed[len(request.logged_text) :]
        gate = TextGate(request.stop, first_index=made, said=request.logged_text, unsaid=unsaid)
        limit = min(len(ids), request.max_tokens)
        started, first = self._now(), made
        while made < limit and self._open and not gate.stopped:
            upto = min(limit, made + self._tokens_per_delta)
            await self._sleep(max(0.0, started + (upto - first) * self._seconds_per_token - self._now()))
            for token_id in ids[made:upto]:
                made += 1
                if gate.push(token_id, decoder.decode(decode_bytes(token_id))):
                    break
            delta = gate.take()
            if delta is not None:
                yield delta
        last = gate.finish()
        if last is not None:
            yield last
        if self._end_s:
            await self._sleep(self._end_s)
        yield EngineFinished(self._reason(request, gate, made, len(ids)), Usage(prompt_tokens, made))

    def _reason(self, request: EngineRequest, gate: TextGate, made: int, size: int) -> FinishReason:
        if gate.stopped or made == size:
            return "stop"
        return "length" if made >= request.max_tokens else "abort"


def render(messages: list[Message]) -> list[int]:
    """The prompt of the script: its messages as JSON, in tokens, so that they can be got back from the ids."""
    return encode(msgspec.json.encode(messages).decode())


def unrender(prompt_ids: list[int]) -> list[Message]:
    """The messages of a prompt. Raises `EngineRefused` for ids that another engine made."""
    try:
        return msgspec.json.decode(decode(prompt_ids), type=list[Message])
    except (msgspec.DecodeError, UnicodeDecodeError, ValueError) as error:
        raise EngineRefused(f"prompt_ids are not from a scripted engine: {error}") from error
