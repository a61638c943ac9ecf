"""The README is true: its commands exist, its code runs, its table of settings is the one that is read."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from headstart.cli import app
from headstart.service import Service
from scripts.readme_settings import BLOCK
from streams.settings import markdown

ROOT = Path(__file__).resolve().parent.parent.parent
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)
SHELL = [line for language, block in BLOCKS if not language for line in block.splitlines()]
HEADSTART = sorted({line.split("#")[0].strip() for line in SHELL if line.startswith("headstart ")})
MAKE = sorted({line.split("#")[0].split()[1] for line in SHELL if line.startswith("make ")})


def test_the_readme_names_commands() -> None:
    assert len(HEADSTART) >= 7
    assert {"demo", "test", "up"} <= set(MAKE)


@pytest.mark.parametrize("line", HEADSTART)
def test_each_headstart_command_exists(line: str) -> None:
    words = [word for word in shlex.split(line)[1:] if not word.startswith("-")]
    options = [word for word in shlex.split(line)[1:] if word.startswith("--") and word != "--help"]
    groups = ("publish", "memory", "dead", "keys", "agents", "skill", "new")
    command = words[:2] if words[0] in groups else words[:1]
    result = CliRunner().invoke(app, [*command, "--help"], env={"COLUMNS": "200"})
    assert result.exit_code == 0, result.output
    for option in options:
        assert option in result.output


@pytest.mark.parametrize("target", MAKE)
def test_each_make_target_exists(target: str) -> None:
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE)


def test_the_service_in_the_readme_declares_its_skill() -> None:
    [code] = [block for language, block in BLOCKS if language == "python" and "Service(" in block]
    scope: dict[str, object] = {}
    exec(compile(code, "README.md", "exec"), scope)
    service = scope["service"]
    assert isinstance(service, Service)
    service.port = 1
    [manifest] = service.manifests()
    assert manifest.name == "get_time"
    assert manifest.parameters["required"] == ["city"]


def test_the_table_of_settings_is_the_one_that_is_read() -> None:
    found = BLOCK.search(README)
    assert found is not None
    assert markdown() in found.group(0), "run python scripts/readme_settings.py"


def test_every_file_the_docs_link_to_exists() -> None:
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    links = [(page, link) for page in pages for link in re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text())]
    missing = [f"{page.relative_to(ROOT)} → {link}" for page, link in links if not (page.parent / link).exists()]
    assert missing == []
