"""What is loaded is out of the collector's sight, and what comes later is not."""

from __future__ import annotations

import gc
import weakref

from streams.collector import keep_what_is_loaded


class Knot:
    """An object that only the cyclic collector can free."""

    def __init__(self) -> None:
        self.itself = self


def test_what_is_loaded_is_walked_no_more_and_what_comes_later_is_still_freed() -> None:
    kept = Knot()
    try:
        keep_what_is_loaded()
        assert gc.get_freeze_count() > 1_000
        assert not any(one is kept for one in gc.get_objects())
        later = weakref.ref(Knot())
        gc.collect()
        assert later() is None
    finally:
        gc.unfreeze()
    assert any(one is kept for one in gc.get_objects())
