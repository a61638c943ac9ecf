"""What holds for every test: hypothesis judges by examples and never by time; CI draws the same examples each time; and
a run's last lines name what failed, below whatever logs the failures printed."""

from __future__ import annotations

import os
from collections.abc import Generator

import pytest
from hypothesis import settings

settings.register_profile("local", deadline=None, print_blob=True)
settings.register_profile("ci", deadline=None, print_blob=True, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "local")


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> Generator[None, None, None]:
    yield
    for outcome in ("failed", "error"):
        for report in terminalreporter.stats.get(outcome, []):
            crash = getattr(report.longrepr, "reprcrash", None)
            said = next(iter(crash.message.splitlines()), "")[:200] if crash else ""
            terminalreporter.write_line(f"{outcome}: {report.nodeid}: {said}")
