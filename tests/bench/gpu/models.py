"""The models of the GPU benchmark: the small one that ships, and one of eight billion random weights."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any, Final

from workers.generation.model_cache import ensure_model
from workers.generation.vllm_engine import VllmOptions

MODELS: Final = {"smollm2": "SmolLM2-135M-Instruct", "dummy-8b": "8B-sized configuration, random weights"}
WINDOW: Final = 4096
AT_ONCE: Final = 256
WEIGHTS: Final = ("*.safetensors", "*.safetensors.index.json", "*.bin")
# Llama 3 8B's shape, with the tokenizer (and so the vocabulary) of the model that ships.
SHAPE: Final[dict[str, Any]] = {
    "hidden_size": 4096, "intermediate_size": 14_336, "num_hidden_layers": 32, "num_attention_heads": 32,
    "num_key_value_heads": 8, "head_dim": 128, "max_position_embeddings": 8192, "rope_theta": 500_000.0,
    "tie_word_embeddings": False,
}  # fmt: skip


async def model_options(name: str, cache: Path, folder: Path) -> VllmOptions:
    """How vLLM is to load one of MODELS. Makes the small model's files where they are not there, and the big one's
    configuration in `folder`. Raises ModelUnavailableError."""
    small = await ensure_model(cache)
    if name == "smollm2":
        return VllmOptions(
            model_path=str(small), model=name, max_model_len=2048, max_num_seqs=AT_ONCE, enforce_eager=False
        )
    made = eight_billion(small, folder / "dummy-8b")
    return VllmOptions(
        model_path=str(made), model=name, load_format="dummy", max_model_len=WINDOW, max_num_seqs=AT_ONCE,
        enforce_eager=False,
    )  # fmt: skip


def eight_billion(small: Path, made: Path) -> Path:
    """A folder with the small model's tokenizer and a configuration of eight billion weights, and no weights."""
    shutil.copytree(small, made, ignore=shutil.ignore_patterns(*WEIGHTS), dirs_exist_ok=True)
    config = json.loads((small / "config.json").read_text())
    (made / "config.json").write_text(json.dumps(config | SHAPE, indent=1))
    return made
