"""Ratings on their way: answered once, said again until then, and ended with their client."""

from __future__ import annotations

import asyncio

import pytest

from headstart.client_ratings import Ratings
from streams.errors import NotFound, Refused


def rating(event_id: str) -> dict[str, str]:
    return {"type": "headstart.feedback", "event_id": event_id, "response_id": "resp_1", "rating": "good"}


@pytest.mark.asyncio
async def test_an_answer_ends_the_rating_that_it_names() -> None:
    ratings = Ratings()
    first, second = ratings.add(rating("e1")), ratings.add(rating("e2"))
    assert [frame["event_id"] for frame in ratings] == ["e1", "e2"]
    assert not ratings.received({"type": "headstart.feedback.accepted", "event_id": "e9"})
    assert not ratings.received({"type": "response.created", "event_id": "e1"})
    assert not ratings.received({"type": "error", "event_id": None})
    assert ratings.received({"type": "headstart.feedback.accepted", "event_id": "e1"})
    refusal = {"type": "error", "event_id": "e2", "code": "response_not_found", "message": "no such response"}
    assert ratings.received(refusal)
    assert ratings.received(refusal), "said once more, it changes nothing"
    await first
    with pytest.raises(NotFound):
        await second
    assert list(ratings) == []


@pytest.mark.asyncio
async def test_a_client_that_ends_ends_what_waits_and_a_cancelled_rating_is_forgotten() -> None:
    ratings = Ratings()
    waiting, dropped = ratings.add(rating("e1")), ratings.add(rating("e2"))
    dropped.cancel()
    await asyncio.sleep(0)
    assert [frame["event_id"] for frame in ratings] == ["e1"]
    ratings.fail(Refused("the client was closed", code="client_closed"))
    with pytest.raises(Refused):
        await waiting
