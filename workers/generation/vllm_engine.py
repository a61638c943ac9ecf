"""vLLM behind the engine port, in this process: `AsyncLLM`, on a CPU or on GPUs.

vLLM is given the ids of the prompt and gives ids back (`detokenize=False`); text is made here, one token at a time, so
that each id is known together with the text that it completes (`TextGate` needs that, and vLLM's own stop-string buffer
holds back a fixed number of characters and cuts through tokens). Continuing is then plain: prompt ids + logged ids are
the prompt, and the decode stream steps over the logged ids first.

`AsyncLLM` runs the model in a child process, which is spawned and not forked: a fork copies the locks of threads that
do not exist in the child, and the sockets of this process. So a script that starts this engine must be importable
(`if __name__ == "__main__"`).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any, Literal

import msgspec

from workers.generation.engine import (
    EngineEvent,
    EngineFinished,
    EngineMisconfigured,
    EngineRefused,
    EngineRequest,
    EngineStarted,
    EngineUnavailable,
    FinishReason,
    Message,
    Usage,
    check_request,
)
from workers.generation.text_gate import TextGate

_REASONS: dict[str | None, FinishReason] = {"stop": "stop", "length": "length", "abort": "abort", "repetition": "stop"}


class VllmOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How vLLM loads and runs one model. Fields left at None take vLLM's default.

    model_path: a folder with config, tokenizer and weights, or a name that vLLM can resolve.
    load_format: "dummy" makes random weights from the config alone, to measure throughput.
    cpu_kv_cache_gib: memory for keys and values on a CPU; a GPU takes `gpu_memory_utilization` (0 to 1) instead.
    enforce_eager: no graph capture or compilation; the right choice on a CPU, where compiling costs a minute.
    compact_json: no free whitespace in structured outputs, which costs tokens and lets a small model ramble.
    grammar_backend: what turns a JSON schema into a grammar; "guidance" knows most of JSON Schema (lengths, counts).
    """

    model_path: str
    model: str
    dtype: str = "bfloat16"
    max_model_len: int | None = 2048
    load_format: str = "auto"
    tokenizer_mode: str = "auto"
    enforce_eager: bool = True
    max_num_seqs: int | None = None
    tensor_parallel_size: int = 1
    gpu_memory_utilization: float | None = None
    quantization: str | None = None
    cpu_kv_cache_gib: int = 1
    compact_json: bool = True
    grammar_backend: Literal["guidance", "xgrammar"] = "guidance"


