"""The two ways a command can end badly, and how a wrong name is answered."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """A mistake in the user's input. The message is one line; the exit code is 2."""


class RunError(Exception):
    """A run that started and could not finish. The message is one line; the exit code is 1."""


MOST_NAMES = 40
"""More of them are no help in one line."""


def shown(value: object) -> str:
    """A value as an error shows it, at most 200 characters long."""
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:197]}..."


def unknown(what: str, name: str, allowed: Iterable[str]) -> str:
    """Say that `name` is not a known `what`, what is allowed, and which allowed name is nearest."""
    names = sorted(allowed)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f"; did you mean {close[0]}?" if close else ""
    allowed_names = ", ".join(names) or "none" if len(names) <= MOST_NAMES else f"one of {len(names)} names"
    return f"{shown(name)} is not a known {what}{hint} (allowed: {allowed_names})"
