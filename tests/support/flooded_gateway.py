"""`python -m tests.support.flooded_gateway`: a gateway alone in its process, so that its memory can be measured.

Prints one line of JSON (port, key) when it listens and ends with its standard input. The log is in this process too and
is small: what is said in it is one answer of 2 MiB.
"""

from __future__ import annotations

import asyncio
import sys

import orjson

from gateway.limits import Limits
from streams.events.intake import TurnSubmit
from tests.support.gateways import Rig
from tests.support.turn_script import Hold, Line, answer, completed

LIMITS = Limits(connections=600, sockets_per_key=300, head_ms=3_000, body_ms=3_000)
PIECES = [f"{number:04d} " + "x" * 8000 for number in range(256)]


def script(submit: TurnSubmit) -> list[Line]:
    if "long" in submit.input[-1].text:
        return [*answer(PIECES), completed()]
    return [Hold("never"), completed()]


async def main() -> None:
    async with Rig(script) as rig:
        gateway = await rig.gateway(limits=LIMITS)
        sys.stdout.write(orjson.dumps({"port": gateway.port, "key": rig.key}).decode() + "\n")
        sys.stdout.flush()
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(main())
