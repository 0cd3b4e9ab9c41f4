"""From a spec to a split: find the data, read it, check it, draw."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lt_bench.data.arrays import cache_folder
from lt_bench.data.cards import Card, FolderSource, load_card
from lt_bench.data.expected import advice
from lt_bench.data.export import find_exported, read_exported
from lt_bench.data.folder import open_folder
from lt_bench.data.reading import user_folder
from lt_bench.data.report import verify
from lt_bench.data.sources import has_pool, open_pool
from lt_bench.data.spec import DataSpec
from lt_bench.data.split import Split, draw_split
from lt_bench.errors import MissingDataError, UserError


def data_folder(data_root: Path | None) -> Path:
    """Where data lies: the argument, LT_BENCH_DATA, or ./data."""
    return user_folder(data_root or Path(os.environ.get("LT_BENCH_DATA") or "data"))


def open_split(spec: DataSpec, data_root: Path | None = None, cache: Path | None = None) -> Split:
    """The split that a recipe's `data:` block names.

    An exported split in the data root is used when it is the one asked for; otherwise the split is drawn from
    the whole data set. Raises UserError when the data is missing, damaged, altered or too small.
    """
    card = load_card(spec.name)
    spec = spec.resolve(card)
    root, cache = data_folder(data_root), cache_folder(cache)
    split = _clean_split(card, spec.model_copy(update={"noise": None}), root, cache)
    verify(split)
    if spec.noise is None:
        return split
    from lt_bench.data.noise.drawing import with_noise  # noqa: PLC0415

    return with_noise(split, spec.noise, root if root.is_dir() else root.parent)


def _clean_split(card: Card, spec: DataSpec, root: Path, cache: Path) -> Split:
    """The split that a resolved spec names, with its right labels."""
    if isinstance(card.source, FolderSource):
        with advised(card, card.source, root):
            return open_folder(card, card.source, spec, root, cache)
    exported, refused = find_exported(card, spec, root)
    if exported is not None:
        return read_exported(card, spec, exported, cache)
    if refused and not has_pool(card, root):
        raise UserError(refused)
    return draw_split(card, spec, open_pool(card, root, cache))


@contextmanager
def advised(card: Card, source: FolderSource, root: Path) -> Iterator[None]:
    """Add to the error of missing files what to do about them."""
    try:
        yield
    except MissingDataError as error:
        told = f"lt-bench data describe {card.name} tells what is expected"
        done = advice(source, root / source.folder, error.file)
        raise MissingDataError(f"{error}{done}; {told}") from None
