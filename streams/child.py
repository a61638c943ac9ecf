"""A child process that never outlives its parent.

A broker or database that is left behind keeps its port, its lock file and its memory, so every process started here
goes through a launcher that asks the kernel for a signal at the parent's death (PR_SET_PDEATHSIG) and then becomes the
program. The kernel ties that wish to the *thread* that forked, so it is made on the main thread only; elsewhere, and
where the kernel has no such wish, `end_all` at exit does it for every ordinary end of the interpreter.

A child gets its own session: Ctrl-C in a terminal reaches the parent alone, which then stops its children in order.
`subprocess` rather than asyncio's transports: a child started under one event loop can be stopped under another.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from streams.errors import PeerTimeout, PeerUnavailable

# Runs isolated (-I -S), so it starts in about 20 ms. Changing the uid clears the wish, so it comes first; the library
# is loaded before that, since the other user may not be able to read this Python's files.
_LAUNCHER: Final = """
import os, sys
parent, wish, uid, gid = map(int, sys.argv[1:5])
wish = wish if sys.platform == "linux" else 0
if wish:
    import ctypes
    libc = ctypes.CDLL(None)
if uid >= 0:
    os.setgroups([]); os.setgid(gid); os.setuid(uid)
if wish:
    libc.prctl(1, wish, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(125)
try:
    os.execv(sys.argv[5], sys.argv[5:])
except OSError as error:
    sys.exit(f"{sys.argv[5]}: {error.strerror}")
"""
_TAIL_BYTES: Final = 4_000
_living: set[Child] = set()


@dataclass(eq=False)
class Child:
    """One running program. `name` is for messages; `log_path` holds its stdout and stderr, from its start."""

    name: str
    log_path: Path
    stop_signal: signal.Signals
    process: subprocess.Popen[bytes] = field(repr=False)

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def running(self) -> bool:
        return self.process.poll() is None

    def log_tail(self) -> str:
        """The last lines that the program printed, at most 4,000 bytes; empty where it printed nothing."""
        try:
            data = self.log_path.read_bytes()
        except FileNotFoundError:
            return ""
        return data[-_TAIL_BYTES:].decode(errors="replace").strip()

    def check(self) -> None:
        """Raises PeerUnavailable with the end of its log if the program has ended."""
        status = self.process.poll()
        if status is not None:
            _living.discard(self)
            raise PeerUnavailable(
                f"{self.name} ended with status {status}",
                hint=self.log_tail() or None,
                status=status,
                log=str(self.log_path),
            )

    async def stop(self, grace_s: float = 10.0) -> int:
        """Asks the program to end, waits `grace_s` seconds, then kills it. Gives its exit status; safe to call again.

        After a cancel the program has been asked to end, and `kill` or another `stop` finishes the job.
        """
        if self.running:
            self.process.send_signal(self.stop_signal)
            try:
                return await asyncio.to_thread(self._wait, grace_s)
            except subprocess.TimeoutExpired:
                self.kill()
        return await asyncio.to_thread(self._wait, None)

    def kill(self) -> None:
        """SIGKILL to the program and what it started, as a crash would be. Returns at once; safe to call again."""
        with contextlib.suppress(ProcessLookupError):  # it has ended and was waited for
            os.killpg(self.pid, signal.SIGKILL)

    async def wait(self) -> int:
        """Waits for the program to end by itself and gives its exit status (negative: the signal that ended it)."""
        return await asyncio.to_thread(self._wait, None)

    def _wait(self, timeout_s: float | None) -> int:
        status = self.process.wait(timeout_s)
        _living.discard(self)
        return status


def start_child(
    name: str,
    command: Sequence[str | Path],
    *,
    log_path: Path,
    environment: Mapping[str, str] | None = None,
    directory: Path | None = None,
    stop_signal: signal.Signals = signal.SIGTERM,
    user: tuple[int, int] | None = None,
) -> Child:
    """Starts `command` (its first word is the path of the program) and returns at once.

    environment: the child's whole environment; None hands on this process's. user: (uid, gid) to run as, for a parent
    that is root. A program that cannot be executed shows as an ended child, with the reason in its log.
    """
    wish = int(stop_signal) if threading.current_thread() is threading.main_thread() else 0
    uid, gid = user or (-1, -1)
    launcher = [sys.executable, "-I", "-S", "-c", _LAUNCHER, str(os.getpid()), str(wish), str(uid), str(gid)]
    log_path.parent.mkdir(parents=True, exist_ok=True)
    with log_path.open("wb") as log:
        process = subprocess.Popen(
            [*launcher, *map(str, command)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=None if environment is None else dict(environment),
            cwd=directory,
            start_new_session=True,
        )
    child = Child(name, log_path, stop_signal, process)
    _living.add(child)
    return child


async def until_listening(child: Child, host: str, port: int, timeout_s: float) -> None:
    """Returns once somebody accepts connections on host:port. Raises PeerUnavailable if the child ends first, and
    PeerTimeout after `timeout_s`; the child is then still running."""
    try:
        async with asyncio.timeout(timeout_s):
            while True:
                child.check()
                try:
                    _, writer = await asyncio.open_connection(host, port)
                except OSError:
                    await asyncio.sleep(0.02)
                    continue
                writer.close()
                return
    except TimeoutError:
        raise PeerTimeout(
            f"{child.name} did not listen on {host}:{port} within {timeout_s:g} s", hint=child.log_tail() or None
        ) from None


def end_all(grace_s: float = 5.0) -> None:
    """Ends every program that still runs: politely, after `grace_s` seconds by force. Blocking."""
    left = [child for child in _living if child.running]
    for child in left:
        child.process.send_signal(child.stop_signal)
    for child in left:
        try:
            child.process.wait(grace_s)
        except subprocess.TimeoutExpired:
            child.kill()
            child.process.wait()


atexit.register(end_all)
