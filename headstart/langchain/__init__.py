"""Headstart's memory in LangChain's and LangGraph's own types, so that agents built with those can use it.

    with open_memory(Settings.from_env(os.environ), tenant="acme", user="ada") as memory:
        graph = builder.compile(store=HeadstartStore(memory))                  # LangGraph: remembered facts, habits
        history = HeadstartChatMessageHistory(memory, "conv_…")                # LangChain: what was said

An agent in the same installation reads Postgres, by the same recall as a turn's, and writes over the bus, where what it
says becomes a fact of the log like anybody's. `memory` belongs to one member: nothing of another tenant or user is seen
or changed through it. Needs the extra `langchain`; nothing else of Headstart imports these packages.
"""

from __future__ import annotations

from headstart.langchain.history import HeadstartChatMessageHistory
from headstart.langchain.opening import Memory, open_memory
from headstart.langchain.store import HeadstartStore

__all__ = ["HeadstartChatMessageHistory", "HeadstartStore", "Memory", "open_memory"]
