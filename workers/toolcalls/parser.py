"""The parser: a model's text in, facts about its calls out, as the text streams."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from workers.toolcalls import dialects
from workers.toolcalls.calls import Calls, Skills
from workers.toolcalls.dialects.base import Dialect, Session
from workers.toolcalls.dialects.openai_deltas import DIALECT as DELTAS_DIALECT
from workers.toolcalls.dialects.openai_deltas import Deltas
from workers.toolcalls.facts import CallSnapshot, Fact, Limits
from workers.toolcalls.reader import Reader, Steps
from workers.toolcalls.stream import Stream

Mode = Literal["strict", "repair"]


class Parser(Stream):
    """Reads one output of a model.

    `skills` are the skills that were offered: their parameters' names, or the JSON Schema of their parameters. Formats
    whose values carry no type (Qwen XML, GLM) need the schema to tell `3` from `"3"`; without it a value that reads as
    JSON is taken so. In repair mode they also mend slips in names.
    `prompt` is the end of the rendered prompt, by which a dialect knows whether reasoning is already open.
    `special_tokens` gives the text of token ids that the engine leaves out of its text.
    With `partial=False` no `StringPart` and `ArgumentsDelta` are told, with `string_parts=False` no `StringPart`: less
    is faster.

    A parser is used for one output and by one caller at a time.
    """

    def __init__(
        self,
        dialect: str | Dialect,
        *,
        mode: Mode = "repair",
        skills: Skills | None = None,
        limits: Limits | None = None,
        prompt: str = "",
        special_tokens: Mapping[int, str] | None = None,
        partial: bool = True,
        string_parts: bool = True,
    ) -> None:
        self.dialect = dialects.get(dialect) if isinstance(dialect, str) else dialect
        super().__init__(limits=limits or Limits(), repair=mode == "repair", partial=partial, string_parts=string_parts)
        self._calls = Calls(self._reader, skills)
        self._session = Session(self._calls, skills, prompt)
        self._special_tokens = special_tokens or {}
        self._reader.hides_tokens = bool(self._special_tokens)
        self._deltas: Deltas | None = None
        if self.dialect is DELTAS_DIALECT:
            self._deltas = Deltas(
                self._calls,
                limits=limits or Limits(),
                repair=mode == "repair",
                partial=partial,
                string_parts=string_parts,
            )
        self._start(self._grammar)

    def _grammar(self, reader: Reader) -> Steps:
        yield from self.dialect.grammar(reader, self._session)
        # A grammar that is through lets the rest of the text pass unread.
        while True:
            reader.pos = len(reader.buf)
            yield from reader.more()

    def feed_delta(self, delta: Mapping[str, Any]) -> list[Fact]:
        """The facts that a delta of an OpenAI chat completion completes. Only for the dialect `openai_deltas`."""
        if self._deltas is None:
            raise TypeError(f"the dialect {self.dialect.name} reads text, not deltas")
        return self._deltas.feed(delta)

    def finish(self, reason: str = "stop") -> list[Fact]:
        facts = self._deltas.finish(reason) if self._deltas is not None else []
        return super().finish(reason) + facts

    def snapshot(self) -> list[CallSnapshot]:
        """The calls as far as they are known, void ones left out. For showing; never for firing."""
        return [call.snapshot() for call in self._calls.all if call.state != "void"]

    def _as_text(self, chunk: str | bytes, token_ids: Sequence[int]) -> str:
        text = super()._as_text(chunk, token_ids)
        known = self._special_tokens
        if not known:
            return text
        before: list[str] = []
        behind: list[str] = []
        plain = False
        for token_id in token_ids:
            special = known.get(token_id)
            if special is None:
                plain = True
            elif special in text:
                return text
            else:
                (behind if plain else before).append(special)
        return "".join((*before, text, *behind))
