"""Papers: their facts in `recipes/papers.yaml`, and what is made of those: links, short citations, BibTeX."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import quote

from pydantic import Field

from lt_bench.errors import UserError, shown, unknown
from lt_bench.markdown import one_line
from lt_bench.resources import resource_folder
from lt_bench.settings import Line, Settings
from lt_bench.validation import validated
from lt_bench.yaml_files import read_yaml

FILE = "papers.yaml"
"""In the folder of the recipes."""
OTHERS = "others"
"""Stands last for the authors who are not named, as in BibTeX."""
PLACE = {"inproceedings": "booktitle", "article": "journal", "misc": "howpublished"}
"""What BibTeX calls the venue."""

ArxivId = Annotated[str, Field(pattern=r"^(\d{4}\.\d{4,5}|[a-z-]+(\.[A-Z]{2})?/\d{7})$")]
Doi = Annotated[str, Field(pattern=r"^10\.\d{4,9}/[^\s{}\\\"]+$", max_length=200)]
Url = Annotated[str, Field(pattern=r"^https?://[A-Za-z0-9_.~:/?#@!&*+,;=%-]+$", max_length=500)]
"""Without what could end a link in Markdown or a field in BibTeX."""

_LATEX = str.maketrans(
    {
        **{character: f"\\{character}" for character in "&%$#_"},
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        # BibTeX counts braces behind a backslash too.
        "{": r"\textbraceleft{}",
        "}": r"\textbraceright{}",
    }
)


class Paper(Settings):
    """What is known of one paper."""

    title: Line
    authors: tuple[Line, ...] = Field(min_length=1)
    """`Family, Given`; a name without a comma is that of a group."""
    venue: Line
    """Conference or journal as the field abbreviates it, or who published it."""
    year: int = Field(ge=1900, le=2100)
    type: Literal["inproceedings", "article", "misc"] = "inproceedings"
    arxiv: ArxivId | None = None
    doi: Doi | None = None
    url: Url | None = None

    @property
    def link(self) -> str | None:
        """Where it is read: arXiv before the publisher, whose page may cost money; safe inside Markdown."""
        if self.arxiv is not None:
            return f"https://arxiv.org/abs/{self.arxiv}"
        return self.url if self.doi is None else f"https://doi.org/{quote(self.doi, safe='/')}"

    @property
    def citation(self) -> str:
        """In a few words: `Cao et al., NeurIPS 2019`."""
        families = [author.partition(",")[0] for author in self.authors]
        two = len(families) == 2 and families[1] != OTHERS
        who = " and ".join(families) if two else families[0] + " et al." * (len(families) > 1)
        return f"{who}, {self.venue} {self.year}"

    def bibtex(self, key: str) -> str:
        """The entry of a .bib file, its title in braces that keep its capitals."""
        fields = {
            "title": f"{{{latex(self.title)}}}",
            "author": " and ".join(map(_author, self.authors)),
            PLACE[self.type]: latex(self.venue),
            "year": str(self.year),
            "eprint": self.arxiv,
            "archiveprefix": self.arxiv and "arXiv",
            "doi": self.doi,
            "url": self.link,
        }
        return entry(self.type, key, {name: value for name, value in fields.items() if value})


Papers = Mapping[str, Paper]
"""By their keys."""


@cache
def shipped_papers() -> Papers:
    """The papers that ship, by key."""
    path = resource_folder("recipes") / FILE
    return {key: validated(Paper, facts, path, key) for key, facts in read_yaml(path).items()}


def named(given: Any, path: Path) -> Papers:
    """What `papers` in the file at `path` names: keys of papers that ship, or papers of one's own with their facts.

    Raises UserError in one line with the nearest key.
    """
    if not isinstance(given, list | tuple):
        raise UserError(f"{path}: papers: expected a list of keys such as [cao-2019-ldam], found {shown(given)}")
    return joined(_named(one, path, f"papers.{index}") for index, one in enumerate(given))


def joined(every: Iterable[Papers]) -> Papers:
    """All of them, each once; of two that would share a key the later gets a longer one."""
    found: dict[str, Paper] = {}
    for papers in every:
        for key, paper in papers.items():
            free = key
            while found.get(free, paper) != paper:
                free += "-b"
            found[free] = paper
    return found


def entry(kind: str, key: str, fields: Mapping[str, str]) -> str:
    """A BibTeX entry of fields that are LaTeX already."""
    return "\n".join([f"@{kind}{{{key},", *(f"  {name} = {{{value}}}," for name, value in fields.items()), "}"])


def latex(text: str) -> str:
    """Text as LaTeX prints it, on one line and without a brace or command of its own."""
    return one_line(text).translate(_LATEX)


def _author(name: str) -> str:
    """A name as BibTeX takes it apart; one that it would take apart otherwise is a whole."""
    plain = re.fullmatch(r"[^,]+, [^,]+", name) and not re.search(r"\band\b", name, re.IGNORECASE)
    return latex(name) if plain or name == OTHERS else f"{{{latex(name)}}}"


def _named(given: Any, path: Path, field: str) -> Papers:
    if not isinstance(given, str):
        paper = validated(Paper, given, path, field)
        return {_key(paper): paper}
    if given not in shipped_papers():
        known = unknown("paper", given, shipped_papers()).split(" (allowed")[0]
        raise UserError(f"{path}: {field}: {known} ({FILE} has all; one of your own is a mapping with title and so on)")
    return {given: shipped_papers()[given]}


def _key(paper: Paper) -> str:
    """A key such as `doe-2026-tails`, of ASCII letters and digits alone."""
    words = (paper.authors[0].partition(",")[0], str(paper.year), paper.title.partition(" ")[0])
    plain = unicodedata.normalize("NFKD", "-".join(words)).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", plain).strip("-")
