"""The demo skill service: real HTTP, real data, its own process. `python -m headstart.demo_service`.

| skill | effect | enforces the key |
|---|---|---|
| search_people, search_jobs, get_weather, calculate, list_notes | pure | |
| save_note, undone by delete_note | reversible | yes |
| delete_note | irreversible | yes |
| schedule_interview | irreversible | no |
| send_message | irreversible, asks for approval | no |

`GET /ledger` tells which requests arrived and what was done. HEADSTART_DEMO_DELAY_MS makes every skill slow.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Any, Protocol

import msgspec
from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from headstart.demo import people
from headstart.demo.calculator import calculate as value_of
from headstart.demo.cities import find_city
from headstart.demo.notebook import Arrival, Ledger
from headstart.demo.weather import weather_of
from headstart.service import Caller, F, Service, wall_clock_ms
from memory.opening import open_bus
from streams.errors import InvalidInput
from streams.process import Running, run_process
from streams.settings import Settings
from workers.skills.manifest import MAX_TIMEOUT_MS

log = logging.getLogger("headstart.demo")
OWNER = "demo"
TIMEOUT_MS = 10_000  # and as much more as HEADSTART_DEMO_DELAY_MS makes them slow


class Declare(Protocol):
    """Service.skill, with what all skills of the demo have in common."""

    def __call__(self, **declared: Any) -> Callable[[F], F]: ...


Title = Annotated[str, Field(description="job title, such as data engineer", min_length=1, max_length=60)]
Location = Annotated[str, Field(description="city or country", max_length=60)]
Limit = Annotated[int, Field(description="how many to give", ge=1, le=10)]
CityName = Annotated[str, Field(description="city", min_length=1, max_length=60)]
Expression = Annotated[str, Field(description="such as 12 * (3 + 4)", min_length=1, max_length=200)]
NoteText = Annotated[str, Field(description="what to remember", min_length=1, max_length=500)]
Recipient = Annotated[str, Field(description="name of the person", min_length=1, max_length=80)]
MessageText = Annotated[str, Field(description="the whole message", min_length=1, max_length=500)]
Day = Annotated[str, Field(description="today, tomorrow or YYYY-MM-DD", max_length=10)]


@dataclass
class FoundPerson:
    id: int
    name: str
    title: str
    city: str
    skills: list[str]
    years: int


@dataclass
class People:
    people: list[FoundPerson]
    total: int


@dataclass
class FoundJob:
    id: int
    title: str
    company: str
    city: str
    salary_eur: int
    remote: bool


@dataclass
class Jobs:
    jobs: list[FoundJob]
    total: int


@dataclass
class DayWeather:
    city: str
    day: str
    sky: str
    mean_c: float
    low_c: float
    high_c: float
    daylight_hours: float


@dataclass
class Value:
    expression: str
    value: int | float


@dataclass
class Note:
    note_id: int
    text: str


@dataclass
class Done:
    id: int
    done: str


def day_of(text: str, today: date) -> date:
    """A day a person names. Raises InvalidInput (`invalid_day`)."""
    named = {"": 0, "today": 0, "tomorrow": 1}
    if text.casefold() in named:
        return today + timedelta(days=named[text.casefold()])
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        raise InvalidInput("a day is today, tomorrow or YYYY-MM-DD", code="invalid_day") from error


def demo_service(settings: Settings, ledger: Ledger) -> Service:
    """The service with its skills, not started. Effects and arrivals go to `ledger`."""

    async def before(skill: str, key: str, caller: Caller) -> None:
        ledger.arrived(Arrival(skill, key, caller.turn, caller.call, caller.claim, wall_clock_ms()))
        if settings.demo_delay_ms:
            await asyncio.sleep(settings.demo_delay_ms / 1000)

    async def show_ledger(request: Request) -> Response:
        shown = {"counts": ledger.counts(), "arrivals": ledger.arrivals, "effects": ledger.effects}
        return Response(msgspec.json.encode(shown), media_type="application/json")

    service = Service(
        OWNER, host=settings.demo_host, port=settings.demo_port, url=settings.demo_url or "",
        signing_key=settings.signing_key, routes=[Route("/ledger", show_ledger)], before=before,
    )  # fmt: skip
    skill = functools.partial(service.skill, timeout_ms=min(TIMEOUT_MS + settings.demo_delay_ms, MAX_TIMEOUT_MS))
    _searches(skill)
    _reckoning(skill)
    _effects(skill, ledger)
    return service


def _searches(skill: Declare) -> None:
    @skill(examples=("data engineers in Berlin", "find a product designer in Paris", "who knows Kafka"))
    async def search_people(title: Title, location: Location, limit: Limit = 3) -> People:
        """Finds people by job title and location."""
        found = people.search_people(title, location)
        shown = [FoundPerson(p.id, p.name, p.title, p.city, list(p.skills), p.years) for p in found[:limit]]
        return People(shown, len(found))

    @skill(examples=("backend engineer jobs in London", "open positions in Madrid", "senior data jobs"))
    async def search_jobs(title: Title, location: Location, limit: Limit = 3) -> Jobs:
        """Finds open jobs by title and location."""
        found = people.search_jobs(title, location)
        shown = [
            FoundJob(j.id, f"{j.level} {j.title}".strip(), j.company, j.city, j.salary_eur, j.remote)
            for j in found[:limit]
        ]
        return Jobs(shown, len(found))


def _reckoning(skill: Declare) -> None:
    @skill(examples=("weather in Paris", "will it be sunny in Madrid tomorrow", "how warm is it in Toronto"))
    async def get_weather(city: CityName, day: Day = "today") -> DayWeather:
        """Tells the weather of a city on a day."""
        found = weather_of(find_city(city), day_of(day, datetime.now(UTC).date()))
        return DayWeather(**msgspec.structs.asdict(found))

    @skill(examples=("what is 12 times 7", "calculate 15% of 80", "square root of 2"))
    async def calculate(expression: Expression) -> Value:
        """Works out an arithmetic expression."""
        value = value_of(expression)
        return Value(expression, int(value) if value.is_integer() and abs(value) < 1e15 else value)


def _effects(skill: Declare, ledger: Ledger) -> None:
    @skill(
        effect="reversible", compensate="delete_note", idempotent_key=True,
        examples=("note that the meeting is on Monday", "remember to buy milk", "write down this idea"),
    )  # fmt: skip
    async def save_note(text: NoteText, caller: Caller) -> Note:
        """Saves a note for the member."""
        return Note(ledger.save_note(caller.tenant, caller.user, text), text)

    @skill(effect="irreversible", idempotent_key=True, examples=("delete note 3", "forget my last note"))
    async def delete_note(note_id: Annotated[int, Field(description="id of the note", ge=1)], caller: Caller) -> Done:
        """Deletes one of the member's notes."""
        ledger.delete_note(caller.tenant, caller.user, note_id)
        return Done(note_id, "deleted")

    @skill(examples=("show my notes", "what did I write down"))
    async def list_notes(caller: Caller) -> list[Note]:
        """Lists the member's notes."""
        return [Note(number, text) for number, text in ledger.notes(caller.tenant, caller.user).items()]

    @skill(
        effect="irreversible",
        examples=(
            "schedule an interview with Ada Adler tomorrow", "find a candidate and schedule an interview",
            "set up an interview on Monday",
        ),
    )  # fmt: skip
    async def schedule_interview(person: Recipient, day: Day, caller: Caller) -> Done:
        """Schedules an interview with a person."""
        on = day_of(day, datetime.now(UTC).date()).isoformat()
        detail = {"person": person, "day": on}
        return Done(ledger.done("schedule_interview", detail, caller.tenant, caller.user), "scheduled")

    @skill(
        effect="irreversible", approval=True,
        examples=("send Ada Adler a message that she is invited", "message the first candidate", "tell Omar he won"),
    )  # fmt: skip
    async def send_message(to: Recipient, text: MessageText, caller: Caller) -> Done:
        """Sends a message to a person."""
        return Done(ledger.done("send_message", {"to": to, "text": text}, caller.tenant, caller.user), "sent")


@asynccontextmanager
async def stage(settings: Settings) -> AsyncIterator[Running]:
    """The process `python -m headstart.demo_service` (streams.process). Raises as Service.start."""
    async with open_bus(settings, "headstart-demo") as bus:
        service = demo_service(settings, Ledger())
        await service.start(bus)
        try:
            yield Running("demo service")
        finally:
            await service.stop()


if __name__ == "__main__":
    sys.exit(run_process(stage))
