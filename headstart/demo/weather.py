"""Weather by formula: the same for the same city and day on every machine, and roughly what one expects there.

Published parts: Allen, Pereira, Raes, Smith, "Crop evapotranspiration", FAO Irrigation and Drainage Paper 56 (1998):

    eq. 24  declination       d = 0.409 sin(2 pi J / 365 - 1.39)
    eq. 25  sunset hour angle w = arccos(-tan(latitude) tan(d))
    eq. 34  daylight hours    N = 24 w / pi
    eq. 35  radiation share   Rs / Ra = 0.25 + 0.50 n / N           (n / N: the share of the day with sunshine)
    eq. 50  solved for range  Tmax - Tmin = ((Rs / Ra) / k)^2       with k = 0.19 (coast) .. 0.16 (inland), here 0.17

The day's mean temperature is the first harmonic of the city's year. The share of sunshine, which no formula gives, is
drawn from a hash of city and day.
"""

from __future__ import annotations

import hashlib
import math
from datetime import date
from typing import Final

import msgspec

from headstart.demo.cities import City

RANGE_FACTOR: Final = 0.17


class Weather(msgspec.Struct, frozen=True):
    """low_c, high_c: of that day. daylight_hours: from sunrise to sunset. sky: sunny | partly cloudy | cloudy."""

    city: str
    day: str
    sky: str
    mean_c: float
    low_c: float
    high_c: float
    daylight_hours: float


def daylight_hours(latitude: float, day_of_year: int) -> float:
    """FAO-56 eq. 24, 25 and 34; 0 and 24 in the polar night and day."""
    declination = 0.409 * math.sin(2 * math.pi * day_of_year / 365 - 1.39)
    cosine = -math.tan(math.radians(latitude)) * math.tan(declination)
    return 24 / math.pi * math.acos(max(-1.0, min(1.0, cosine)))


def weather_of(city: City, day: date) -> Weather:
    """The weather of one day."""
    day_of_year = day.timetuple().tm_yday
    draw = hashlib.sha256(f"{city.name}/{day.isoformat()}".encode()).digest()
    sunshine = int.from_bytes(draw[:4], "big") / 2**32
    mean_c = city.mean_c + city.swing_c * math.cos(2 * math.pi * (day_of_year - city.warmest_day) / 365)
    range_c = ((0.25 + 0.50 * sunshine) / RANGE_FACTOR) ** 2
    return Weather(
        city=city.name, day=day.isoformat(),
        sky="sunny" if sunshine > 0.66 else "partly cloudy" if sunshine > 0.33 else "cloudy",
        mean_c=round(mean_c, 1), low_c=round(mean_c - range_c / 2, 1), high_c=round(mean_c + range_c / 2, 1),
        daylight_hours=round(daylight_hours(city.latitude, day_of_year), 1),
    )  # fmt: skip
