"""Predictions, and the metrics derived from them. Imports no training code."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lt_bench.lazy import lazily

if TYPE_CHECKING:
    from lt_bench.evaluation.metrics import evaluate_predictions

__all__ = ["evaluate_predictions"]

__getattr__ = lazily(__name__, {"evaluate_predictions": "metrics"})
