"""A folder of one's own for tests that start Postgres: it runs as another user where the tests run as root, and every
start of pytest closes pytest's own temporary folder to others, also under a test of another session."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="headstart-test-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)
