"""One behaviour suite for every embedder: the hash, MiniLM with real weights, and a URL over real HTTP."""

from __future__ import annotations

import asyncio
import importlib.metadata
import math
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from memory.embed import Embedder, HashEmbedder, MiniLMEmbedder, UrlEmbedder, unit
from memory.minilm import DISTRIBUTION
from streams.errors import Misconfigured, PeerUnavailable
from tests.support.openai_server import OpenAIServer, serve
from workers.generation.scripted_engine import ScriptedEngine

MODULE = pytest.mark.asyncio(loop_scope="module")
TEXTS = [
    "find data engineers in Berlin",
    "data engineers wanted in Berlin",
    "Is it raining?",
    "",
    "日本の天気 🌧",
    "a " * 3000,
]


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=["hash", "minilm", "url"])
async def embedder(request: pytest.FixtureRequest) -> AsyncIterator[Embedder]:
    """One embedder for all tests of its kind, started."""
    made: Embedder
    if request.param == "url":
        async with serve(OpenAIServer(ScriptedEngine([]))) as url:
            made = UrlEmbedder(url, "hash")
            await made.start()
            yield made
            await made.close()
        return
    if request.param == "minilm":
        _need_minilm()
        made = MiniLMEmbedder()
    else:
        made = HashEmbedder()
    await made.start()
    yield made
    await made.close()


def _need_minilm() -> None:
    pytest.importorskip("torch", reason="torch is not installed (extra 'local')")
    try:
        importlib.metadata.distribution(DISTRIBUTION)
    except importlib.metadata.PackageNotFoundError:
        pytest.skip(f"{DISTRIBUTION} is not installed (extra 'local')")


@MODULE
async def test_vectors_are_unit_and_of_the_said_size(embedder: Embedder) -> None:
    vectors = await embedder.embed(TEXTS)
    assert len(vectors) == len(TEXTS)
    assert embedder.name
    for vector in vectors:
        assert len(vector) == embedder.dimensions
        assert math.isclose(math.hypot(*vector), 1.0, abs_tol=1e-5)


@MODULE
async def test_nothing_gives_nothing(embedder: Embedder) -> None:
    assert await embedder.embed([]) == []


@MODULE
async def test_order_is_kept_across_batches(embedder: Embedder) -> None:
    """More texts than any batch holds; each is nearest to itself, embedded alone."""
    texts = [
        f"{word} number {number}" for number in range(30) for word in ("apple", "train", "river", "office", "music")
    ]
    together = await embedder.embed(texts)
    for position in (0, 31, 32, 127, 128, 149):
        (alone,) = await embedder.embed([texts[position]])
        assert max(range(len(texts)), key=lambda other: dot(alone, together[other])) == position
        assert dot(alone, together[position]) > 0.9999


@MODULE
async def test_near_texts_are_near(embedder: Embedder) -> None:
    first, second, other, *_ = await embedder.embed(TEXTS)
    assert dot(first, second) > 0.5 > dot(first, other)


@MODULE
async def test_calls_side_by_side_get_their_own_vectors(embedder: Embedder) -> None:
    texts = [f"text about {word}" for word in ("cats", "law", "rain", "code", "bread", "trains")]
    alone = [(await embedder.embed([text]))[0] for text in texts]
    together = await asyncio.gather(*(embedder.embed([text]) for text in texts))
    for (vector,), expected in zip(together, alone, strict=True):
        assert dot(vector, expected) > 0.9999


@MODULE
async def test_a_cancelled_call_leaves_the_others_alone(embedder: Embedder) -> None:
    cancelled = asyncio.create_task(embedder.embed(["never mind"] * 40))
    kept = asyncio.create_task(embedder.embed(["keep this"]))
    await asyncio.sleep(0)
    cancelled.cancel()
    ((vector,), (again,)) = await kept, await embedder.embed(["keep this"])
    assert dot(vector, again) > 0.9999


@pytest.mark.parametrize(("single_precision", "cosine"), [(True, 0.99999), (False, 0.9995)])
def test_minilm_computes_what_transformers_computes(single_precision: bool, cosine: float) -> None:
    """The forward pass, against the implementation that the model was published for."""
    _need_minilm()
    transformers = pytest.importorskip("transformers", reason="transformers is not installed (extra 'local')")
    import torch

    from memory.minilm import MiniLM, find_folder

    model = transformers.AutoModel.from_pretrained(find_folder(), local_files_only=True).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(find_folder(), local_files_only=True)
    for text, vector in zip(TEXTS, MiniLM(single_precision=single_precision).embed(TEXTS), strict=True):
        tokens = tokenizer(text, return_tensors="pt", truncation=True, max_length=256)
        with torch.inference_mode():
            expected = unit(model(**tokens).last_hidden_state[0].mean(0).tolist())
        assert dot(vector, expected) > cosine


@pytest.mark.asyncio
async def test_closing_minilm_ends_its_calls_and_its_thread() -> None:
    _need_minilm()
    embedder = MiniLMEmbedder()
    call = asyncio.create_task(embedder.embed(["first"]))
    await asyncio.sleep(0)
    await embedder.close()
    with pytest.raises(PeerUnavailable):
        await call
    (one,) = await embedder.embed(["first"])  # a closed one may be used again
    await embedder.close()
    assert len(one) == embedder.dimensions


@pytest.mark.asyncio
async def test_minilm_without_its_model_says_so() -> None:
    pytest.importorskip("torch", reason="torch is not installed (extra 'local')")
    embedder = MiniLMEmbedder(folder=Path("nowhere"))
    with pytest.raises(Misconfigured, match="nowhere"):
        await embedder.embed(["text"])
    await embedder.close()


@pytest.mark.asyncio
async def test_a_url_names_whose_fault_it_is() -> None:
    server = OpenAIServer(ScriptedEngine([]))
    async with serve(server) as url:
        embedder = UrlEmbedder(url, "hash", dimensions=7, retries=0)
        with pytest.raises(Misconfigured, match="sizes"):
            await embedder.embed(["text"])
        server.api_key = "secret"
        with pytest.raises(Misconfigured, match="refuses"):
            await embedder.embed(["text"])
        server.api_key, server.refuse_with = "", 503
        with pytest.raises(PeerUnavailable):
            await embedder.embed(["text"])
        await embedder.close()
    unknown = UrlEmbedder("http://127.0.0.1:9/v1", "hash", retries=0)
    with pytest.raises(Misconfigured):
        _ = unknown.dimensions
    with pytest.raises(PeerUnavailable):
        await unknown.start()
    await unknown.close()


def dot(first: list[float], second: list[float]) -> float:
    return sum(one * other for one, other in zip(first, second, strict=True))
