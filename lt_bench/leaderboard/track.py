"""Tracks: experiments of one kind, whose tables stand under a heading of their own and are never mixed with others.

A record says by what was done which track it belongs to; the clean track is that of all others. A new track is a
`Track` in `TRACKS` and a function in `CONDITIONS`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from lt_bench.leaderboard import foundation, noise

if TYPE_CHECKING:
    from lt_bench.leaderboard.schema import Record


class Condition(NamedTuple):
    """Under what a run was made beside its data set and protocol; nothing of all that on the clean track."""

    track: str = "clean"
    title: str = ""
    """In the title of its table, behind the data set: `symmetric label noise 0.4`."""
    slug: str = ""
    """The same as part of a file's name: `symmetric-0.4`."""
    overrides: tuple[str, ...] = ()
    """The `key=value` of a command line that ask for it."""
    sha256: str = ""
    """What tells it from another of the same title."""


@dataclass(frozen=True)
class Track:
    """A part of the board."""

    name: str
    title: str
    """Its heading in the index."""
    about: str
    """What its tables have in common, in a sentence or two below the heading."""
    columns: str = ""
    """What its pages say of the columns that only they have."""


CLEAN = Condition().track
TRACKS = (
    Track(CLEAN, "Clean", "Labels and images as the data set has them."),
    Track(
        "label-noise",
        "Label noise",
        "Trained on labels of which some are wrong, tested on right ones. Groups are by the right labels.",
        columns=noise.ABOUT,
    ),
    Track(
        "adversarial",
        "Adversarial training",
        "Trained on images perturbed against the network, tested here on images as they are: what robustness costs. "
        "Accuracy under attack has tables of its own, `lt-bench leaderboard robust`.",
    ),
    Track(
        "foundation",
        "Foundation models",
        "Networks that others trained on more images, and of which all or a part is trained further. What they have "
        "seen is in each title: no figure here can be compared with those of networks trained from scratch.",
        columns=foundation.ABOUT,
    ),
)
"""In the order of the board."""


def condition(record: Record) -> Condition:
    """Under what a recorded run was made."""
    return next(filter(None, (found(record) for found in CONDITIONS)), Condition())


def place(track: str) -> int:
    """Where a track stands on the board, from 0."""
    return [one.name for one in TRACKS].index(track)


def _label_noise(record: Record) -> Condition | None:
    given = record.recipe["data"].get("noise")
    if given is None:
        return None
    which = [f"{given[key]:g}" if key == "rate" else given[key] for key in ("rate", "labels") if key in given]
    seed = [f"seed {given['seed']}"] if given.get("seed") else []
    words = [given["name"], *which]
    return Condition(
        track="label-noise",
        title=", ".join([f"label noise {' '.join(words)}", *seed]),
        slug="-".join([*words, *seed]).replace(" ", ""),
        sha256="" if record.dataset.noise is None else record.dataset.noise.given_sha256,
        overrides=tuple(f"data.noise.{key}={value}" for key, value in given.items() if key != "seed" or value),
    )


ADVERSARIAL = frozenset({"pgd-at", "trades", "trades-cutmix-wa", "robal", "reat", "taet"})
"""Methods that train against an adversary. They say so themselves; a table is made without importing them, so their
names stand here once more, and a test holds the two together."""


def _adversarial(record: Record) -> Condition | None:
    method = record.recipe.get("method")
    if not isinstance(method, dict) or method.get("name") not in ADVERSARIAL:
        return None
    return Condition(track="adversarial", title="adversarial training", slug="adversarial")


def _foundation(record: Record) -> Condition | None:
    model, found = record.recipe.get("model"), record.pretrained
    if found is None and not (isinstance(model, dict) and model.get("tuner")):
        return None
    what = "weights of unknown origin" if found is None else f"{found.network}, trained on {found.data}"
    slug = "unknown" if found is None else found.network.replace("/", "-").lower()
    digest = "" if found is None else found.sha256
    under = _label_noise(record) or _adversarial(record) or Condition()
    return Condition(
        track="foundation",
        title=", ".join(filter(None, (what, under.title))),
        slug="-".join(filter(None, (slug, under.slug))),
        sha256="-".join(filter(None, (digest, under.sha256))),
        overrides=under.overrides,
    )


CONDITIONS: tuple[Callable[[Record], Condition | None], ...] = (_foundation, _label_noise, _adversarial)
"""Of a record each says under what it was made, if that is of its track."""
