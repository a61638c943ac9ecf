"""`headstart skill import` and its files: what is printed, written and refused. No broker is needed for that."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import orjson
import pytest
from typer.testing import CliRunner

from headstart.cli import app
from headstart.importing.choices import Choices
from headstart.importing.mcp_tools import import_tools
from headstart.mcp.host import reviewed_tools
from headstart.skill_commands import read_manifests
from streams.errors import InvalidInput, NotFound
from tests.support.lending import CONTRACT
from tests.support.mcp_servers import TIME

BOTH = ("--secret", "staff=a", "--secret", "partner=b")


def imported(*arguments: str) -> list[dict[str, Any]]:
    done = CliRunner().invoke(app, ["skill", "import", *arguments], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    found: list[dict[str, Any]] = orjson.loads(done.stdout)
    return found


def test_manifests_are_printed_with_their_versions_left_open() -> None:
    [one] = imported(str(CONTRACT), "--only", "getBook", "--prefix", "city", "--owner", "town", "--tenant", "acme")
    assert (one["name"], one["version"], one["owner"], one["tenants"]) == ("city_get_book", "", "town", ["acme"])


def test_every_choice_arrives() -> None:
    arguments = (
        "--only", "removeBook", "--name", "removeBook=drop_book", "--approval", "*", "--server", "http://127.0.0.1:9",
        "--context", "--timeout-ms", "7", "--no-returns",
    )  # fmt: skip
    [one] = imported(str(CONTRACT), *arguments)
    assert (one["name"], one["approval"], one["timeout_ms"]) == ("drop_book", True, 7)
    assert (one["hosts"], one["http"]["context"]) == (["127.0.0.1:9"], True)
    [pure] = imported(str(CONTRACT), "--only", "removeBook", "--effect", "remove_*=reversible:add_book")
    assert (pure["effect"], pure["compensate"], pure["fire_on"]) == ("reversible", "add_book", ["isbn"])


def test_what_was_reviewed_is_read_again(tmp_path: Path) -> None:
    file = tmp_path / "library.json"
    done = CliRunner().invoke(app, ["skill", "import", str(CONTRACT), *BOTH, "--out", str(file)])
    assert (done.exit_code, done.stdout) == (0, f"20 skills in {file}\n")
    before = read_manifests(file)
    assert len(before) == 20
    changed = orjson.loads(file.read_bytes())
    changed[0]["description"] = "Lists what there is to read."
    file.write_bytes(orjson.dumps(changed))
    after = read_manifests(file)
    assert after[0].version != before[0].version
    assert after[1:] == before[1:]


@pytest.mark.parametrize("text", ["{", "{}", '[{"name": "x"}]'])
def test_files_that_hold_no_manifests(text: str, tmp_path: Path) -> None:
    file = tmp_path / "x.json"
    file.write_text(text)
    with pytest.raises(InvalidInput):
        read_manifests(file)
    with pytest.raises(NotFound):
        read_manifests(tmp_path / "gone.json")


def test_a_reviewed_manifest_that_breaks_a_rule_is_refused(tmp_path: Path) -> None:
    [one] = imported(str(CONTRACT), "--only", "getBook")
    file = tmp_path / "x.json"
    file.write_bytes(orjson.dumps([one | {"hosts": ["elsewhere.example:443"]}]))
    with pytest.raises(InvalidInput, match="hosts"):
        read_manifests(file)


REFUSED: list[tuple[tuple[str, ...], str]] = [
    ((str(CONTRACT),), "2 of 20 cannot be skills as they are:\n  announce: it asks for staff"),
    ((str(CONTRACT), "--effect", "getBook"), "wants LEFT=RIGHT"),
    ((str(CONTRACT), "--effect", "*=harmless"), "is no effect"),
    (("x", "--mcp", "--register"), "registered by the service that serves them"),
    (("/nowhere/openapi.json",), "cannot be read"),
    (("http://127.0.0.1:9/mcp", "--mcp", "--token", "NO_SUCH_VARIABLE"), "NO_SUCH_VARIABLE is not set"),
]


@pytest.mark.parametrize(("arguments", "said"), REFUSED)
def test_what_is_refused(arguments: tuple[str, ...], said: str) -> None:
    done = CliRunner().invoke(app, ["skill", "import", *arguments])
    assert said in str(done.exception)
    assert done.stdout == ""


def test_what_cannot_be_converted_may_be_skipped() -> None:
    done = CliRunner().invoke(app, ["skill", "import", str(CONTRACT), "--skip"])
    assert done.exit_code == 0
    assert "left out: statistics: it asks for partner" in done.stderr
    assert len(orjson.loads(done.stdout)) == 18


def test_a_servers_tools_are_imported_by_its_command() -> None:
    found = imported(TIME, "--mcp", "--only", "convert_time", "--owner", "clock")
    assert [(one["name"], one["owner"], one["bus"]) for one in found] == [("convert_time", "clock", True)]


def test_tools_are_served_as_they_were_reviewed() -> None:
    schema = {"type": "object", "properties": {"a-b": {}}}
    tools, _ = import_tools(
        [{"name": "look", "inputSchema": schema}, {"name": "other", "inputSchema": schema}], Choices()
    )
    manifest = msgspec.structs.replace(tools[0].manifest, effect="pure", description="Looks again.")
    [one] = reviewed_tools(tools, [manifest])
    assert (one.manifest.description, one.tool, one.arguments) == ("Looks again.", "look", {"a_b": "a-b"})
    parameters = {"type": "object", "properties": {"c": {}}}
    for wrong in (
        msgspec.structs.replace(manifest, name="gone"), msgspec.structs.replace(manifest, parameters=parameters),
    ):  # fmt: skip
        with pytest.raises(InvalidInput) as caught:
            reviewed_tools(tools, [wrong])
        assert caught.value.code == "unknown_tool"
    with pytest.raises(InvalidInput, match="one owner"):
        reviewed_tools(tools, [manifest, msgspec.structs.replace(tools[1].manifest, owner="else")])
