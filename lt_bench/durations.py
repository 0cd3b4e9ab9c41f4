"""Time as people say it."""

from __future__ import annotations

import math
import re
from datetime import datetime, timedelta

from lt_bench.errors import UserError

UNITS = {"s": 1, "m": 60, "h": 3600}


def parse_time(text: str, option: str) -> float:
    """A time such as 90s, 40m or 1.5h, in seconds. Raises UserError that names the option."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smh])", text.strip())
    if match is None:
        raise UserError(f"{option} {text}: expected a time such as 90s, 40m or 2h")
    return float(match[1]) * UNITS[match[2]]


def spoken(seconds: float) -> str:
    """A duration in its two largest units at most: 0.4 s, 17 s, 8 min, 2 h 10 min, 3 d 4 h."""
    if seconds < 99.5:
        return f"{seconds:.1f} s" if seconds < 0.95 else f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, rest = divmod(minutes, 60)
    if hours < 24:
        return f"{hours} h {rest} min" if rest else f"{hours} h"
    days, hours = divmod(hours, 24)
    return f"{days} d {hours} h" if hours else f"{days} d"


def clock(seconds: float) -> str:
    """The time of day in so many seconds, with the date where it is another day: 14:32, 3 Dec 02:10."""
    now = datetime.now()
    then = now + timedelta(seconds=math.ceil(seconds))
    return then.strftime("%H:%M") if then.date() == now.date() else f"{then.day} {then.strftime('%b %H:%M')}"
