"""`headstart new` writes what works: its own tests pass where it was written, and the skill serves a turn's call."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from headstart.cli import app
from headstart.testing import serving
from streams.errors import InvalidInput, Misconfigured, Refused

ROOT = Path(__file__).resolve().parent.parent.parent


def new(*arguments: str) -> str:
    done = CliRunner().invoke(app, ["new", *arguments], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def test_what_is_written_passes_its_own_tests(tmp_path: Path) -> None:
    assert f"pytest {tmp_path / 'count_words'}" in new(
        "skill", "count_words", "--service", "texts", "--into", str(tmp_path)
    )
    assert f"pytest {tmp_path / 'texts'}" in new("agent", "texts", "--into", str(tmp_path))
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)], cwd=tmp_path,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": f"{ROOT}:{tmp_path / 'count_words'}"}, capture_output=True,
        text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "6 passed" in done.stdout
    for checker in (
        ["ruff", "check", "--isolated"],
        ["ruff", "format", "--isolated", "--check", "--line-length", "120"],
    ):
        checked = subprocess.run(
            [Path(sys.executable).with_name(checker[0]), *checker[1:], tmp_path], capture_output=True, check=False
        )
        assert checked.returncode == 0, checked.stdout


@pytest.mark.parametrize(("kind", "name"), [("skill", "Count Words"), ("skill", "class"), ("agent", "../x")])
def test_names_that_are_none(kind: str, name: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput):
        new(kind, name, "--into", str(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_nothing_that_stands_is_written_over(tmp_path: Path) -> None:
    new("skill", "count_words", "--into", str(tmp_path))
    with pytest.raises(Refused, match="is there already"):
        new("skill", "count_words", "--into", str(tmp_path))
    with pytest.raises(Refused, match="among those that ship"):
        new("agent", "desk", "--into", str(tmp_path))


@pytest.mark.asyncio
async def test_a_service_over_the_bus_is_tested_over_http() -> None:
    from headstart.service import Service

    with pytest.raises(Misconfigured, match="tested over HTTP"):
        async with serving(Service("x", over="bus")):
            pass
