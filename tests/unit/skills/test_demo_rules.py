"""The demo service's own rules: arithmetic, weather, people, days, notes."""

from __future__ import annotations

import math
from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headstart.demo.calculator import calculate
from headstart.demo.cities import CITIES, find_city
from headstart.demo.notebook import Ledger
from headstart.demo.people import JOBS, PEOPLE, TITLES, search_jobs, search_people
from headstart.demo.weather import daylight_hours, weather_of
from headstart.demo_service import day_of
from streams.errors import InvalidInput


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("2+3*4", 14), ("(2+3)*4", 20), ("2^3^2", 512), ("2**10", 1024), ("-2^2", -4), ("2^-1", 0.5), ("--3", 3),
        ("10 % 4", 2), ("15% of 80", 12), ("200 * 10%", 20), ("50%", 0.5), ("7 × 8 =", 56), ("9 ÷ 3", 3), ("1 − 2", -1),
        (".5+.5", 1), ("sqrt(16) + abs(-2)", 6), ("max(1, 2, 3) - min(4, 5)", -1), ("round(2.567, 1)", 2.6),
        ("2*pi", 2 * math.pi), ("LN(e)", 1), ("what", None), ("", None), ("1/0", None), ("(1", None), ("1)", None),
        ("1 2", None), ("sqrt(-1)", None), ("sqrt()", None), ("min(1,2", None), ("9^9^9^9", None), ("1e400", None),
        ("__import__('os')", None), ("1;2", None), ("max", None), ("(" * 90 + "1" + ")" * 90, None),
        ("10^300 * 10^300", None), ("-" * 100 + "1", None), ("1" * 201, None),
    ],
)  # fmt: skip
def test_calculate(expression: str, value: float | None) -> None:
    if value is None:
        with pytest.raises(InvalidInput) as caught:
            calculate(expression)
        assert caught.value.code == "invalid_expression"
    else:
        assert calculate(expression) == pytest.approx(value)


@given(st.text("0123456789+-*/%^(). ,esqrtpi", max_size=40))
def test_any_text_has_a_value_or_the_error(text: str) -> None:
    try:
        assert math.isfinite(calculate(text))
    except InvalidInput:
        return


@given(st.integers(-1000, 1000), st.integers(-1000, 1000), st.integers(1, 1000))
def test_it_agrees_with_arithmetic(a: int, b: int, c: int) -> None:
    assert calculate(f"{a} + {b} * ({a} - {b}) / {c}") == pytest.approx(a + b * (a - b) / c)


def test_daylight_is_as_long_as_the_almanac_says() -> None:
    """Berlin, 52.5 N: about 16.8 h in June, 7.7 h in December; the equator always about 12 h; poles all or nothing."""
    assert daylight_hours(52.52, 172) == pytest.approx(16.6, abs=0.3)
    assert daylight_hours(52.52, 355) == pytest.approx(7.5, abs=0.3)
    assert daylight_hours(0, 100) == pytest.approx(12, abs=0.01)
    assert (daylight_hours(80, 172), daylight_hours(80, 355)) == (24, 0)


def test_weather_is_the_same_every_time_and_fits_the_season() -> None:
    for city in CITIES:
        summer, winter = date(2026, 7, 15), date(2026, 1, 15)
        if city.latitude < 0:
            summer, winter = winter, summer
        assert weather_of(city, summer) == weather_of(city, summer)
        assert weather_of(city, summer).mean_c > weather_of(city, winter).mean_c
        assert weather_of(city, winter).low_c < weather_of(city, winter).high_c
    skies = {weather_of(CITIES[0], date(2026, 1, 1 + day)).sky for day in range(31)}
    assert skies == {"sunny", "partly cloudy", "cloudy"}


def test_cities_are_found_by_name() -> None:
    assert find_city(" berlin, Germany").name == "Berlin"
    with pytest.raises(InvalidInput):
        find_city("Atlantis")


def test_there_are_people_and_jobs_for_every_title_in_every_city() -> None:
    assert (len(PEOPLE), len(JOBS)) == (324, 216)
    assert len({person.name for person in PEOPLE}) == len(PEOPLE)
    for title in TITLES:
        for city in CITIES:
            assert any(person.city == city.name for person in search_people(title, city.name))
            assert search_jobs(title, city.name)[0].city == city.name


def test_search_understands_plurals_skills_countries_and_nothing() -> None:
    berlin = search_people("Data Engineers", "berlin")
    assert {(person.title, person.city) for person in berlin} == {("data engineer", "Berlin")}
    assert {person.city for person in search_people("data engineer", "Germany")} == {"Berlin", "Hamburg", "Munich"}
    assert all("Kafka" in person.skills for person in search_people("kafka", ""))
    assert search_people("astronaut", "Berlin") == []
    assert search_people("data engineer", "Atlantis") == []
    assert [person.years for person in berlin] == sorted((person.years for person in berlin), reverse=True)


def test_days_by_name_and_date() -> None:
    today = date(2026, 2, 28)
    assert day_of("today", today) == day_of("", today) == today
    assert day_of("Tomorrow", today) == date(2026, 3, 1)
    assert day_of("2026-05-01", today) == date(2026, 5, 1)
    with pytest.raises(InvalidInput):
        day_of("someday", today)


def test_notes_belong_to_their_member() -> None:
    ledger = Ledger()
    first = ledger.save_note("acme", "ada", "milk")
    second = ledger.save_note("acme", "bob", "bread")
    assert ledger.notes("acme", "ada") == {first: "milk"}
    with pytest.raises(InvalidInput):
        ledger.delete_note("acme", "ada", second)
    ledger.delete_note("acme", "ada", first)
    assert ledger.notes("acme", "ada") == {}
    assert [effect.what for effect in ledger.effects] == ["save_note", "save_note", "delete_note"]
