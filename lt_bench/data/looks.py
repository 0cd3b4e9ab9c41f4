"""How the images of a data set are shown to a network, as its card says."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from lt_bench.settings import Settings

Mean = Annotated[float, Field(ge=0, le=1)]
Deviation = Annotated[float, Field(gt=0, le=1)]


class Looks(Settings):
    """What of a card belongs to the identity of a run, and is kept with its weights."""

    mean: tuple[Mean, Mean, Mean]
    """Of red, green and blue, where 1 is the brightest."""
    std: tuple[Deviation, Deviation, Deviation]
    flip: bool
    """Whether a mirrored image still belongs to its class."""
