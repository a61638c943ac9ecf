"""Asks the worker on the bus, as a process: `python -m tests.bench.gpu.asker TASK`; says its figures as JSON."""

from __future__ import annotations

import asyncio
import os
import sys

import msgspec

from memory.opening import open_bus
from streams.bus import Start
from streams.codec import decode
from streams.events.generating import AnswerDelta, AnswerFinished
from streams.process import configure_logging, new_event_loop
from streams.settings import Settings
from streams.topology import EVENTS
from tests.bench.driving import clock
from tests.bench.gpu.asking import Answer, Task, answered
from tests.bench.gpu.on_bus import post, request_of


async def ask(task: Task) -> None:
    answers: dict[str, Answer] = {}
    ends: dict[str, asyncio.Future[None]] = {}
    async with open_bus(Settings.from_env(os.environ), "bench-asker") as bus:
        starts: dict[int, Start] = dict.fromkeys(range(bus.partitions), "latest")
        reader = await bus.reader(EVENTS.name, starts)

        async def follow() -> None:
            while True:
                for record in await reader.batch():
                    event, turn = decode(record), record.event_id.partition("/")[0]
                    if turn not in answers:
                        continue  # somebody else's, before this process
                    if isinstance(event, AnswerDelta):
                        answers[turn].pieces.append((clock(), len(event.ids) or 1))
                    elif isinstance(event, AnswerFinished):
                        if event.error_code:
                            ends[turn].set_exception(RuntimeError(f"{event.error_code}: {event.error_message}"))
                        else:
                            ends[turn].set_result(None)

        async def one_after_the_other(stream: int) -> None:
            for round_number in range(task.rounds):
                request = request_of(stream, round_number, task.tokens)
                ends[request.turn] = asyncio.get_running_loop().create_future()
                answers[request.turn] = Answer(clock(), [])
                await post(bus, request)
                await ends[request.turn]

        async with asyncio.TaskGroup() as group:  # what fails in one of them ends all
            following = group.create_task(follow())
            asking = [group.create_task(one_after_the_other(stream)) for stream in range(task.streams)]
            await asyncio.wait(asking)
            following.cancel()
        await reader.close()
    os.write(1, msgspec.json.encode(answered(task, list(answers.values()))) + b"\n")


if __name__ == "__main__":
    configure_logging("error")
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(ask(msgspec.json.decode(sys.argv[1], type=Task)))
