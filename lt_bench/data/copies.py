"""Images that are there twice under other names: their pixels are equal, whatever format or metadata they are kept in.

What was resized or compressed anew is another image here. A network that has seen a copy of a test image knows its
answer by heart, so that accuracy on it says nothing; copies in one class make it larger than it is.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping
from typing import NamedTuple

PARTS = ("test", "validation", "train")
"""In the order in which a copy belongs to the earlier one."""
IN_TWO_CLASSES = "images of two classes"


class Copy(NamedTuple):
    """An image, the one whose pixels it has, and what that makes it, such as `copies of test images`."""

    file: str
    of: str
    what: str

    @property
    def told(self) -> str:
        return f"{self.file} ({self.of})"


def copies(parts: Mapping[str, Iterable[tuple[Hashable, str]]], digests: Mapping[str, bytes]) -> Iterator[Copy]:
    """The images of classes and files by part that repeat an earlier one, test images first. Digests are of pixels.

    Of the images of one part that are equal, the first of each class is told as one of two classes, all others of that
    class as copies within it.
    """
    seen: dict[bytes, dict[tuple[str, Hashable], str]] = {}
    for part in (part for part in PARTS if part in parts):
        for label, file in parts[part]:
            places = seen.setdefault(digests[file], {})
            here, earlier = (part, label), dict(places)
            places.setdefault(here, file)
            if elsewhere := next((of for of in earlier if of[0] != part), None):
                yield Copy(file, earlier[elsewhere], f"copies of {elsewhere[0]} images")
            elif here in earlier:
                yield Copy(file, earlier[here], "copies of an image of their class")
            elif earlier:
                yield Copy(file, next(iter(earlier.values())), IN_TWO_CLASSES)
