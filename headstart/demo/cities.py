"""Twelve cities: where they lie, and the first harmonic of their year's temperature.

mean_c and swing_c: the year's mean and half the difference between its warmest and coldest day, rounded from common
knowledge to half a degree; warmest_day: day of the year (south of the equator half a year later).
"""

from __future__ import annotations

from typing import Final

import msgspec

from streams.errors import InvalidInput


class City(msgspec.Struct, frozen=True):
    name: str
    country: str
    latitude: float
    mean_c: float
    swing_c: float
    warmest_day: int


CITIES: Final = (
    City("Berlin", "Germany", 52.52, 10.0, 10.0, 200),
    City("Hamburg", "Germany", 53.55, 9.5, 9.0, 203),
    City("Munich", "Germany", 48.14, 9.0, 10.5, 200),
    City("London", "United Kingdom", 51.51, 11.5, 7.0, 205),
    City("Paris", "France", 48.86, 12.5, 8.0, 203),
    City("Madrid", "Spain", 40.42, 15.0, 10.0, 205),
    City("Amsterdam", "Netherlands", 52.37, 10.5, 7.5, 208),
    City("Zurich", "Switzerland", 47.38, 9.5, 9.5, 201),
    City("New York", "United States", 40.71, 13.0, 12.5, 203),
    City("Toronto", "Canada", 43.65, 9.0, 13.5, 203),
    City("Singapore", "Singapore", 1.35, 27.5, 1.0, 145),
    City("Sydney", "Australia", -33.87, 18.0, 5.0, 25),
)
_BY_NAME: Final = {city.name.casefold(): city for city in CITIES}


def find_city(name: str) -> City:
    """The city of a name, in any case, perhaps followed by a comma and its country.

    Raises InvalidInput (`unknown_city`) with the known names as its hint.
    """
    city = _BY_NAME.get(name.partition(",")[0].strip().casefold())
    if city is None:
        raise InvalidInput(
            "the weather of that city is not known here", code="unknown_city", hint=", ".join(c.name for c in CITIES)
        )
    return city


def lies_in(city: City, location: str) -> bool:
    """Whether a location (a city, a country, both, or "" for anywhere) means this city."""
    parts = [part.strip().casefold() for part in location.split(",") if part.strip()]
    return all(part in (city.name.casefold(), city.country.casefold()) for part in parts)
