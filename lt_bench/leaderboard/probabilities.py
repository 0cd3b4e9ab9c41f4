"""Whose scores are no probabilities, so that a calibration error says nothing of them.

The components say it themselves; a table is made without importing them, so their names stand here once more, and a
test holds the two together.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lt_bench.nodes import items, mapping

STAGES = frozenset({"ncm", "max-norm", "tau-norm"})
"""Stages whose logits are distances, or have a scale that a norm sets and no likelihood."""
LOSSES: Mapping[str, frozenset[str]] = {
    "binary-cross-entropy": frozenset(),
    "sigmoid-focal": frozenset(),
    "class-balanced": frozenset({"sigmoid", "focal"}),
}
"""Losses on a sigmoid for each class, with the values of `form` for which they are that; empty: always."""

WHY = "the softmax of distances, of logits of a set scale or of one sigmoid a class is no probability"


def are_probabilities(recipe: Mapping[str, Any]) -> bool:
    """Whether the softmax of what a resolved recipe ends in is meant as probabilities of the classes."""
    second = mapping(recipe.get("second_stage"))
    stage = mapping(second.get("stage"))
    if stage.get("name") in STAGES:
        return False
    last = next(reversed(items(recipe.get("phases"))), None)
    loss = mapping((second if stage.get("epochs") else mapping(last)).get("loss"))
    if loss.get("name") not in LOSSES:
        return True
    forms = LOSSES[loss["name"]]
    return bool(forms) and loss.get("form") not in forms