class VllmEngine:
    """`Engine` on vLLM. It can continue an answer from logged ids, greedily with the same result up to the rounding
    of the attention kernels (a prompt is computed in other batches than single tokens are)."""

    name = "vllm"
    can_continue = True

    def __init__(self, options: VllmOptions) -> None:
        self._options = options
        self._engine: Any = None
        self._tokenizer: Any = None
        self._running: set[str] = set()
        self._closed = False
        # Orders the end of loading, in its thread, and `close`: whichever comes second shuts the engine down.
        self._handover = threading.Lock()

    @property
    def model(self) -> str:
        return self._options.model

    async def start(self) -> None:
        """Load the model, about 20 s for a small one on a CPU, in a thread; then answer once, so that what is made on
        the first use (kernels, the grammar compiler) is there before a turn needs it. Raises `EngineError`.

        `close` must be called also when this raises or is cancelled; what is still loading then is dropped when done.
        """
        _set_environment(self._options)
        try:
            await asyncio.to_thread(self._load)
        except ImportError as error:
            raise EngineMisconfigured(
                f"vLLM cannot be imported: {error}",
                hint="install the extra 'local' or 'gpu', or set HEADSTART_MODEL_URL",
            ) from error
        except (ValueError, OSError, RuntimeError) as error:
            raise EngineMisconfigured(f"vLLM cannot load {self._options.model_path}: {error}") from error
        if self._engine is None:
            raise EngineUnavailable("the engine was closed while it was loading", model=self.model)
        tokenizer = self._engine.renderer.tokenizer
        if not getattr(tokenizer, "is_fast", False):
            raise EngineMisconfigured(
                f"{self._options.model} has no fast tokenizer", hint="set tokenizer_mode to 'hf'", model=self.model
            )
        self._tokenizer = tokenizer
        await self._warm_up()

    async def _warm_up(self) -> None:
        request = EngineRequest(
            request_id="warm-up", model=self.model, messages=[Message("user", "Name a city.")], max_tokens=8,
            json_schema={"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
        )  # fmt: skip
        async for _ in self.generate(request):
            pass

    def _load(self) -> None:
        engine = _make_engine(self._options)
        with self._handover:
            if not self._closed:
                self._engine = engine
                return
        _shut_down(engine)

    async def close(self) -> None:
        """End running requests with `abort`, stop vLLM's processes and free the device. Takes a few seconds."""
        with self._handover:
            engine, self._engine, self._closed = self._engine, None, True
        if engine is None:
            return
        if not engine.errored:
            await engine.abort(list(self._running))
        # Stopped before the processes are, since it would report their end as a crash.
        if engine.output_handler is not None:
            engine.output_handler.cancel()
        await asyncio.to_thread(_shut_down, engine)

    async def ready(self) -> bool:
        return self._tokenizer is not None and self._engine is not None and not self._engine.errored

    def broken(self) -> str:
        engine = self._engine
        if engine is None or not engine.errored:
            return ""
        return f"the process of vLLM's engine has ended: {engine.dead_error!r}"

    def running(self) -> int:
        return len(self._running)

    async def generate(self, request: EngineRequest) -> AsyncGenerator[EngineEvent, None]:
        check_request(request, can_continue=self.can_continue)
        engine = self._engine
        if engine is None:
            raise EngineUnavailable("the engine is closed" if self._closed else "the engine is not started")
        prompt_ids = request.prompt_ids if request.prompt_ids is not None else self._render(request)
        decode = _Decoder(self._tokenizer, prompt_ids)
        gate = _resume_gate(request, decode)
        made = len(request.logged_ids)
        yield EngineStarted(prompt_ids, len(prompt_ids))
        reason: FinishReason = "stop" if gate.stopped else "length"
        if reason == "length" and made < request.max_tokens:
            async with contextlib.aclosing(self._tokens(engine, request, prompt_ids)) as tokens:
                async for ids, ended in tokens:
                    # The last id of an answer that the model ended is its end token: counted, never delivered.
                    text_ids = ids[:-1] if ended == "stop" else ids
                    pushed = _push_until_stop(gate, decode, text_ids)
                    if gate.stopped:
                        made += pushed
                        reason = "stop"
                        break
                    made += len(ids)
                    if ended is not None:
                        reason = ended
                    delta = gate.take()
                    if delta is not None:
                        yield delta
        last = gate.finish()
        if last is not None:
            yield last
        yield EngineFinished(reason, Usage(len(prompt_ids), made))

    async def _tokens(
        self, engine: Any, request: EngineRequest, prompt_ids: list[int]
    ) -> AsyncGenerator[tuple[list[int], FinishReason | None], None]:
        """The ids as vLLM makes them, the last with the reason; vLLM's errors become ours. Closing it aborts."""
        from vllm import TokensPrompt
        from vllm.exceptions import VLLMClientError
        from vllm.v1.engine.exceptions import EngineDeadError, EngineGenerateError

        prompt = TokensPrompt(prompt_token_ids=prompt_ids + request.logged_ids)
        self._running.add(request.request_id)
        try:
            parameters = _sampling_parameters(request)
            stream = engine.generate(prompt, parameters, request.request_id)
            async with contextlib.aclosing(stream):
                async for output in stream:
                    completion = output.outputs[0]
                    ended = _REASONS.get(completion.finish_reason, "error") if output.finished else None
                    yield list(completion.token_ids), ended
        except EngineDeadError as error:
            raise EngineUnavailable("vLLM has died", hint="restart this worker", model=self.model) from error
        except EngineGenerateError as error:
            raise EngineUnavailable(f"vLLM failed on this request: {error.__cause__}", model=self.model) from error
        except (VLLMClientError, ValueError) as error:
            raise EngineRefused(f"vLLM refuses the request: {error}", model=self.model) from error
        finally:
            self._running.discard(request.request_id)

    def _render(self, request: EngineRequest) -> list[int]:
        """The prompt by the model's own chat template, ending where the answer begins."""
        messages = [{"role": message.role, "content": message.content} for message in request.messages]
        try:
            ids = self._tokenizer.apply_chat_template(
                messages, add_generation_prompt=True, tokenize=True, return_dict=False
            )
        except Exception as error:  # templates raise what they like; all of it is about these messages
            raise EngineRefused(f"the chat template refuses the messages: {error}", model=self.model) from error
        return list(ids)


class _Decoder:
    """Ids to text, one at a time: each call gives the text that this id completes, "" inside a character."""

    def __init__(self, tokenizer: Any, prompt_ids: list[int]) -> None:
        from tokenizers.decoders import DecodeStream

        self._tokenizer = tokenizer._tokenizer
        # Primed with the prompt, so that the first token gets, or does not get, its leading space.
        self._stream = DecodeStream(ids=prompt_ids, skip_special_tokens=True)

    def __call__(self, token_id: int) -> str:
        text: str | None = self._stream.step(self._tokenizer, token_id)
        return text or ""


def _resume_gate(request: EngineRequest, decode: _Decoder) -> TextGate:
    """The gate for this answer, standing behind the logged tokens; the decoder stands there afterwards, too."""
    replayed = "".join([decode(token_id) for token_id in request.logged_ids])
    if not replayed.startswith(request.logged_text):
        raise EngineRefused("logged_text is not what logged_ids say", request_id=request.request_id)
    return TextGate(
        request.stop,
        first_index=len(request.logged_ids),
        said=request.logged_text,
        unsaid=replayed[len(request.logged_text) :],
    )


def _push_until_stop(gate: TextGate, decode: _Decoder, ids: list[int]) -> int:
    """Push ids into the gate up to the one that completes a stop string; how many went in."""
    for count, token_id in enumerate(ids, start=1):
        if gate.push(token_id, decode(token_id)):
            return count
    return len(ids)


def _sampling_parameters(request: EngineRequest) -> Any:
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind, StructuredOutputsParams

    structured = None
    if request.json_schema is not None:
        structured = StructuredOutputsParams(json=request.json_schema)
    return SamplingParams(
        temperature=request.temperature,
        top_p=request.top_p,
        seed=request.seed,
        max_tokens=request.max_tokens - len(request.logged_ids),
        structured_outputs=structured,
        detokenize=False,
        output_kind=RequestOutputKind.DELTA,
    )


def _shut_down(engine: Any) -> None:
    """Blocking. vLLM shuts down once more when the object is collected, which fails at the interpreter's exit."""
    engine.shutdown()
    engine.shutdown = _already_shut_down


def _already_shut_down(timeout: float | None = None) -> None:
    """Stands in for `AsyncLLM.shutdown` after it has run."""


def _set_environment(options: VllmOptions) -> None:
    """What vLLM reads from the environment when it is imported. A value that is already set stays."""
    if Path(options.model_path).is_dir():
        os.environ.setdefault("HF_HUB_OFFLINE", "1")
    for name, value in (
        ("VLLM_NO_USAGE_STATS", "1"),
        ("VLLM_CPU_KVCACHE_SPACE", str(options.cpu_kv_cache_gib)),
        ("VLLM_LOGGING_LEVEL", "ERROR"),
        ("VLLM_WORKER_MULTIPROC_METHOD", "spawn"),
        ("TORCH_CPP_LOG_LEVEL", "ERROR"),
        ("TOKENIZERS_PARALLELISM", "false"),
    ):
        os.environ.setdefault(name, value)


def _make_engine(options: VllmOptions) -> Any:
    from vllm.engine.arg_utils import AsyncEngineArgs
    from vllm.v1.engine.async_llm import AsyncLLM

    chosen: dict[str, Any] = {
        "max_num_seqs": options.max_num_seqs,
        "gpu_memory_utilization": options.gpu_memory_utilization,
        "quantization": options.quantization,
    }
    arguments = AsyncEngineArgs(
        model=options.model_path,
        served_model_name=options.model,
        dtype=options.dtype,
        max_model_len=options.max_model_len,
        load_format=options.load_format,
        tokenizer_mode=options.tokenizer_mode,
        enforce_eager=options.enforce_eager,
        tensor_parallel_size=options.tensor_parallel_size,
        enable_prefix_caching=True,
        disable_log_stats=True,
        use_tqdm_on_load=False,
        structured_outputs_config={
            "backend": options.grammar_backend,
            "disable_any_whitespace": options.compact_json,
        },
        **{name: value for name, value in chosen.items() if value is not None},
    )
    return AsyncLLM.from_engine_args(arguments)
