"""A classifier begins as what a text encoder makes of the names of the classes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, model_validator
from torch import Tensor

from lt_bench.data.class_names import ClassFile
from lt_bench.errors import UserError
from lt_bench.files import sha256_of
from lt_bench.models.starts import Given, Start
from lt_bench.registry import Info
from lt_bench.settings import Line
from lt_bench.validation import in_words

WORDNET = re.compile(r"n\d{8}")
LETTER = re.compile(r"^[a-z]/")
"""The folder that Places365 sorts a class into."""
KEY = re.compile(r" \(n\d{8}\)$")
"""What tells the two cranes of ImageNet apart."""


class Text(Start):
    """The semantic-aware start of LIFT (Shi et al., ICML 2024): w_k = unit(P t_k), P being CLIP's image projection.

    t_k is the unit vector of "a photo of a {name}.", in which underscores are spaces. <f, P t> is <f P, t>, so this is
    near zero-shot classification, but for a factor 1 / |P t_k| of each class: not the same. On a backbone that
    projects its features w_k is t_k, and cosines are those of zero-shot classification.
    """

    name = "text"
    info = Info("text vectors of the names of the classes", "Shi et al., ICML 2024", 2024)
    reads_text = True

    class Config(Start.Config):
        """What is said of a class."""

        prompt: Literal["photo", "name", "imagenet"] = "photo"
        """`photo`: "a photo of a {name}."; `name`: the name alone; `imagenet`: OpenAI's 80 sentences for ImageNet,
        whose unit vectors are averaged."""
        names: Line | None = None
        """A text file of names, one a line, in the order of the labels. None: those of the data set, and OpenAI's,
        chosen for CLIP, where they are the thousand WordNet ids of ImageNet."""
        names_sha256: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")
        """Of that file, filled in when a recipe is read."""

        @model_validator(mode="after")
        def _with_digest(self) -> Self:
            if self.names is None or self.names_sha256 is not None:
                return self
            try:
                digest = sha256_of(Path(self.names))
            except OSError as error:
                raise in_words(f"names: {self.names}: {error.strerror}") from None
            return self.model_copy(update={"names_sha256": digest})

    def directions(self, given: Given) -> Tensor:
        names = self.names(given.class_names)
        return given.backbone.text_vectors([self.sentences(name) for name in names], given.device)

    def check(self, class_names: Sequence[str]) -> None:
        self.names(class_names)

    def names(self, of_the_data: Sequence[str]) -> Sequence[str]:
        """What the classes are called, in words. Raises UserError where that cannot be known."""
        return [spelled(name) for name in self._said(of_the_data)]

    def _said(self, of_the_data: Sequence[str]) -> Sequence[str]:
        if self.config.names is None:
            return known(of_the_data)
        path = Path(self.config.names)
        if sha256_of(path) != self.config.names_sha256:
            raise UserError(f"model.start.names: {path} is another file than the recipe was read with")
        return ClassFile(path, len(of_the_data)).names

    def sentences(self, name: str) -> Sequence[str]:
        """What is said of a class."""
        if self.config.prompt == "imagenet":
            from open_clip import OPENAI_IMAGENET_TEMPLATES  # noqa: PLC0415 (4 s)

            templates: Any = OPENAI_IMAGENET_TEMPLATES
            return [template(name) for template in templates]
        return [{"photo": f"a photo of a {name}.", "name": name}[self.config.prompt]]


def spelled(name: str) -> str:
    """A class's name as a text encoder reads it: `b/bakery/shop` of Places365 is "bakery shop"."""
    return re.sub(r"[_/]", " ", KEY.sub("", LETTER.sub("", name)))


def known(names: Sequence[str]) -> Sequence[str]:
    """The names of classes, those of ImageNet's ids among them. Raises UserError for numbers and other ids."""
    if all(map(WORDNET.fullmatch, names)):
        from open_clip import IMAGENET_CLASSNAMES  # noqa: PLC0415 (4 s)

        words: Sequence[str] = IMAGENET_CLASSNAMES
        if len(names) == len(words) and list(names) == sorted(names):
            return words
        unreadable = "WordNet ids"
    elif all(name.isdecimal() for name in names):
        unreadable = "numbers"
    else:
        return names
    raise UserError(f"model.start: the classes are called by {unreadable}; say model.start.names=FILE, a name a line")
