"""vLLM without anything around it: `AsyncLLM` asked as its documentation does, in this process."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from itertools import count
from typing import Any

from tests.bench.driving import MS, clock
from tests.bench.gpu.asking import Answer, Answered, Task, answered, question
from tests.bench.own_environment import LeftOut
from workers.generation.vllm_engine import VllmEngine

CANCEL_AFTER = 4  # tokens
LONG = 1_000  # tokens that a cancelled answer would have had
PATIENCE_S = 30.0
_numbers = count()


class Bare:
    """The `AsyncLLM` inside a started VllmEngine, past everything that is ours."""

    def __init__(self, engine: VllmEngine) -> None:
        self._llm: Any = engine._engine
        self._tokenizer: Any = self._llm.renderer.tokenizer

    async def ask(self, task: Task) -> Answered:
        answers: list[Answer] = []

        async def one_after_the_other(stream: int) -> None:
            answers.extend([await self._answer(stream, number, task.tokens) for number in range(task.rounds)])

        await self.forget()
        async with asyncio.TaskGroup() as group:
            for stream in range(task.streams):
                _ = group.create_task(one_after_the_other(stream))
        return answered(task, answers)

    async def cancel_ms(self, tokens: int = CANCEL_AFTER) -> float:
        """From closing the iterator of an answer in progress until its keys and values are freed."""
        await self.forget()
        async with contextlib.aclosing(self._stream(0, 0, LONG)) as outputs:
            made = 0
            async for output in outputs:
                made += len(output.outputs[0].token_ids)
                if made >= tokens:
                    break
            began = clock()
        await self.freed()
        return (clock() - began) * MS

    async def freed(self) -> None:
        """Returns when no request holds any block of the cache: only then can its prefixes be forgotten. Raises
        LeftOut when that takes longer than PATIENCE_S."""
        try:
            async with asyncio.timeout(PATIENCE_S):
                while not await self.forget():  # noqa: ASYNC110 - vLLM tells nobody
                    await asyncio.sleep(0.001)
        except TimeoutError:
            raise LeftOut(f"blocks of the cache were still held {PATIENCE_S:.0f} s after a cancel") from None

    async def forget(self) -> bool:
        """Forgets cached prefixes, so that every run begins alike; False while a request holds blocks."""
        return bool(await self._llm.reset_prefix_cache())

    async def _answer(self, stream: int, round_number: int, tokens: int) -> Answer:
        answer = Answer(clock(), [])
        async for output in self._stream(stream, round_number, tokens):
            answer.pieces.append((clock(), len(output.outputs[0].token_ids)))
        return answer

    async def _stream(self, stream: int, round_number: int, tokens: int) -> AsyncGenerator[Any, None]:
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        messages = [{"role": role, "content": text} for role, text in question(stream, round_number)]
        prompt = self._tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
        parameters = SamplingParams(temperature=0.0, max_tokens=tokens, output_kind=RequestOutputKind.DELTA)
        outputs = self._llm.generate(prompt, parameters, f"bare-{next(_numbers)}")
        async with contextlib.aclosing(outputs):
            async for output in outputs:
                yield output
