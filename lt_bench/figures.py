"""Pictures as files."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

from lt_bench.data.reading import reason
from lt_bench.errors import UserError
from lt_bench.files import write_atomically

if TYPE_CHECKING:
    from matplotlib.figure import Figure


FORMATS = (".png", ".pdf", ".svg", "")
DRAWN = b"Matplotlib"
"""Stands in all of these formats as plain text, and hardly in a photograph."""


def save_figure(figure: Figure, path: Path, dpi: int = 150) -> None:
    """Write a figure whole or not at all, into a folder made for it; the suffix is the format, PNG without one.

    A `Figure` of matplotlib's own, not of pyplot, draws without a window wherever it is run.
    Raises UserError where it cannot be written, also for an unknown format, and for a file there that is no drawing.
    """
    drawn = io.BytesIO()
    try:
        if path.suffix not in FORMATS:
            raise ValueError("the suffix should be .png, .pdf or .svg")
        if path.is_file() and DRAWN not in path.read_bytes():
            raise ValueError("the file that is there is no drawing of this suite, so it is not overwritten")
        figure.savefig(drawn, format=path.suffix[1:] or "png", dpi=dpi)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, drawn.getvalue())
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: the figure cannot be written: {reason(error)}") from None
