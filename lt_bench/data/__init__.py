"""From a card to batches: cards, sources, long-tailed splits, augmented image sets, samplers.

The names below are imported on first use, so that reading a card needs neither torch nor pyarrow.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lt_bench.lazy import lazily

if TYPE_CHECKING:
    from lt_bench.data.augment import Augmentation
    from lt_bench.data.cards import Card, card_names, load_card
    from lt_bench.data.export import export_split
    from lt_bench.data.opening import open_split
    from lt_bench.data.report import describe, draw_class_sizes, verify
    from lt_bench.data.sets import ImageSets, image_sets
    from lt_bench.data.spec import DataSpec
    from lt_bench.data.split import Split
    from lt_bench.data.torch_dataset import LongTailed, long_tailed

__all__ = [
    "Augmentation",
    "Card",
    "DataSpec",
    "ImageSets",
    "LongTailed",
    "Split",
    "card_names",
    "describe",
    "draw_class_sizes",
    "export_split",
    "image_sets",
    "load_card",
    "long_tailed",
    "open_split",
    "verify",
]

__getattr__ = lazily(
    __name__,
    {
        "Augmentation": "augment",
        "Card": "cards",
        "card_names": "cards",
        "load_card": "cards",
        "describe": "report",
        "draw_class_sizes": "report",
        "verify": "report",
        "export_split": "export",
        "ImageSets": "sets",
        "image_sets": "sets",
        "open_split": "opening",
        "DataSpec": "spec",
        "Split": "split",
        "LongTailed": "torch_dataset",
        "long_tailed": "torch_dataset",
    },
)
