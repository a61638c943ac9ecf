"""Python's cyclic garbage collector in a process that answers within milliseconds.

Modules, agents, prompts and parsers' tables are about a hundred thousand objects that live as long as the process. A
full collection walks all of them, 20 to 100 ms during which nothing is fired and nothing is sent. They are taken out of
its sight once, when everything is loaded; what turns make afterwards is collected as ever.
"""

from __future__ import annotations

import atexit
import gc


def keep_what_is_loaded() -> None:
    """Frees what is garbage by now and never looks at the rest again. Call it when the process is ready; again after
    more was loaded for good. Takes as long as one full collection. When the interpreter ends all is in sight again:
    libraries tell what was not freed by then as a leak."""
    gc.collect()
    gc.freeze()
    atexit.unregister(gc.unfreeze)  # once is enough
    atexit.register(gc.unfreeze)
