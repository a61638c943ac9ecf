"""Recordings as files: JSON Lines, gzip where the name ends in .gz."""

from __future__ import annotations

import gzip
import io
import os
import zlib
from pathlib import Path

from headstart.replay.recording import Recording, lines, parse
from streams.errors import InvalidInput, NotFound


def write_recording(recording: Recording, path: Path) -> int:
    """Writes the file whole or not at all, and gives its size in bytes. The same recording gives the same bytes."""
    buffer = io.BytesIO()
    if path.suffix == ".gz":
        with gzip.GzipFile(fileobj=buffer, mode="wb", compresslevel=6, mtime=0, filename="") as packed:
            for line in lines(recording):
                packed.write(line)
    else:
        buffer.writelines(lines(recording))
    data = buffer.getvalue()
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        beside.write_bytes(data)
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
    return len(data)


def read_recording(path: Path) -> Recording:
    """The recording in a file, compressed or not. Raises NotFound (`no_such_file`) and InvalidInput
    (`not_a_recording`)."""
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise NotFound(f"there is no file {path}", code="no_such_file") from error
    except OSError as error:
        raise InvalidInput(f"{path} can not be read: {error.strerror}", code="not_a_recording") from error
    if data[:2] == b"\x1f\x8b":
        try:
            data = gzip.decompress(data)
        except (OSError, EOFError, zlib.error) as error:
            raise InvalidInput(
                f"{path} is cut off or damaged", code="not_a_recording", hint="copy it again from where it was made"
            ) from error
    return parse(data.splitlines(keepends=True))
