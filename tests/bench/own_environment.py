"""Environments of their own for what is compared with: pinned versions, made once, kept in the cache."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path


class LeftOut(Exception):
    """The environment could not be made, or what runs in it failed; the message says why."""


def own_environment(folder: Path, pinned: Sequence[str]) -> Path:
    """The Python of an environment in `folder` that holds the pinned packages; made where it is not there. Raises
    LeftOut."""
    python, stamp = folder / "bin" / "python", folder / "pinned.json"
    if stamp.exists() and json.loads(stamp.read_text()) == list(pinned):
        return python
    sys.stderr.write(f"making {folder} with {', '.join(pinned)} (a minute or two)\n")
    for command in ([sys.executable, "-m", "venv", str(folder)], [str(python), "-m", "pip", "install", "-q", *pinned]):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise LeftOut(f"{' '.join(command[:4])} …: {done.stderr.strip()[-400:]}")
    stamp.write_text(json.dumps(list(pinned)))
    return python


async def last_line_of(
    python: Path, module: str, argument: str, environment: Mapping[str, str], patience_s: float
) -> bytes:
    """Runs `python -m MODULE ARGUMENT` to its end and gives the last line that it printed. The process does not outlive
    the call. Raises LeftOut when it fails or takes longer than patience_s."""
    process = await asyncio.create_subprocess_exec(
        str(python), "-m", module, argument, env=environment, stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        async with asyncio.timeout(patience_s):
            said, errors = await process.communicate()
    except TimeoutError:
        raise LeftOut(f"{module} had not ended after {patience_s:.0f} s") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode or not said:
        raise LeftOut(errors.decode()[-1_500:] or f"{module} said nothing")
    return said.splitlines()[-1]
