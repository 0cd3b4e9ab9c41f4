"""What a split is, in numbers and as a curve, and whether it is the field's own."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np

from lt_bench.data.groups import FEW_BELOW, MANY_ABOVE, group_masks
from lt_bench.data.split import Split
from lt_bench.errors import UserError
from lt_bench.figures import save_figure


def describe(split: Split) -> dict[str, Any]:
    """The facts of a split as plain values. `matches_card` is None where the card knows no digest for it."""
    counts, expected = split.counts, split.expected
    known = expected.index_sha256 if expected else None
    return {
        "name": split.card.name,
        "version": split.card.version,
        "origin": split.origin,
        **split.spec.model_dump(exclude={"name"}),
        "classes": split.card.classes,
        "total": int(counts.sum()),
        "counts": counts.tolist(),
        "groups": {name: int(members.sum()) for name, members in group_masks(counts).items()},
        "validation": 0 if split.validation is None else len(split.validation.labels),
        "test": len(split.test.labels),
        "index_sha256": split.index_sha256,
        "content_sha256": split.content_sha256,
        "content_kind": split.content_kind,
        "test_sha256": split.test_sha256,
        "validation_sha256": split.validation_sha256,
        "digest": split.digest,
        **_noise(split),
        "matches_card": None if known is None else known == split.index_sha256,
    }


def _noise(split: Split) -> dict[str, Any]:
    """How many of the given labels are wrong, in all and of the images of each class; nothing where all are right."""
    if split.given is None:
        return {}
    right, classes = split.train.labels, split.card.classes
    wrong = np.bincount(right[split.given != right], minlength=classes)
    return {
        "wrong_labels": int(wrong.sum()),
        "wrong_share": round(float(wrong.sum() / len(right)), 6),
        "wrong_share_of_class": np.round(wrong / split.counts, 4).tolist(),
        "given_counts": np.bincount(split.given, minlength=classes).tolist(),
        "given_sha256": split.given_sha256,
    }


def verify(split: Split) -> tuple[str, ...]:
    """Compare a split with what its card says of it, and return what could be compared.

    Raises UserError on the first difference. That the images are the published ones is checked whenever a
    whole data set is opened.
    """
    expected = split.expected
    if expected is None:
        return ()
    facts = _countable(split)
    known = {name: value for name in facts if (value := getattr(expected, name)) is not None}
    for name, wanted in known.items():
        if facts[name] != wanted:
            raise UserError(f"{split.origin}: {name} of {split.card.name} is {facts[name]}, its card says {wanted}")
    return tuple(known)


def _countable(split: Split) -> dict[str, object]:
    """What a card may know of a split, under the names that it has there."""
    counts = split.counts.tolist()
    return {
        "total": sum(counts),
        "largest": max(counts),
        "smallest": min(counts),
        "groups": tuple(int(members.sum()) for members in group_masks(counts).values()),
        "counts_sha256": hashlib.sha256(",".join(map(str, counts)).encode()).hexdigest(),
        "index_sha256": split.index_sha256,
    }


def draw_class_sizes(split: Split, path: Path) -> None:
    """Draw the sorted class sizes on a logarithmic axis, the groups shaded. The suffix of `path` is the format."""
    from matplotlib.figure import Figure  # noqa: PLC0415 (slow to import)

    sizes = np.sort(split.counts)[::-1]
    figure = Figure(figsize=(5, 3), layout="constrained")
    axes = figure.subplots()
    axes.step(np.arange(len(sizes)), sizes, where="mid", color="black")
    bands = ((MANY_ABOVE, None, "many"), (FEW_BELOW, MANY_ABOVE, "medium"), (None, FEW_BELOW, "few"))
    axes.set(yscale="log", xlabel="class, largest first", ylabel="training images")
    axes.set_title(f"{split.card.title}: {sizes.sum():,} images, largest / smallest {sizes[0] / sizes[-1]:.3g}")
    bottom, top = axes.get_ylim()
    for (low, high, label), colour in zip(bands, ("#dceefb", "#eef5e3", "#fbe9dc"), strict=True):
        axes.axhspan(low or bottom, high or max(top, MANY_ABOVE), color=colour, zorder=0, label=label)
    axes.set_ylim(bottom, top)
    axes.yaxis.set_major_formatter("{x:g}")
    axes.legend()
    save_figure(figure, path, dpi=200)
