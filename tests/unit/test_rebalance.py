from __future__ import annotations

import logging

import pytest

from streams.errors import PeerUnavailable
from streams.rebalance import callback_failed


def test_a_peer_that_is_away_is_one_line_and_a_defect_its_whole_stack(caplog: pytest.LogCaptureFixture) -> None:
    for error in (PeerUnavailable("the broker does not say its offsets"), KeyError("a defect")):
        try:
            raise error
        except Exception as caught:
            callback_failed("on_assigned", "memory", caught)
    away, defect = caplog.records
    assert away.levelno == defect.levelno == logging.ERROR
    assert away.getMessage().startswith("on_assigned of group memory: the broker does not say its offsets")
    assert away.exc_info is None
    assert defect.exc_info is not None
