"""Predictions, and the metrics derived from them. Imports no training code."""
