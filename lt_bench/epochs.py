"""Epochs written as percentages of the training, so that they follow where its length changes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

from lt_bench.errors import UserError, shown

Node = dict[str, Any]

_PERCENT = re.compile(r"(\d{1,3}(?:\.\d{1,9})?)%")


def share(text: Any) -> Fraction | None:
    """A percentage from 0% to 100% as a fraction, None for anything else."""
    match = _PERCENT.fullmatch(text) if isinstance(text, str) else None
    found = Fraction(match[1]) / 100 if match else None
    return found if found is not None and found <= 1 else None


def whole_epochs(given: Any, epochs: int, where: str) -> int:
    """An epoch as it is, or a percentage of `epochs` rounded. Raises UserError, which begins with `where`."""
    if isinstance(given, int) and not isinstance(given, bool):
        return given
    part = share(given)
    if part is None:
        raise UserError(f"{where}: expected an epoch such as 160 or a percentage such as 80%, found {shown(given)}")
    return round(part * epochs)


def phase_ends(given: Sequence[Any], epochs: int, where: str) -> list[int]:
    """The `until` of every phase in epochs. In a short training a percentage leaves one epoch to each later phase.

    Raises UserError, which begins with `where`, where they do not rise from 1 on to the last epoch.
    """
    ends = [whole_epochs(until, epochs, f"{where}[{index}].until") for index, until in enumerate(given)]
    shares = [share(until) for until in given]
    for index in reversed(range(len(ends) - 1)):
        part, later = shares[index : index + 2]
        if part is not None and later is not None and part < later:
            ends[index] = min(ends[index], ends[index + 1] - 1)
    if ends[-1] != epochs:
        raise UserError(
            f"{where}: the last one ends at epoch {ends[-1]} but the protocol trains {epochs}; "
            "percentages (until: 80%) fit every protocol"
        )
    if ends != sorted(set(ends)) or ends[0] < 1:
        if len(ends) > epochs:
            raise UserError(f"{where}: {len(ends)} phases need at least {len(ends)} epochs, found {epochs}")
        raise UserError(f"{where}: `until` must increase from 1 on, found {ends} of {epochs} epochs")
    return ends


def with_whole_epochs(protocol: Node) -> Node:
    """A protocol's plain data with its schedule in epochs. What validation will refuse is left to it.

    Of steps in percent one gives way where it rounds to the end of the training or to the next step. A warm-up that
    rises once an epoch has whole epochs, and so has a cool-down.
    """
    epochs, schedule = protocol.get("epochs"), protocol.get("schedule")
    if not isinstance(epochs, int) or not isinstance(schedule, dict):
        return protocol
    schedule = dict(schedule)
    warmup = share(schedule.get("warmup_epochs"))
    if warmup is not None:
        per_iteration = schedule.get("warmup_per") == "iteration"
        schedule["warmup_epochs"] = float(warmup * epochs if per_iteration else round(warmup * epochs))
    cooldown = share(schedule.get("cooldown_epochs"))
    if cooldown is not None:
        schedule["cooldown_epochs"] = round(cooldown * epochs)
    milestones, factors = schedule.get("milestones"), schedule.get("factors")
    if isinstance(milestones, list) and isinstance(factors, list) and len(milestones) == len(factors):
        schedule["milestones"], schedule["factors"] = _steps(milestones, factors, epochs)
    return {**protocol, "schedule": schedule}


def _steps(milestones: Sequence[Any], factors: Sequence[Any], epochs: int) -> tuple[list[int], list[Any]]:
    starts = [whole_epochs(given, epochs, "protocol.schedule.milestones") for given in milestones]
    following = [*starts[1:], epochs][: len(starts)]  # none where there are no steps
    kept = [
        (start, factor)
        for start, factor, given, after in zip(starts, factors, milestones, following, strict=True)
        if share(given) is None or start < min(after, epochs)
    ]
    return [start for start, _ in kept], [factor for _, factor in kept]
