"""Pictures of no class, in a folder of the user's, that a mix lays over images."""

from __future__ import annotations

import hashlib
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
            try:
                return {**given, "sha256": _digest(Path(given["folder"]))}
            except UserError as error:
                raise in_words(str(error)) from None
        return given

    def check(self) -> None:
        """Raise UserError where they are not those that the recipe was read with."""
        try:
            found = _digest(Path(self.folder))
        except UserError as error:
            raise UserError(f"mix.pictures: {error}") from None
        if found != self.sha256:
            raise UserError(f"mix.pictures: {self.folder} holds other pictures than the recipe was read with")

    def scaled(self, side: int) -> tuple[Tensor, ...]:
        """They in the order of their names, uint8 [3, h, w], the shorter of h and w being `side`.

        Raises UserError as `check` does, and for a picture that cannot be read.
        """
        self.check()
        return tuple(_at(Path(file), side) for file in image_files(Path(self.folder)))


def _named(given: Any) -> Any:
    """`pictures: FOLDER` means the images in it."""
    return {"folder": given} if isinstance(given, str) else given


GivenPictures = Annotated[Pictures | None, BeforeValidator(_named)]
"""The type of a setting."""


def _digest(folder: Path) -> str:
    """Of the names and bytes of all images. Raises UserError where there are none, or one cannot be read."""
    try:
        if not folder.is_dir():
            raise UserError(f"{folder}: there is no such folder of pictures")
        files = [Path(file) for file in image_files(folder)]
        found = [f"{file.relative_to(folder).as_posix()} {sha256_of(file)}\n" for file in files]
    except OSError as error:
        raise UserError(f"{folder}: {system_words(error)}") from None
    return hashlib.sha256("".join(found).encode()).hexdigest()


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
