"""Where the images of a set come from, one by one: from files, or from memory."""

from __future__ import annotations

import io
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from PIL import Image

from lt_bench.data.arrays import ArrayPart, Pixels, cache_folder
from lt_bench.data.decoding import UnreadableError, open_image
from lt_bench.data.folder import FilePart
from lt_bench.data.packed import Source, source_of
from lt_bench.data.reading import reason


class Picture(NamedTuple):
    """One image before it is decoded."""

    image: Image.Image
    data: bytes = b""
    """Of its file, where it has one."""


class Pictures(Protocol):
    """The images of a part; positions 0..N-1 name them."""

    def open(self, position: int) -> Picture:
        """One of them. Raises UnreadableError that names it."""
        ...

    def expect(self, positions: Iterable[int]) -> None:
        """Say which ones are about to be opened."""
        ...

    def unreadable(self, position: int, error: Exception) -> UnreadableError:
        """What to raise for an image that cannot be opened or decoded: one line with its name."""
        ...


def pictures_of(part: FilePart | ArrayPart) -> Pictures:
    """The images of a part, from the pack of its files where there is one."""
    if isinstance(part, ArrayPart):
        return InMemory(part.images)
    return InFiles(part, source_of(part, cache_folder(None)))


@dataclass(frozen=True)
class InFiles:
    """Image files, whose bytes come from a source."""

    part: FilePart
    source: Source

    def open(self, position: int) -> Picture:
        try:
            data = self.source.read(position)
            return Picture(open_image(io.BytesIO(data)), data)
        except (UnreadableError, OSError) as error:
            raise self.unreadable(position, error) from None

    def expect(self, positions: Iterable[int]) -> None:
        self.source.expect(positions)

    def unreadable(self, position: int, error: Exception) -> UnreadableError:
        name = self.part.folder / self.part.files[position]
        return UnreadableError(f"{name}: not a readable image: {reason(error)}")


@dataclass(frozen=True)
class InMemory:
    """Images uint8 [N, H, W, 3] in RGB."""

    images: Pixels

    def open(self, position: int) -> Picture:
        return Picture(Image.fromarray(self.images[position]))

    def expect(self, positions: Iterable[int]) -> None:
        pass

    def unreadable(self, position: int, error: Exception) -> UnreadableError:
        return UnreadableError(f"image {position}: not a readable image: {reason(error)}")
