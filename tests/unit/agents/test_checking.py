"""`headstart agents check`: whatever can be wrong with an agent's folder is named with its file and a way out."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from headstart.cli import app
from headstart.demo.notebook import Ledger
from headstart.demo_service import demo_service
from streams.errors import Misconfigured
from streams.settings import Settings
from tests.bench.routing.labelled import write_folders
from workers.agents.catalog import OUT_OF_SCOPE, SHIPPED, load_all
from workers.agents.checking import Problem, check, check_folder
from workers.agents.folders import roots

MODELS = {"default", "large"}
SKILLS = {"search_people", "search_jobs", "get_weather", "schedule_interview", "send_message"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A right agent: a copy of a shipped one."""
    made = tmp_path / "agents" / "recruiter"
    shutil.copytree(SHIPPED / "recruiter", made)
    assert check_folder(made, MODELS, SKILLS) == []
    return made


def add(name: str, text: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_text((folder / name).read_text() + text)


def put(name: str, text: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_text(text)


def change(name: str, old: str, new: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_text((folder / name).read_text().replace(old, new))


def remove(name: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).unlink()


def no_plan(folder: Path) -> None:
    remove("plan.jinja")(folder)
    change("agent.toml", "[plan]\nmax_tokens = 120\n", "")(folder)


ASK = "@user\n{{ question }}\n"
BREAKS: dict[str, tuple[Callable[[Path], object], str, str]] = {
    # what is done: (how, the file that is named, a word of what is said)
    "no table": (remove("agent.toml"), "agent.toml", "can not be read"),
    "no TOML": (add("agent.toml", "\nskills = ["), "agent.toml", "can not be read"),
    "an unknown field": (change("agent.toml", "max_calls", "max_call"), "agent.toml", "max_call"),
    "a field of the wrong type": (change("agent.toml", "max_calls = 3", 'max_calls = "3"'), "agent.toml", "max_calls"),
    "an unknown field of a step": (add("agent.toml", "\nheat = 1.0\n"), "agent.toml", "[answer]"),
    "an unknown model": (add("agent.toml", '\nmodel = "huge"\n'), "agent.toml", "'huge'"),
    "no tokens": (change("agent.toml", "max_tokens = 120", "max_tokens = 0"), "agent.toml", "max_tokens is 0"),
    "no time": (
        put("agent.toml", 'description = "d"\nskills = ["get_weather"]\ndeadline_ms = 0\n'),
        "agent.toml",
        "deadline_ms",
    ),
    "no description": (put("agent.toml", 'description = " "\nskills = ["get_weather"]\n'), "agent.toml", "empty"),
    "an unknown skill": (change("agent.toml", '"get_weather"', '"get_wether"'), "agent.toml", "'get_wether'"),
    "a plan without skills": (put("agent.toml", 'description = "d"\n'), "agent.toml", "no skills"),
    "a table of a plan that is not there": (remove("plan.jinja"), "plan.jinja", "[plan]"),
    "skills without a plan": (no_plan, "agent.toml", "no plan.jinja"),
    "an unknown check": (
        put("agent.toml", 'description = "d"\nskills = ["*"]\nchecks = ["spelling"]\n'),
        "agent.toml",
        "spelling",
    ),
    "no answer": (remove("answer.jinja"), "answer.jinja", "missing"),
    "no template": (add("answer.jinja", "{% if %}"), "answer.jinja", "answer"),
    "an unknown variable": (add("answer.jinja", "{{ wether }}"), "answer.jinja", "wether"),
    "an attribute that is not there": (
        put("answer.jinja", "@user\n{{ question }} {{ results[0].value }}\n"),
        "answer.jinja",
        "value",
    ),
    "a template that fails on nothing": (
        put("answer.jinja", "@user\n{{ question }} {{ results[0].skill }}\n"),
        "answer.jinja",
        "0",
    ),
    "an operation that fails": (put("answer.jinja", "@user\n{{ question + 1 }}\n"), "answer.jinja", "does not render"),
    "no message": (put("answer.jinja", "{{ question }}\n"), "answer.jinja", "opens no message"),
    "no question": (put("answer.jinja", "@user\nHello\n"), "answer.jinja", "does not show the question"),
    "the assistant's last word": (put("answer.jinja", ASK + "@assistant\nWell:\n"), "answer.jinja", "last message"),
    "no utterances": (remove("utterances.txt"), "utterances.txt", "missing"),
    "too few utterances": (put("utterances.txt", "# one\nFind nurses\n"), "utterances.txt", "1 utterances"),
    "the same twice": (add("utterances.txt", "\nfind plumbers in  Chicago.\n"), "utterances.txt", "2 times"),
    "no rubric": (remove("rubric.md"), "rubric.md", "missing or empty"),
    "an empty rubric": (put("rubric.md", "\n"), "rubric.md", "missing or empty"),
    "a misspelt file": (put("answers.jinja", ASK), "answers.jinja", "no such file"),
}


@pytest.mark.parametrize("name", BREAKS)
def test_each_break_is_named_with_its_file_and_a_way_out(folder: Path, name: str) -> None:
    do, file, word = BREAKS[name]
    do(folder)
    problems = check_folder(folder, MODELS, SKILLS)
    assert any(word in problem.what for problem in problems), problems
    assert {problem.file for problem in problems} == {folder / file}
    assert all(problem.do and str(problem).startswith(f"{folder / file}: ") for problem in problems)


def test_everything_is_said_at_once(folder: Path) -> None:
    for name in ("an unknown model", "an unknown skill", "no rubric", "too few utterances", "no question"):
        BREAKS[name][0](folder)
    assert {problem.file.name for problem in check_folder(folder, MODELS, SKILLS)} == {
        "agent.toml", "rubric.md", "utterances.txt", "answer.jinja",
    }  # fmt: skip
    said = "\n".join(map(str, check_folder(folder, MODELS, SKILLS)))
    for word in ("'huge'", "'get_wether'", "missing or empty", "1 utterances", "does not show the question"):
        assert word in said


def test_an_unknown_skill_is_nobodys_fault_where_nobody_knows(folder: Path) -> None:
    BREAKS["an unknown skill"][0](folder)
    assert check_folder(folder, MODELS, None) == []
    change("agent.toml", '"get_wether"', '"get_*"')(folder)
    assert check_folder(folder, MODELS, SKILLS) == []
    [nothing] = check_folder(folder, MODELS, {"search_people", "search_jobs", "schedule_interview", "send_message"})
    assert "'get_*'" in nothing.what


def test_agents_side_by_side(tmp_path: Path) -> None:
    first = tmp_path / "first"
    shutil.copytree(SHIPPED, first, ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    assert check([first], MODELS, None) == []
    second = tmp_path / "second"
    shutil.copytree(first / "desk", second / "calculator")
    shutil.copytree(first / "companion", second / "Companion 2")
    put("utterances.txt", "One\nTwo\nThree\nFour\nwhat is the square of 12\n")(second / "calculator")
    put("utterances.txt", "Five\nSix\nSeven\nEight\nNine\n")(second / "Companion 2")
    shutil.copytree(second / "Companion 2", second / "companion")
    put("utterances.txt", "Ten\nEleven\nTwelve\nThirteen\nFourteen\n")(second / "companion")
    said = [str(problem) for problem in check([first, second], MODELS, None)]
    assert [line for line in said if "square of 12" in line and str(first / "desk") in line] != []
    assert [line for line in said if "small letters" in line] != []
    assert len([line for line in said if "another agent is named 'companion' too" in line]) == 2
    assert len(said) == 4
    shutil.rmtree(first / OUT_OF_SCOPE)
    assert any("no agent is named 'out_of_scope'" in str(problem) for problem in check([first], MODELS, None))


def test_the_shipped_agents_and_the_benchmarks_are_right(tmp_path: Path) -> None:
    offered = {manifest.name for manifest in demo_service(Settings.from_env({}), Ledger()).manifests()}
    assert check([SHIPPED], {"default"}, offered) == []
    assert len(write_folders(tmp_path)) == 14
    assert check([SHIPPED, tmp_path], {"default"}, None) == []


def test_the_command(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HEADSTART_KAFKA", raising=False)
    folder = folder.rename(folder.with_name("talent_scout"))
    put("utterances.txt", "Scout talents\nFind a rare talent\nA\nB\nC\n")(folder)
    run = CliRunner().invoke(app, ["agents", "check", "--agents", str(folder.parent)])
    assert run.exit_code == 0, run.output
    assert "5 agents are right" in run.output
    assert "talent_scout" in run.output
    assert "HEADSTART_KAFKA" in run.output
    BREAKS["no rubric"][0](folder)
    BREAKS["an unknown model"][0](folder)
    run = CliRunner().invoke(app, ["agents", "check", "--agents", str(folder.parent)])
    assert run.exit_code == 1
    assert f"{folder / 'rubric.md'}: it is missing or empty; say what" in run.output
    assert "2 things are wrong" in run.output
    assert "talent_scout" in CliRunner().invoke(app, ["agents", "list", "--agents", str(folder.parent)]).output


def test_a_problem_reads_as_a_sentence() -> None:
    assert str(Problem(Path("a/b"), "it is wrong", "mend it")) == "a/b: it is wrong; mend it"


def test_the_setting_adds_a_folder(folder: Path, tmp_path: Path) -> None:
    settings = Settings.from_env({"HEADSTART_AGENTS": str(folder.rename(folder.with_name("scout")).parent)})
    assert set(load_all(roots(settings))) == {*load_all(), "scout"}
    assert roots(Settings.from_env({})) == [SHIPPED]
    with pytest.raises(Misconfigured, match="no agent in"):
        roots(Settings.from_env({"HEADSTART_AGENTS": str(tmp_path / "nowhere")}))
