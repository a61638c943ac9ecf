"""The cheapest generation worker there can be, as a process:
`python -m tests.bench.gateway.generation_writer READY GAPS`.

Takes every request of `generations` and writes its answer, 20 tokens a second, until SIGTERM; then every answer ends.
READY is written once it listens, GAPS at the end: the times between deltas as they were handed to the bus, as JSON.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

import msgspec

from memory.opening import open_bus
from streams.bus import Bus, Reader, Start
from streams.codec import decode
from streams.events.generating import GenerationAbort, GenerationRequested
from streams.process import new_event_loop
from streams.settings import Settings
from streams.topology import GENERATIONS
from tests.bench.figures import spread
from tests.bench.gateway.log_writer import Stream, pace
from tests.bench.scenarios import TOKENS_PER_SECOND


async def take(bus: Bus, reader: Reader, streams: list[Stream]) -> None:
    """Begins an answer for every request, and lets go of those that are aborted; without end."""
    while True:
        for record in await reader.batch():
            event = decode(record)
            if isinstance(event, GenerationRequested):
                stream = Stream(bus, event.conversation, event.turn, event.epoch)
                await stream.begin()
                streams.append(stream)
            elif isinstance(event, GenerationAbort):
                streams[:] = [stream for stream in streams if stream.turn != event.turn]


async def write(ready: Path, gaps: Path, settings: Settings) -> None:
    told = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, told.set)
    streams: list[Stream] = []
    async with open_bus(settings, "bench-generation") as bus:
        starts: dict[int, Start] = dict.fromkeys(range(await bus.partitions_of(GENERATIONS.name)), "latest")
        reader = await bus.reader(GENERATIONS.name, starts)
        working = [
            asyncio.create_task(take(bus, reader, streams)), asyncio.create_task(pace(TOKENS_PER_SECOND, streams)),
        ]  # fmt: skip
        ready.write_text("")
        await told.wait()
        for task in working:
            task.cancel()
        await asyncio.gather(*working, return_exceptions=True)
        found = spread([gap for stream in streams for gap in stream.gaps_ms])
        gaps.write_bytes(msgspec.json.encode(found.as_json()))
        await asyncio.gather(*[stream.finish() for stream in streams])
        await reader.close()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(write(Path(sys.argv[1]), Path(sys.argv[2]), Settings.from_env(os.environ)))
