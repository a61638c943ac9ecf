"""A service on the bus as a process, for tests that kill it: `python -m tests.support.slow_service`. Its skill takes
some milliseconds and says in which process it ran; settings come from the environment, as for any service."""

from __future__ import annotations

import asyncio
import os
import sys

from headstart.service import Service

NAME = "slow"
WORK_S = 0.25  # 64 side by side: 500 calls take two seconds, so a kill finds many in work
service = Service(NAME, over="bus", tenant="acme")


@service.skill(timeout_ms=25_000, retries=0)
async def work(number: int) -> dict[str, int]:
    """Does some work."""
    await asyncio.sleep(WORK_S)
    return {"number": number, "process": os.getpid()}


@service.skill(effect="irreversible", timeout_ms=6_000, retries=0)
async def once(number: int) -> dict[str, int]:
    """Does something that must not be done twice."""
    sys.stdout.write(f"once {number}\n")
    sys.stdout.flush()
    await asyncio.sleep(WORK_S)
    return {"number": number, "process": os.getpid()}


if __name__ == "__main__":
    sys.exit(service.serve())
