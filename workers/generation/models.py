"""From the table of models to running engines: one engine per row, started side by side."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Mapping
from pathlib import Path

from streams.errors import Misconfigured
from streams.models import ModelSpec, key_of
from streams.models import load_models as load_specs
from streams.settings import Settings
from workers.generation.engine import Engine
from workers.generation.model_cache import ModelUnavailableError, ensure_model
from workers.generation.openai_engine import OpenAIEngine, OpenAIOptions
from workers.generation.scripted_engine import ScriptedEngine, parse_rules

log = logging.getLogger(__name__)


class Models:
    """The engines of one worker, by the name under which agents ask for them."""

    def __init__(self, engines: Mapping[str, Engine], specs: Mapping[str, ModelSpec]) -> None:
        self.engines = dict(engines)
        self.specs = dict(specs)

    async def start(self) -> None:
        """Load or connect them all. Raises what an engine raises; `close` must be called also then."""
        await asyncio.gather(*[engine.start() for engine in self.engines.values()])

    async def close(self) -> None:
        """Close them all, whatever one of them says; the first error is raised at the end."""
        results = await asyncio.gather(*[engine.close() for engine in self.engines.values()], return_exceptions=True)
        for error in results:
            if isinstance(error, BaseException):
                raise error

    @property
    def capacity(self) -> int:
        """How many generations run side by side over all models."""
        return sum(spec.requests_at_once for spec in self.specs.values())


async def load_models(settings: Settings, environ: Mapping[str, str] = os.environ) -> Models:
    """The engines that the settings name (HEADSTART_MODELS, or HEADSTART_MODEL_URL, or vLLM with the small model that
    ships), not yet started. Converts that model first where it was not done. Raises Misconfigured."""
    specs = load_specs(settings)
    engines = {name: await _engine(name, spec, settings, environ) for name, spec in specs.items()}
    return Models(engines, specs)


async def _engine(name: str, spec: ModelSpec, settings: Settings, environ: Mapping[str, str]) -> Engine:
    if spec.engine == "scripted":
        return _scripted(name, spec)
    if spec.engine == "openai":
        assert spec.url is not None  # the table was checked when it was read
        assert spec.model is not None
        key = settings.model_key if spec.key_variable == "HEADSTART_MODEL_KEY" else key_of(spec, environ)
        return OpenAIEngine(OpenAIOptions(base_url=spec.url, model=spec.model, api_key=key or ""))
    from workers.generation.vllm_engine import VllmEngine, VllmOptions  # imports no vllm until it is started

    path = spec.model
    if path is None:
        try:
            folder = await ensure_model(settings.cache, lambda step: log.info("%s: %s", name, step.step))
        except ModelUnavailableError as error:
            raise Misconfigured(str(error), hint="or set HEADSTART_MODEL_URL to a server") from error
        path = str(folder)
    window = spec.context_tokens or (2048 if spec.model is None else None)
    options = VllmOptions(model_path=path, model=name, max_model_len=window, max_num_seqs=spec.requests_at_once)
    return VllmEngine(options)


def _scripted(name: str, spec: ModelSpec) -> Engine:
    if spec.model is None:
        raise Misconfigured(f"models.{name} has engine `scripted` and so needs `model`, a JSON file of rules")
    try:
        rules = parse_rules(Path(spec.model).read_bytes())
    except OSError as error:
        raise Misconfigured(f"models.{name}: the rules cannot be read: {error}") from error
    return ScriptedEngine(rules, model=name, tokens_per_second=spec.tokens_per_second, end_ms=spec.end_ms)
