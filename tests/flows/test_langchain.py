"""Headstart's memory through the real LangChain and LangGraph: their own classes call it, their graph uses it.

Behind it the log, the memory worker and a turns worker run as they do in production, on the memory's own loop.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.prompts import ChatPromptTemplate, MessagesPlaceholder
from langchain_core.runnables import RunnableLambda
from langchain_core.runnables.history import RunnableWithMessageHistory
from langgraph.graph import END, START, StateGraph
from langgraph.store.base import BaseStore, GetOp, PutOp
from typing_extensions import TypedDict

from headstart.langchain import HeadstartChatMessageHistory, HeadstartStore, Memory, open_memory
from memory.embed import HashEmbedder
from memory.habits import habit_id
from memory.memory_store import MemoryStore
from memory.opening import Parts
from memory.rows import SUMMARY, Change, ConversationRow, MemoryRow, MessageRow, Observed, TurnRecord
from streams import ids
from streams.errors import InvalidInput, NotFound, PeerTimeout
from streams.memory_bus import MemoryBroker, MemoryBus
from streams.settings import Settings
from tests.support.turn_script import ScriptedTurns
from workers.remembering.worker import MemoryWorker

AT_MS = 1_700_000_000_000
CONVERSATION = ids.conversation_id(1, AT_MS, b"conversation")
TURN = ids.turn_id(CONVERSATION, AT_MS, b"turn-entropy")
HABIT = habit_id("acme", "ada", "skill", "get_weather")
SETTINGS = Settings.from_env({"HEADSTART_DEV": "true"})
MEMORIES = ("memories",)


@asynccontextmanager
async def parts(works: bool = True) -> AsyncIterator[Parts]:
    """An installation of one turn that was stored. works: the memory worker runs."""
    bus, store, embedder = MemoryBus(MemoryBroker()), MemoryStore(), HashEmbedder(384)
    await bus.start()
    store.follow(bus.epoch)
    await store.project(99, 0, [Change(0, row) for row in stored_rows()])
    turns, worker = ScriptedTurns(bus), MemoryWorker(bus, store, embedder)
    await turns.start()
    if works:
        await worker.start()
    try:
        yield Parts(SETTINGS, bus, store, embedder)
    finally:
        await worker.stop()
        await turns.stop()
        await bus.stop()


def stored_rows() -> list[Any]:
    messages = (
        MessageRow(index=0, role="user", text="How warm is it in Bern and Rome?"),
        MessageRow(index=1, role="assistant", text='{"city":"Bern"}', kind="function_call", call_id="c1",
                   name="weather"),
        MessageRow(index=2, role="assistant", text='{"city":', kind="function_call", call_id="c2", name="weather"),
        MessageRow(index=3, role="tool", text='{"celsius":4}', kind="function_call_output", call_id="c1",
                   status="answered"),
        MessageRow(index=4, role="tool", text="", kind="function_call_output", call_id="c2", status="unanswered"),
        MessageRow(index=5, role="assistant", text="4 °C in Bern.", name="answer"),
    )  # fmt: skip
    record = TurnRecord(
        turn=TURN, conversation=CONVERSATION, tenant="acme", user="ada", begin_offset=0, end_offset=0,
        status="completed", reason="", routed=True, agent="guide", messages=messages, models=(), accepted_at_ms=AT_MS,
        ended_at_ms=AT_MS, previous_turn="", previous_offset=-1, event_id="", origin="client",
    )  # fmt: skip
    summary = MemoryRow(
        id="mem_sum", layer="episode", tenant="acme", user="ada", text="Ada travels a lot.", vector=[0.0] * 384,
        at_ms=AT_MS, conversation=CONVERSATION, valid_from_ms=AT_MS, subject=CONVERSATION, attribute=SUMMARY,
        value=f"{TURN}/rule", single=True,
    )  # fmt: skip
    theirs = MemoryRow(id="mem_eve", layer="fact", tenant="acme", user="eve", text="I like boats", vector=[0.0] * 384,
                       at_ms=AT_MS)  # fmt: skip
    seen = Observed(tenant="acme", user="ada", kind="skill", name="get_weather", taken=True, at_ms=AT_MS)
    opened = ConversationRow(conversation=CONVERSATION, tenant="acme", user="ada", created_at_ms=AT_MS)
    return [opened, record, summary, theirs, seen]


@pytest.fixture
def memory() -> Iterator[Memory]:
    with open_memory(SETTINGS, tenant="acme", user="ada", opening=parts) as opened:
        yield opened


def texts(items: Any) -> list[str]:
    return [item.value["text"] for item in items]


# LangGraph's store


def test_what_is_put_is_found_corrected_and_erased(memory: Memory) -> None:
    store = HeadstartStore(memory)
    store.put(MEMORIES, "town", {"text": "I live in Basel"})
    store.put(MEMORIES, "tea", {"text": "I drink green tea"})
    item = store.get(MEMORIES, "town")
    assert item is not None
    assert (item.key, item.namespace, item.value["text"], item.value["layer"]) == (
        "town", MEMORIES, "I live in Basel", "fact",
    )  # fmt: skip
    [best, *_] = store.search(MEMORIES, query="Where do I live?", limit=5)
    assert (best.value["text"], best.score is not None) == ("I live in Basel", True)
    store.put(MEMORIES, "town", {"text": "I live in Bern"})
    store.put(MEMORIES, "town", {"text": "I live in Chur"})
    corrected = store.get(MEMORIES, "town")
    assert corrected is not None
    assert corrected.value["text"] == "I live in Chur"
    assert sorted(texts(store.search(MEMORIES, filter={"layer": "fact"}))) == ["I drink green tea", "I live in Chur"]
    by_id = store.search(MEMORIES, query="live")[0].key
    assert store.get(MEMORIES, by_id) is not None
    store.delete(MEMORIES, "town")
    store.delete(MEMORIES, "town")
    assert store.get(MEMORIES, "town") is None
    store.put(MEMORIES, "town", {"text": "I live in Thun"})
    assert store.get(MEMORIES, "town") is not None, "it may be told again"


@pytest.mark.asyncio
async def test_an_asynchronous_agent_uses_it_from_its_own_loop(memory: Memory) -> None:
    store = HeadstartStore(memory, memories=("ada", "memories"))
    space = ("ada", "memories")
    await asyncio.gather(*(store.aput(space, f"k{number}", {"text": f"note number {number}"}) for number in range(4)))
    wanted = {"said_at_ms": {"$gt": 1}, "layer": "fact"}
    assert len(await store.asearch(("ada",), filter=wanted)) == 4
    assert len(await store.asearch(("ada",), filter=wanted, limit=2, offset=3)) == 1
    assert await store.asearch(("ada",), filter={"layer": {"$ne": "fact"}}, limit=1) != []
    assert await store.alist_namespaces() == [("ada", "memories"), ("habits",)]
    assert await store.alist_namespaces(prefix=("ada",)) == [("ada", "memories")]
    assert await store.alist_namespaces(suffix=("habits",), max_depth=1) == [("habits",)]
    assert await store.alist_namespaces(suffix=("*", "*", "*")) == []
    results = await store.abatch([GetOp(space, "k1"), PutOp(space, "k1", None), GetOp(space, "k1")])
    assert [result is not None for result in results] == [True, False, True], "reads see what was before the writes"
    assert await store.aget(space, "k1") is None


def test_habits_are_seen_corrected_and_erased(memory: Memory) -> None:
    store = HeadstartStore(memory)
    [habit] = store.search(("habits",))
    assert (habit.key, habit.value["taken"]) == (HABIT, 1)
    store.put(("habits",), HABIT, {"correction": "Only in summer.", "muted": True})
    changed = store.get(("habits",), HABIT)
    assert changed is not None
    assert (changed.value["text"], changed.value["muted"]) == ("Only in summer.", True)
    with pytest.raises(NotFound):
        store.put(("habits",), "habit_none", {"correction": "x"})
    with pytest.raises(InvalidInput):
        store.put(("habits",), HABIT, {"muted": "yes"})
    store.delete(("habits",), HABIT)
    assert store.search(("habits",)) == []


def test_nothing_of_others_is_seen_and_what_is_no_memory_is_refused(memory: Memory) -> None:
    store = HeadstartStore(memory)
    assert store.get(MEMORIES, "mem_eve") is None
    assert "I like boats" not in texts(store.search((), limit=100))
    store.delete(MEMORIES, "mem_eve")
    assert memory.run(memory.store.known_memories("acme", "eve", ["mem_eve"])) != []
    for value in ({"data": "x"}, {"text": ""}, {"text": 4}, {"text": "x" * 601}):
        with pytest.raises(InvalidInput) as refused:
            store.put(MEMORIES, "k", value)
        assert refused.value.code == "not_a_memory"
    with pytest.raises(InvalidInput, match="nothing can be put"):
        store.put(("elsewhere",), "k", {"text": "x"})
    assert store.get(("elsewhere",), "k") is None
    with pytest.raises(InvalidInput, match="a filter knows"):
        store.search(("habits",), filter={"taken": {"$near": 1}})


def test_a_write_that_nobody_applies_says_so() -> None:
    alone = open_memory(SETTINGS, tenant="acme", user="ada", opening=lambda: parts(works=False), wait_s=0.01)
    with alone as memory, pytest.raises(PeerTimeout):
        HeadstartStore(memory).put(MEMORIES, "k", {"text": "I live in Basel"})


class State(TypedDict):
    question: str
    answer: str


def test_a_graph_of_langgraph_remembers_across_runs(memory: Memory) -> None:
    def remember(state: State, store: BaseStore) -> dict[str, str]:
        if state["question"].startswith("I "):
            store.put(MEMORIES, "said", {"text": state["question"]})
            return {"answer": "Noted."}
        [best, *_] = store.search(MEMORIES, query=state["question"], filter={"layer": "fact"})
        return {"answer": str(best.value["text"])}

    builder = StateGraph(State)
    builder.add_node("remember", remember)
    builder.add_edge(START, "remember")
    builder.add_edge("remember", END)
    graph = builder.compile(store=HeadstartStore(memory))
    assert graph.invoke({"question": "I live in Basel", "answer": ""})["answer"] == "Noted."
    assert graph.invoke({"question": "Where do I live?", "answer": ""})["answer"] == "I live in Basel"


# LangChain's history


def test_a_conversation_is_its_messages_with_calls_and_results_paired(memory: Memory) -> None:
    messages = HeadstartChatMessageHistory(memory, CONVERSATION).messages
    assert [type(message) for message in messages] == [
        SystemMessage, HumanMessage, AIMessage, ToolMessage, ToolMessage, AIMessage,
    ]  # fmt: skip
    assert messages[0].text == "Earlier in this conversation: Ada travels a lot."
    calls = messages[2]
    assert isinstance(calls, AIMessage)
    assert [(call["name"], call["args"], call["id"]) for call in calls.tool_calls] == [
        ("weather", {"city": "Bern"}, "c1"), ("weather", {}, "c2"),
    ]  # fmt: skip
    results = [message for message in messages if isinstance(message, ToolMessage)]
    assert [(result.tool_call_id, result.status) for result in results] == [("c1", "success"), ("c2", "error")]
    assert messages[-1].text == "4 °C in Bern."


def test_a_conversation_of_somebody_else_is_not_found(memory: Memory) -> None:
    eve = Memory(memory._parts, memory._loop, "acme", "eve", 1.0)
    for conversation in (CONVERSATION, ids.conversation_id(2, 1, b"conversation")):
        with pytest.raises(NotFound):
            _ = HeadstartChatMessageHistory(eve, conversation).messages
        with pytest.raises(NotFound):
            HeadstartChatMessageHistory(eve, conversation).clear()
    with pytest.raises(InvalidInput):
        HeadstartChatMessageHistory(memory, "not an id")


@pytest.mark.filterwarnings("ignore:RunnableWithMessageHistory is deprecated")
def test_a_chain_with_history_goes_on_and_its_words_are_remembered(memory: Memory) -> None:
    seen: list[list[BaseMessage]] = []

    def model(value: Any) -> AIMessage:
        seen.append(value.to_messages())
        return AIMessage("Noted.")

    prompt = ChatPromptTemplate.from_messages([MessagesPlaceholder("history"), ("human", "{question}")])
    history = HeadstartChatMessageHistory(memory, CONVERSATION)
    chain = RunnableWithMessageHistory(
        prompt | RunnableLambda(model), lambda _: history, input_messages_key="question",
        history_messages_key="history",
    )  # fmt: skip
    config: Any = {"configurable": {"session_id": "s"}}
    chain.invoke({"question": "I am moving to Chur in May."}, config)
    chain.invoke({"question": "And now?"}, config)
    assert [message.text for message in seen[1]][-4:] == [
        "4 °C in Bern.", "I am moving to Chur in May.", "Noted.", "And now?",
    ]  # fmt: skip
    assert "I am moving to Chur in May." in texts(HeadstartStore(memory).search(MEMORIES, query="Chur"))


@pytest.mark.asyncio
async def test_a_cleared_history_is_a_deleted_conversation(memory: Memory) -> None:
    history = HeadstartChatMessageHistory(memory, CONVERSATION)
    assert len(await history.aget_messages()) == 6
    await history.aadd_messages([AIMessage("More.")])
    await history.aclear()
    assert await history.aget_messages() == []
    row = await memory.arun(memory.store.conversation(CONVERSATION))
    assert row is not None
    assert row.deleted


def test_nothing_else_imports_these_packages() -> None:
    code = (
        "import headstart.cli, headstart.client, gateway.server, workers.planning.owner, sys;"
        "assert not [name for name in sys.modules if name.partition('.')[0] in ('langchain_core', 'langgraph')]"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
