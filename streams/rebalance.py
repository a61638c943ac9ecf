"""What a group's member says when a callback of its rebalance raises: the rebalance itself goes on."""

from __future__ import annotations

import logging

from streams.errors import PeerError

log = logging.getLogger(__name__)


def callback_failed(callback: str, group: str, error: Exception) -> None:
    """One line for a peer that is away, which whoever reads the group makes good by its next step; the whole stack for
    a defect."""
    log.error("%s of group %s: %s", callback, group, error, exc_info=None if isinstance(error, PeerError) else error)
