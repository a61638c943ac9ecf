"""The map of the house: which folder may know which, which modules are pure, how long a file may be.

streams ◀ memory ◀ workers        streams ◀ gateway (memory too)        headstart above all of them
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from streams.topology import TOPICS
from tests.support.syntax import parsed

ROOT = Path(__file__).resolve().parent.parent
HOUSES = ("streams", "memory", "workers", "gateway", "headstart")
MAY_KNOW = {
    "streams": {"streams"},
    "memory": {"streams", "memory"},
    "workers": {"streams", "memory", "workers"},
    "gateway": {"streams", "memory", "gateway"},
    "headstart": {"streams", "memory", "workers", "gateway", "headstart"},
}
LINES = 400
# What makes a module a shell: waiting, sockets, processes, clocks, chance, and the libraries that do I/O.
SHELL = {
    "asyncio", "socket", "subprocess", "threading", "time", "random", "secrets", "aiokafka", "asyncpg", "faststream",
    "httpx", "httpcore", "openai", "starlette", "uvicorn", "vllm", "websockets", "torch", "transformers",
}  # fmt: skip
PURE = (
    "streams/events/*.py", "streams/topology.py", "streams/codec.py", "streams/ids.py", "streams/offsets.py",
    "streams/fence.py", "streams/coalesce.py", "streams/errors.py", "streams/watermark.py", "streams/lane_queue.py",
    "streams/access.py",
    "streams/progress.py", "streams/pulse.py",
    "memory/records.py", "memory/rows.py", "memory/recall.py", "memory/selection.py",
    "memory/drafts.py", "memory/editing.py", "memory/keys.py", "memory/revising.py", "memory/habits.py",
    "workers/remembering/fold.py",
    "workers/remembering/attributes.py", "workers/remembering/clauses.py", "workers/remembering/extraction.py",
    "workers/remembering/facts.py", "workers/remembering/observing.py", "workers/remembering/rules.py",
    "workers/remembering/summarising.py", "workers/planning/context.py",
    "workers/toolcalls/**/*.py", "workers/planning/approving.py", "workers/planning/commands.py",
    "workers/planning/firing.py", "workers/planning/inflight.py", "workers/planning/planned_call.py",
    "workers/planning/machine.py", "workers/planning/model_calls.py", "workers/planning/partition.py",
    "workers/planning/rendering.py", "workers/planning/restoring.py", "workers/planning/savings.py",
    "workers/planning/journal.py", "workers/planning/setups.py", "streams/taken.py",
    "workers/planning/facts_due.py", "workers/planning/notes.py", "workers/planning/setup.py",
    "workers/planning/taking.py", "workers/planning/steering.py", "workers/remembering/published.py",
    "workers/routing/*.py", "workers/agents/*.py", "workers/skills/manifest.py", "workers/skills/references.py",
    "workers/skills/plan_schema.py", "workers/skills/breaker.py", "workers/generation/engine.py",
    "workers/generation/placement.py", "workers/response/*.py",
    "gateway/frames.py", "gateway/frame.py", "gateway/session.py", "gateway/resume.py", "gateway/window.py",
    "headstart/replay/recording.py", "headstart/replay/turns.py", "headstart/replay/commands.py",
    "headstart/replay/inputs.py", "headstart/replay/compare.py", "headstart/replay/redaction.py",
    "headstart/replay/result.py", "headstart/replay/steps.py", "headstart/replay/diff.py",
    "headstart/replay/diff_text.py", "headstart/replay/diff_html.py", "headstart/replay/changing.py",
    "headstart/replay/finding.py", "gateway/axis.py", "gateway/axis_drawing.py",
    "headstart/client_state.py", "headstart/client_acks.py", "headstart/client_backoff.py",
    "headstart/client_errors.py", "headstart/client_held.py", "headstart/client_readers.py",
    "headstart/client_refusals.py", "headstart/timeline.py", "headstart/turn_view.py",
    "headstart/importing/choices.py", "headstart/importing/mcp_tools.py", "headstart/importing/naming.py",
    "headstart/importing/openapi.py", "headstart/importing/parameters.py", "headstart/importing/schemas.py",
    "headstart/mcp/results.py", "workers/skills/binding.py", "workers/skills/http_request.py",
    "workers/skills/url_template.py",
)  # fmt: skip
NOT_PURE = {"workers/toolcalls/vllm_adapter.py"}  # the one file of the parser that knows vLLM


def modules() -> list[Path]:
    return sorted(file for house in HOUSES for file in (ROOT / house).rglob("*.py"))


@cache
def imports(file: Path) -> frozenset[str]:
    """Full names of what a module imports, also inside functions; not what is imported for types alone."""
    found: set[str] = set()

    def walk(node: ast.AST) -> None:
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            return
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:  # `from package import module` is about the module, not about the package
                full = f"{node.module}.{alias.name}"
                found.add(full if _exists(full) else node.module)
        for child in ast.iter_child_nodes(node):
            walk(child)

    walk(parsed(file.read_text()))
    return frozenset(found)


def pure_modules() -> Iterator[Path]:
    for pattern in PURE:
        for file in ROOT.glob(pattern):
            if str(file.relative_to(ROOT)) not in NOT_PURE:
                yield file


@pytest.mark.parametrize("file", modules(), ids=lambda file: str(file.relative_to(ROOT)))
def test_arrows(file: Path) -> None:
    house = file.relative_to(ROOT).parts[0]
    known = {name.partition(".")[0] for name in imports(file)} & set(HOUSES)
    assert known <= MAY_KNOW[house], f"{house} may not import {', '.join(sorted(known - MAY_KNOW[house]))}"


def test_every_pure_pattern_names_something() -> None:
    empty = [pattern for pattern in PURE if not any(ROOT.glob(pattern))]
    assert empty == []


@pytest.mark.parametrize("file", sorted(set(pure_modules())), ids=lambda file: str(file.relative_to(ROOT)))
def test_pure_modules_do_no_io(file: Path) -> None:
    used = {name.partition(".")[0] for name in imports(file)} & SHELL
    assert used == set()


def test_no_circles() -> None:
    graph = {_name(file): {target for name in imports(file) if (target := _known(name))} for file in modules()}
    done: set[str] = set()
    path: list[str] = []

    def visit(module: str) -> None:
        if module in path:
            raise AssertionError("a circle of imports: " + " → ".join([*path[path.index(module) :], module]))
        if module in done:
            return
        path.append(module)
        for target in sorted(graph.get(module, ())):
            if target != module:
                visit(target)
        path.pop()
        done.add(module)

    for module in sorted(graph):
        visit(module)
    assert len(done) >= len(graph)


@pytest.mark.parametrize("file", modules(), ids=lambda file: str(file.relative_to(ROOT)))
def test_files_can_be_read_in_one_sitting(file: Path) -> None:
    text = file.read_text()
    assert len(text.splitlines()) <= LINES
    assert ast.get_docstring(parsed(text)), "a module says what it is for"


def test_vllm_is_known_to_two_files_only() -> None:
    users = {
        str(file.relative_to(ROOT)) for file in modules() if any(n.partition(".")[0] == "vllm" for n in imports(file))
    }
    assert users <= {"workers/generation/vllm_engine.py", "workers/toolcalls/vllm_adapter.py"}


def test_each_topic_has_its_row_and_somebody_on_both_sides() -> None:
    assert len({topic.name for topic in TOPICS}) == len(TOPICS)
    for topic in TOPICS:
        assert topic.producers
        assert topic.consumers


def test_every_pure_module_is_reached_by_a_test() -> None:
    """Directly, or through a module that a test imports."""
    reached: set[str] = set()
    waiting = [target for file in (ROOT / "tests").rglob("*.py") for name in imports(file) if (target := _known(name))]
    while waiting:
        module = waiting.pop()
        if module not in reached:
            reached.add(module)
            waiting += [target for name in imports(_file(module)) if (target := _known(name))]
    named = [file for file in pure_modules() if file.name != "__init__.py"]
    missing = [str(file.relative_to(ROOT)) for file in named if _name(file) not in reached]
    assert missing == []


def _name(file: Path) -> str:
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _known(name: str) -> str:
    """The module of ours that an imported name is or lies in, "" when it is somebody else's."""
    if name.partition(".")[0] not in HOUSES:
        return ""
    while name and not _exists(name):
        name = name.rpartition(".")[0]
    return name


def _exists(name: str) -> bool:
    return _file(name).exists()


def _file(name: str) -> Path:
    path = ROOT.joinpath(*name.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
