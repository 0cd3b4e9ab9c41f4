"""What a data card makes of the images that a record tells: the digest of their split, and how they are shown."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from lt_bench.data.looks import Looks
from lt_bench.errors import UserError
from lt_bench.identity import digest, split_sha256

if TYPE_CHECKING:
    from lt_bench.leaderboard.dataset import Dataset


class SplitByCard(NamedTuple):
    """A split without a validation part, as a card makes it of the images that a record tells."""

    version: int | str
    split_sha256: str
    test_fingerprint: str | None
    looks: Looks | None
    """Of one's own set."""


def split_by_card(dataset: Dataset) -> SplitByCard | None:
    """The split by the card as it was, where the record tells, else by the card at hand.

    None for a data set without a card here, and for one's own whose card has been changed since.
    """
    given = () if dataset.noise is None else (dataset.noise.given_sha256,)
    images = dataset.index_sha256, dataset.content_sha256, None, None, dataset.test_sha256
    if (looks := dataset.looks) is not None:
        return SplitByCard(dataset.version, _digest(images, dataset.version, looks, given), None, looks)
    at_hand = _by_shipped_card if _ships(dataset.name) else _by_card_at_hand  # one's own may change at any time
    found = at_hand(dataset.name, images, given)
    changed = found is not None and found.looks is not None and dataset.split_sha256 not in (None, found.split_sha256)
    return None if changed else found


def looks_of(dataset: Dataset) -> Looks | None:
    """How the card of one's own set had its images shown, as far as that is known; None for a set that ships."""
    by_card = split_by_card(dataset)
    return None if by_card is None else by_card.looks


def digest_of_looks(dataset: Dataset) -> str:
    """Empty where there are none."""
    looks = looks_of(dataset)
    return "" if looks is None else digest(looks.model_dump(mode="json"))


@lru_cache
def _ships(name: str) -> bool:
    from lt_bench.data.cards import card_names  # noqa: PLC0415 (it imports YAML)

    return name in card_names()


def _by_card_at_hand(name: str, images: tuple[str | None, ...], given: tuple[str, ...]) -> SplitByCard | None:
    from lt_bench.data.cards import load_card  # noqa: PLC0415 (it imports YAML)

    try:
        card = load_card(name)
    except UserError:
        return None
    split = _digest(images, card.version, card, given)
    return SplitByCard(card.version, split, card.test_fingerprint, None if _ships(name) else card.looks)


_by_shipped_card = lru_cache(4096)(_by_card_at_hand)


def _digest(images: tuple[str | None, ...], version: int | str, looks: Looks, given: tuple[str, ...]) -> str:
    return split_sha256([*images, version, looks.mean, looks.std, looks.flip, *given])
