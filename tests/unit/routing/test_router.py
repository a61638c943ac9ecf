"""The router on vectors made by hand and on the hash embedder: who wins, when it is unsure, what gives way."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy
import pytest

from memory.embed import HashEmbedder
from workers.agents.catalog import OUT_OF_SCOPE, load_all
from workers.routing.examples import Example, embedded
from workers.routing.router import GIVES_WAY, RIDGE, WORDS_SHARE, Router
from workers.routing.words import Words, features


def direction(degrees: float) -> list[float]:
    return [math.cos(math.radians(degrees)), math.sin(math.radians(degrees)), 0.0]


def said(*degrees: float) -> list[Example]:
    """Examples that differ by their vectors alone."""
    return [Example("", direction(angle)) for angle in degrees]


THREE = {"desk": said(0, 10, 20), "recruiter": said(80, 90, 100), OUT_OF_SCOPE: said(170, 180, 190)}


@pytest.mark.parametrize(("angle", "agent"), [(5, "desk"), (35, "desk"), (95, "recruiter"), (70, "recruiter")])
def test_the_agent_whose_examples_are_near_takes_the_turn(angle: float, agent: str) -> None:
    route = Router(THREE).route("", direction(angle))
    assert (route.agent, route.verdict) == (agent, "sure")
    assert route.scores[0].agent == agent
    assert [row.score for row in route.scores] == sorted((row.score for row in route.scores), reverse=True)
    assert {row.agent for row in route.scores} == set(THREE)


def test_nobody_takes_what_is_like_the_examples_of_nobody() -> None:
    route = Router(THREE).route("", direction(185))
    assert route.verdict == "out_of_scope"
    assert route.scores[0].agent == OUT_OF_SCOPE
    assert route.agent == route.scores[1].agent, "the best of the agents, though the verdict is against it"


def test_between_two_agents_it_is_unsure() -> None:
    route = Router(THREE).route("", direction(50))
    assert route.verdict == "unsure"
    assert {row.agent for row in route.scores[:2]} == {"desk", "recruiter"}


def test_of_equally_near_agents_the_usual_one_takes_the_turn() -> None:
    router, between = Router(THREE), direction(50)
    for usual in ("desk", "recruiter"):
        route = router.route("", between, {usual: 0.7})
        assert (route.agent, route.verdict) == (usual, "sure")
    assert router.route("", between, {"desk": 0.5, "recruiter": 0.5}).verdict == "unsure"
    assert router.route("", direction(0), {"recruiter": 1.0}).agent == "desk", "a habit does not take what is not near"
    assert router.route("", direction(185), {"desk": 1.0}).verdict == "out_of_scope"


def test_words_tell_apart_what_the_vectors_do_not() -> None:
    same = direction(0)
    router = Router({
        "desk": [Example("note the milk", same), Example("note the door code", same)],
        "recruiter": [Example("find the nurses", same), Example("find the cooks", same)],
    })  # fmt: skip
    assert router.route("please note the number", same).agent == "desk"
    assert router.route("find the bakers", same).agent == "recruiter"


def test_an_example_of_nobody_gives_way_to_an_agent_that_says_the_same() -> None:
    examples = {"desk": said(0, 20), "translator": said(90, 100), OUT_OF_SCOPE: said(92, 180, 190)}
    assert math.cos(math.radians(2)) > GIVES_WAY
    with_it = Router(examples).route("", direction(92))
    without = Router({**examples, OUT_OF_SCOPE: said(180, 190)}).route("", direction(92))
    assert with_it == without
    assert with_it.agent == "translator"


def test_no_agents_and_one_agent() -> None:
    assert Router({}).route("x", direction(0)).verdict == "out_of_scope"
    assert Router({OUT_OF_SCOPE: said(0)}).route("x", direction(0)).agent == ""
    alone = Router({"desk": said(0, 10)}).route("x", direction(5))
    assert (alone.agent, alone.verdict) == ("desk", "sure")


def test_left_out_scores_are_those_of_a_router_without_the_example() -> None:
    """The closed form against fitting anew, on the regression itself: ten examples, each left out once."""
    chance = numpy.random.default_rng(3)
    vectors = chance.normal(size=(10, 6))
    vectors /= numpy.linalg.norm(vectors, axis=1)[:, None]
    targets = numpy.eye(3)[[0, 0, 0, 1, 1, 1, 1, 2, 2, 2]]

    def weights(rows: Sequence[int]) -> numpy.ndarray:
        kept = vectors[rows]
        kernel = numpy.exp(kept @ kept.T - 1) + RIDGE * numpy.eye(len(rows))
        return numpy.linalg.inv(kernel) @ targets[rows]

    every = list(range(10))
    inverse = numpy.linalg.inv(numpy.exp(vectors @ vectors.T - 1) + RIDGE * numpy.eye(10))
    closed = targets - (inverse @ targets) / numpy.diag(inverse)[:, None]
    for left in every:
        rows = [row for row in every if row != left]
        anew = numpy.exp(vectors[rows] @ vectors[left] - 1) @ weights(rows)
        assert numpy.allclose(anew, closed[left])


def test_likeness_of_words() -> None:
    assert features("Note 12, note 7!") == {"note": 2, "0": 2, "note 0": 2, "0 note": 1, "^note": 1}
    words = Words(["take a note", "find a nurse", ""])
    near = words.likeness("Take a note")
    assert near[0] == pytest.approx(1.0)
    assert 0 < near[1] < near[0]
    assert near[2] == 0
    assert not words.likeness("Ünbekannt").any()
    assert not words.likeness("").any()
    assert 0 < WORDS_SHARE < 1


@pytest.mark.asyncio
async def test_examples_are_every_agents_utterances_in_their_order() -> None:
    agents = load_all()
    table = await embedded(HashEmbedder(), agents)
    assert {name: [row.text for row in rows] for name, rows in table.items()} == {
        name: list(agent.utterances) for name, agent in agents.items()
    }
    [vector] = await HashEmbedder().embed([agents["desk"].utterances[3]])
    assert table["desk"][3].vector == vector
