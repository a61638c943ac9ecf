"""The wheel: it builds, carries what the packages need at run time and nothing else, and installs on its own."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("streams", "memory", "workers", "gateway", "headstart")
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
    heavy = ("torch", "transformers", "vllm", "numpy", "calfkit", "pixeltable", "pytest", "playwright")
    assert core
    assert [text for text in core if text.startswith(heavy)] == []
    assert set(metadata.get_all("Provides-Extra", [])) >= {"local", "gpu", "bench", "dev"}


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
