"""Pictures of no class, in a folder of the user's, that a mix lays over images."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from PIL import Image
from pydantic import BeforeValidator, Field, model_validator
from torch import Tensor

from lt_bench.data.decoding import UnreadableError, read_rgb
from lt_bench.data.loose_files import image_files
from lt_bench.errors import UserError
from lt_bench.files import in_words as system_words
from lt_bench.files import sha256_of
from lt_bench.settings import Line, Settings
from lt_bench.validation import in_words


class Pictures(Settings):
    """All images in a folder and below it."""

    folder: Line
    sha256: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")
    """Of their names and bytes, filled in when a recipe is read."""

    @model_validator(mode="before")
    @classmethod
    def _with_sha256(cls, given: Any) -> Any:
        if isinstance(given, dict) and isinstance(given.get("folder"), str) and given.get("sha256") is None:
            return {**given, "sha256": _digest(Path(given["folder"]))}
        return given

    def scaled(self, side: int) -> list[Tensor]:
        """They in the order of their names, uint8 [3, h, w], the shorter of h and w being `side`.

        Raises UserError for a picture that cannot be read, and for others than the recipe was read with.
        """
        return _scaled(self, side)


def _named(given: Any) -> Any:
    """`pictures: FOLDER` means the images in it."""
    return {"folder": given} if isinstance(given, str) else given


GivenPictures = Annotated[Pictures | None, BeforeValidator(_named)]
"""The type of a setting."""


def _digest(folder: Path) -> str:
    if not folder.is_dir():
        raise in_words(f"{folder}: there is no such folder of pictures")
    try:
        found = [
            f"{Path(file).relative_to(folder).as_posix()} {sha256_of(Path(file))}\n" for file in image_files(folder)
        ]
    except UserError as error:
        raise in_words(str(error)) from None
    except OSError as error:
        raise in_words(f"{folder}: {system_words(error)}") from None
    return hashlib.sha256("".join(found).encode()).hexdigest()


@cache
def _scaled(pictures: Pictures, side: int) -> list[Tensor]:
    folder = Path(pictures.folder)
    if _digest(folder) != pictures.sha256:
        raise UserError(f"mix.pictures: {folder} holds other pictures than the recipe was read with")
    return [_at(Path(file), side) for file in image_files(folder)]


def _at(file: Path, side: int) -> Tensor:
    """One picture, as torchvision's Resize has it."""
    try:
        picture = read_rgb(file)
    except (UnreadableError, OSError) as error:
        raise UserError(f"mix.pictures: {file}: {error}") from None
    shorter = min(picture.size)
    size = (side * picture.width // shorter, side * picture.height // shorter)
    scaled = picture.resize(size, Image.Resampling.BILINEAR)
    return torch.from_numpy(np.array(scaled)).permute(2, 0, 1).contiguous()
