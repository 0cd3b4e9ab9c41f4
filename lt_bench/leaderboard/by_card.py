"""What a data card makes of the images that a record tells: the digest of their split, and how they are shown."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from lt_bench.data.looks import Looks
from lt_bench.errors import UserError
from lt_bench.identity import split_sha256

if TYPE_CHECKING:
    from lt_bench.leaderboard.dataset import Dataset


Images = tuple[str | None, ...]
Given = tuple[str, ...]
"""Digests of the images of a split, and of their labels where some are wrong."""


class SplitByCard(NamedTuple):
    """A split without a validation part, as a card makes it of the images that a record tells."""

    version: int | str
    split_sha256: str
    test_fingerprint: str | None
    looks: Looks | None
    """Of one's own set."""


def split_by_card(dataset: Dataset) -> SplitByCard | None:
    """The split by the card as it was, where the record tells, else by the card at hand.

    None for a data set without a card here, and for one's own whose card has been changed since, which nothing refutes:
    such a record is taken at its word.
    """
    if dataset.looks is not None and not ships(dataset.name):
        digest = _digest(*_images(dataset), dataset.version, dataset.looks)
        return SplitByCard(dataset.version, digest, None, dataset.looks)
    found = _at_hand(dataset)
    changed = found is not None and found.looks is not None and dataset.split_sha256 not in (None, found.split_sha256)
    return None if changed else found


def looks_of(dataset: Dataset, held_out: bool) -> Looks | None:
    """How the card of one's own set had its images shown; None for a set that ships, and where it is not known.

    Records of before this was kept have that of the card at hand, unless the digest of their split says that it was
    another one. With images `held_out` the digest does not say so.
    """
    if ships(dataset.name):
        return None
    if dataset.looks is not None:
        return dataset.looks
    found = _at_hand(dataset) if held_out else split_by_card(dataset)
    return None if found is None else found.looks


def own_split(dataset: Dataset) -> str:
    """The digest of the split of one's own set, which the looks are part of; empty for one that ships."""
    return "" if ships(dataset.name) else dataset.split_sha256 or ""


@lru_cache
def ships(name: str) -> bool:
    """Whether a data set ships: its card changes with its version alone."""
    from lt_bench.data.cards import card_names  # noqa: PLC0415 (it imports YAML)

    return name in card_names()


def _at_hand(dataset: Dataset) -> SplitByCard | None:
    find = _by_shipped_card if ships(dataset.name) else _by_card  # one's own may change at any time
    return find(dataset.name, *_images(dataset))


def _images(dataset: Dataset) -> tuple[Images, Given]:
    given = () if dataset.noise is None else (dataset.noise.given_sha256,)
    return (dataset.index_sha256, dataset.content_sha256, None, None, dataset.test_sha256), given


def _by_card(name: str, images: Images, given: Given) -> SplitByCard | None:
    from lt_bench.data.cards import load_card  # noqa: PLC0415 (it imports YAML)

    try:
        card = load_card(name)
    except UserError:
        return None
    split = _digest(images, given, card.version, card)
    return SplitByCard(card.version, split, card.test_fingerprint, None if ships(name) else card.looks)


_by_shipped_card = lru_cache(4096)(_by_card)


def _digest(images: Images, given: Given, version: int | str, looks: Looks) -> str:
    return split_sha256([*images, version, looks.mean, looks.std, looks.flip, *given])
