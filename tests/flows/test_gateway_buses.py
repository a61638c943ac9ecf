"""The gateway on every bus there is: the same turn, the same bytes on another gateway."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.buses import KINDS, open_buses
from tests.support.gateways import Rig, of_log, text_of
from tests.support.turn_script import journey

PIECES = [f"piece {number} " for number in range(12)]


@pytest.mark.asyncio
@pytest.mark.parametrize("kind", KINDS)
async def test_turns_and_resume(kind: str, tmp_path: Path) -> None:
    async with open_buses(kind, tmp_path) as open_bus, Rig(lambda _: journey(PIECES, hold_after=5), open_bus) as rig:
        one, two = await rig.gateway("one"), await rig.gateway("two")
        async with rig.socket(one) as first, rig.socket(two) as second:
            await first.create("go")
            frames = await first.until("response.output_text.delta")
            conversation = frames[0]["conversation"]
            await second.send({"type": "session.attach", "conversation": conversation, "after": "start"})
            await second.until("session.live")
            rig.turns.release("answer")
            frames += await first.until_end()
            await second.until_end()
            assert text_of(frames) == "".join(PIECES)
            assert of_log(first.raw) == of_log(second.raw)
            await second.create("again", conversation=conversation)
            again = await second.until_end()
            assert text_of(again) == "".join(PIECES)
        async with rig.socket(two, query=f"?after={frames[2]['cursor']}") as third:
            await third.until_end()
            await third.until_end()
        assert of_log(third.raw) == of_log(second.raw)[2:]
        got = await rig.openai(one).responses.retrieve(again[-1]["response"]["id"])
        assert got.output_text == "".join(PIECES)
