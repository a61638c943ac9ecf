"""A process takes as many files as it may have."""

from __future__ import annotations

import resource
import subprocess
import sys

from streams.file_limit import raise_file_limit


def test_the_soft_limit_becomes_the_hard_one() -> None:
    def restrict() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, 1024))

    script = "from streams.file_limit import raise_file_limit; print(raise_file_limit())"
    done = subprocess.run(
        [sys.executable, "-c", script], preexec_fn=restrict, capture_output=True, text=True, check=True
    )
    assert done.stdout == "1024\n"


def test_again_changes_nothing() -> None:
    assert raise_file_limit() == raise_file_limit()
