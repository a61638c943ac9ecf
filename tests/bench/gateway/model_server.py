"""The scripted OpenAI-compatible server as a process: `python -m tests.bench.gateway.model_server FILE`.

Writes its URL to FILE once it serves, and runs until SIGTERM.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path

from streams.process import new_event_loop
from tests.bench import scenarios
from tests.support.openai_server import OpenAIServer, serve
from workers.generation.scripted_engine import ScriptedEngine


async def run(file: Path) -> None:
    told = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, told.set)
    answer = scenarios.answer_text(scenarios.SHORT_TOKENS)
    engine = ScriptedEngine(lambda request: answer, tokens_per_second=scenarios.TOKENS_PER_SECOND)
    async with serve(OpenAIServer(engine)) as url:
        draft = file.with_suffix(".draft")
        draft.write_text(url)
        draft.rename(file)
        await told.wait()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(run(Path(sys.argv[1])))
