"""People and jobs that nobody is: one seeded draw, so that every machine knows the same ones.

Every job title has a person and a job in every city, so that an ordinary question finds something; a second person
for every other pair keeps the answers from being all of one length.
"""

from __future__ import annotations

import random
from typing import Final

import msgspec

from headstart.demo.cities import CITIES, City, lies_in

TITLES: Final[dict[str, tuple[str, ...]]] = {
    "data engineer": ("Kafka", "Spark", "dbt", "Airflow", "Python", "Postgres"),
    "data scientist": ("Python", "statistics", "pandas", "experiments", "PyTorch"),
    "machine learning engineer": ("PyTorch", "CUDA", "vLLM", "Python", "MLOps"),
    "backend engineer": ("Go", "Java", "Postgres", "gRPC", "Kafka"),
    "frontend engineer": ("TypeScript", "React", "CSS", "accessibility"),
    "mobile engineer": ("Swift", "Kotlin", "Flutter", "testing"),
    "platform engineer": ("Kubernetes", "Terraform", "Linux", "networking"),
    "security engineer": ("threat models", "cryptography", "Linux", "incident response"),
    "site reliability engineer": ("Linux", "Prometheus", "Kubernetes", "on-call"),
    "product manager": ("roadmaps", "interviews", "SQL", "writing"),
    "product designer": ("Figma", "prototypes", "interviews", "accessibility"),
    "technical writer": ("documentation", "editing", "Markdown", "teaching"),
    "engineering manager": ("hiring", "coaching", "planning", "architecture"),
    "data analyst": ("SQL", "dashboards", "statistics", "Excel"),
    "quality engineer": ("Playwright", "test design", "Python", "CI"),
    "research scientist": ("PyTorch", "papers", "mathematics", "experiments"),
    "solutions architect": ("cloud", "integration", "workshops", "Kafka"),
    "recruiter": ("sourcing", "interviews", "negotiation", "writing"),
}
FIRST_NAMES: Final = (
    "Ada", "Amir", "Anouk", "Bela", "Carla", "Chidi", "Dana", "Dmitri", "Elif", "Emeka", "Fatima", "Felix", "Greta",
    "Hana", "Ines", "Ivo", "Jonas", "Kaito", "Lena", "Luca", "Maya", "Mina", "Nadia", "Noor", "Olga", "Omar", "Paula",
    "Ravi", "Rosa", "Sami", "Sofia", "Tomas", "Uma", "Viktor", "Wanda", "Yara", "Yuki", "Zoe",
)  # fmt: skip
LAST_NAMES: Final = (
    "Adler", "Baptiste", "Brandt", "Castillo", "Dahl", "Eriksen", "Farouk", "Fischer", "Garnier", "Haddad", "Horvat",
    "Ibarra", "Jansen", "Kaya", "Kim", "Kovacs", "Lindqvist", "Marques", "Moreau", "Nakata", "Novak", "Okafor",
    "Petrov", "Quist", "Rahman", "Rossi", "Sato", "Silva", "Tanaka", "Toure", "Urban", "Vega", "Weber", "Winter",
    "Yilmaz", "Zamora",
)  # fmt: skip
COMPANIES: Final = (
    "Alder Works", "Bluefin Data", "Copperline", "Dune Robotics", "Eastgate Health", "Fernweh Travel", "Glasswing",
    "Harbour Bank", "Inkwell Press", "Juniper Foods", "Kite Energy", "Larkspur Games",
)  # fmt: skip
LEVELS: Final = ("Junior", "", "Senior", "Lead")
SEED: Final = 20_250_101


class Person(msgspec.Struct, frozen=True):
    id: int
    name: str
    title: str
    city: str
    country: str
    skills: tuple[str, ...]
    years: int


class Job(msgspec.Struct, frozen=True):
    id: int
    title: str
    level: str
    company: str
    city: str
    country: str
    salary_eur: int
    remote: bool


def _draw() -> tuple[tuple[Person, ...], tuple[Job, ...]]:
    draw = random.Random(SEED)
    names = [f"{first} {last}" for first in FIRST_NAMES for last in LAST_NAMES]
    draw.shuffle(names)
    people: list[Person] = []
    jobs: list[Job] = []
    for number, (title, known) in enumerate(TITLES.items()):
        for place, city in enumerate(CITIES):
            for _ in range(1 + (number + place) % 2):
                skills = tuple(sorted(draw.sample(known, 3)))
                who = names[len(people)]
                people.append(
                    Person(len(people) + 1, who, title, city.name, city.country, skills, draw.randint(1, 20))
                )  # fmt: skip
            level = draw.choice(LEVELS)
            salary_eur = 1_000 * (45 + 15 * LEVELS.index(level) + draw.randint(0, 15))
            jobs.append(
                Job(
                    len(jobs) + 1, title, level, draw.choice(COMPANIES), city.name, city.country, salary_eur,
                    draw.random() < 0.3,
                )
            )  # fmt: skip
    return tuple(people), tuple(jobs)


PEOPLE, JOBS = _draw()
_CITY: Final[dict[str, City]] = {city.name: city for city in CITIES}


def _words(text: str) -> set[str]:
    return {word.removesuffix("s") for word in text.casefold().replace("-", " ").split()}


def search_people(title: str, location: str) -> list[Person]:
    """Everybody whose title or skills hold every word of `title`, in `location` ("" anywhere), most years first."""
    wanted = _words(title)
    found = [
        person
        for person in PEOPLE
        if wanted <= _words(person.title) | {skill.casefold() for skill in person.skills}
        and lies_in(_CITY[person.city], location)
    ]
    return sorted(found, key=lambda person: (-person.years, person.id))


def search_jobs(title: str, location: str) -> list[Job]:
    """Every job whose title or level holds every word of `title`, in `location` or remote, best paid first."""
    wanted = _words(title)
    found = [
        job
        for job in JOBS
        if wanted <= _words(f"{job.level} {job.title}") and (lies_in(_CITY[job.city], location) or job.remote)
    ]
    nearby = {job.id for job in found if lies_in(_CITY[job.city], location)}
    return sorted(found, key=lambda job: (job.id not in nearby, -job.salary_eur, job.id))
