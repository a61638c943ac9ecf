"""A program on a terminal of its own, as a person would run it: type, press Ctrl-C, read the screen."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pty
import re
import struct
import termios
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from fcntl import ioctl
from pathlib import Path

ESCAPES = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]|\r")
CTRL_C = "\x03"
ROOT = Path(__file__).parents[2]


class Terminal:
    """`text` is everything shown so far, without the sequences that move the cursor and colour it."""

    def __init__(self, process: asyncio.subprocess.Process, screen: int) -> None:
        self._process = process
        self._screen = screen
        self._raw = bytearray()
        self._grown = asyncio.Event()
        asyncio.get_running_loop().add_reader(screen, self._read)

    @property
    def text(self) -> str:
        return ESCAPES.sub("", self._raw.decode(errors="replace"))

    def type(self, text: str) -> None:
        os.write(self._screen, text.encode())

    async def shows(self, text: str, times: int = 1) -> None:
        """Wait until the text was shown so often."""
        while self.text.count(text) < times:
            if self._process.returncode is not None:
                raise AssertionError(f"the program ended without showing {text!r}:\n{self.text}")
            self._grown.clear()
            await self._grown.wait()

    async def ended(self) -> int:
        """Wait for the program's end; its exit status."""
        return await self._process.wait()

    def _read(self) -> None:
        try:
            self._raw += os.read(self._screen, 1 << 16)
        except OSError:  # the program's side is closed: it has ended
            asyncio.get_running_loop().remove_reader(self._screen)
        self._grown.set()


@asynccontextmanager
async def terminal(
    command: Sequence[str], environment: Mapping[str, str], columns: int = 200
) -> AsyncIterator[Terminal]:
    """Run a program on a new terminal; it is killed if it still runs at the end."""
    screen, side = pty.openpty()
    ioctl(side, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    process = await asyncio.create_subprocess_exec(
        *command, stdin=side, stdout=side, stderr=side, cwd=ROOT, start_new_session=True,
        env={**os.environ, **environment}, preexec_fn=lambda: ioctl(0, termios.TIOCSCTTY, 0),
    )  # fmt: skip
    os.close(side)
    try:
        yield Terminal(process, screen)
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
        asyncio.get_running_loop().remove_reader(screen)
        os.close(screen)
