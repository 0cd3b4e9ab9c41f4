"""The two ways a command can end badly, and how a wrong name is answered."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence


class UserError(Exception):
    """A mistake in the user's input. The message is one line; the exit code is 2."""


class NoDataError(UserError):
    """A data set that is not on this machine."""


class MissingDataError(NoDataError):
    """Files of a data set that are not where they are looked for, of which the first is `file`, in the set's folder.

    Without a file it is the folder that is missing.
    """

    def __init__(self, message: str, file: str = "") -> None:
        super().__init__(message)
        self.file = file


class RunError(Exception):
    """A run that started and could not finish. The message is one line; the exit code is 1."""


MOST_NAMES = 50
"""More of them are no help in one line."""


def shown(value: object) -> str:
    """A value as an error shows it, in the words of YAML, at most 200 characters long."""
    text = repr(value)
    text = {"None": "null", "True": "true", "False": "false"}.get(text, text)
    return text if len(text) <= 200 else f"{text[:197]}..."


def nearest(name: str, allowed: Iterable[str], likeness: float = 0.6) -> list[str]:
    """The allowed name that somebody who wrote `name` may have meant, none if all of them are far from it."""
    return difflib.get_close_matches(name, sorted(allowed), n=1, cutoff=likeness)


def is_slip(name: str, allowed: Iterable[str]) -> bool:
    """Whether `name` is so near to one that is allowed that it must be meant for that."""
    return bool(nearest(name, allowed, likeness=0.8))


def unknown(what: str, name: str, allowed: Iterable[str], meant: Sequence[str] = ()) -> str:
    """Say that `name` is not a known `what`, what is allowed, and what was `meant`: by default the nearest name."""
    names = sorted(allowed)
    close = meant or nearest(name, names)
    hint = f"; did you mean {' or '.join(close)}?" if close else ""
    allowed_names = ", ".join(names) or "none" if len(names) <= MOST_NAMES else f"one of {len(names)} names"
    return f"{shown(name)} is not a known {what}{hint} (allowed: {allowed_names})"


def in_one_line(text: str) -> str:
    """A message on one line and with nothing that a terminal does not show, whatever the names in it hold."""
    line = " ".join(text.splitlines())
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in line)
