"""An agent's policy for services' facts, as its folder says it."""

from __future__ import annotations

from pathlib import Path

import pytest

from streams.errors import Misconfigured
from workers.agents.catalog import Agent, load, load_all
from workers.agents.checking import check_folder
from workers.agents.on_fact import policy_of

TOML = 'description = "d"\n'
ANSWER = "@user\n{{ question }}\n{% for fact in facts %}{{ fact.kind }}: {{ fact.text }}{% endfor %}\n"


def agent(folder: Path, toml: str, answer: str = ANSWER) -> Agent:
    (folder / "agent.toml").write_text(TOML + toml)
    (folder / "answer.jinja").write_text(answer)
    (folder / "utterances.txt").write_text("Hello\n")
    return load(folder)


def test_the_longest_pattern_counts_and_the_kind_itself_most(tmp_path: Path) -> None:
    table = '"job.*" = "tell"\n"job.closed.*" = "ignore"\n"job.closed.now" = "steer"\ndefault = "open"\n'
    made = agent(tmp_path, f"[on_fact]\n{table}")
    found = {kind: policy_of(made.on_fact, kind) for kind in ("job.new", "job.closed.x", "job.closed.now", "default")}
    assert found == {"job.new": "tell", "job.closed.x": "ignore", "job.closed.now": "steer", "default": "open"}
    assert policy_of(agent(tmp_path, 'on_fact = "tell"').on_fact, "anything") == "tell"
    assert policy_of(agent(tmp_path, '[on_fact]\n"job.*" = "tell"').on_fact, "payment") == "remember"
    assert policy_of(agent(tmp_path, "").on_fact, "payment") == "remember"


@pytest.mark.parametrize("toml", ['on_fact = "shout"', '[on_fact]\n"job.*" = "shout"', "[on_fact]\ndefault = 3"])
def test_an_unknown_policy_is_refused_with_its_place(tmp_path: Path, toml: str) -> None:
    with pytest.raises(Misconfigured, match=r"agent\.toml.*on_fact"):
        agent(tmp_path, toml)


def wrong(folder: Path) -> list[str]:
    """What the check says of the policies of an agent's folder."""
    return [str(found) for found in check_folder(folder, {"default"}, None) if "fact" in found.what]


def test_check_names_wrong_patterns_and_prompts_that_would_not_tell(tmp_path: Path) -> None:
    _ = agent(tmp_path, '[on_fact]\n"job.*" = "tell"')
    assert wrong(tmp_path) == []
    _ = agent(tmp_path, '[on_fact]\n"*.job" = "ignore"')
    [said] = wrong(tmp_path)
    assert "'*.job'" in said
    silent = "@user\n{{ question }}\n"
    for policy in ("tell", "steer", "open"):
        _ = agent(tmp_path, f'[on_fact]\n"job" = "{policy}"', silent)
        [said] = wrong(tmp_path)
        assert "answer.jinja" in said
    _ = agent(tmp_path, 'on_fact = "ignore"', silent)
    assert wrong(tmp_path) == []


def test_the_shipped_agents_show_facts() -> None:
    for shipped in load_all().values():
        assert "facts" in shipped.answer.prompt.variables
        assert shipped.plan is None or "facts" in shipped.plan.prompt.variables
