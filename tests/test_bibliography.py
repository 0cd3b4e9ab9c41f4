"""Papers: their facts are complete, their links have the right form, and their BibTeX holds whatever a title says."""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path
from typing import Any

import pytest

from lt_bench.bibliography import FILE, Paper, joined, named, shipped_papers
from lt_bench.data.cards import card_names, load_card
from lt_bench.errors import UserError
from lt_bench.recipe.files import Origin, shipped
from lt_bench.recipe.layers import chain, papers
from lt_bench.resources import resource_folder
from lt_bench.yaml_files import read_yaml

OWN: dict[str, Any] = {"title": "Tails", "authors": ["Doe, Jane"], "venue": "CVPR", "year": 2026}
NO_PAPER = {"ce", "csce", "class-balanced-sampling"}
"""Older than any paper that would propose them."""
NEEDED = {
    "inproceedings": {"title", "author", "booktitle", "year"},
    "article": {"title", "author", "journal", "year"},
    "misc": {"title", "author", "howpublished", "year"},
}


def parsed(text: str) -> dict[str, tuple[str, dict[str, str]]]:
    """Type and fields of each entry by key, taken apart as BibTeX does: it counts braces, escaped ones too."""
    found = {}
    for kind, key, body in re.findall(r"^@(\w+)\{([^\s,{}]+),\n(.*?)^\}$", text, re.M | re.S):
        fields = dict(re.findall(r"^  (\w+) = \{(.*)\},$", body, re.M))
        assert len(fields) == len(body.splitlines())
        assert key not in found
        found[key] = kind, fields
    for _, fields in found.values():
        for value in fields.values():
            depths = [value[: end + 1].count("{") - value[: end + 1].count("}") for end in range(len(value))]
            assert min(depths) >= 0, value
            assert depths[-1] == 0, value
    assert len(found) == len(re.findall("^@", text, re.M))
    return found


def test_every_method_has_its_papers_and_every_paper_is_needed() -> None:
    found = {method: papers(chain(Origin(path))) for method, path in shipped().items()}
    assert {method for method, of_it in found.items() if not of_it} == NO_PAPER
    of_data = {key for name in card_names() for key in named(load_card(name).papers, Path(name))}
    assert all(load_card(name).papers for name in card_names())
    assert {key for of_it in found.values() for key in of_it} | of_data == set(shipped_papers())
    assert list(found["cmo-ldam-drw"]) == ["park-2022-cmo", "cao-2019-ldam"]
    assert list(found["dbn-mix-reverse"]) == ["baik-2024-dbn-mix"]  # what it extends
    assert list(found["crt"]) == ["kang-2020-decoupling"]


def test_the_file_is_sorted_by_keys_that_say_who_and_when() -> None:
    keys = list(read_yaml(resource_folder("recipes") / FILE))
    assert keys == sorted(keys)
    for key, paper in shipped_papers().items():
        family = paper.authors[0].partition(",")[0].lower().replace(" ", "-")
        family = unicodedata.normalize("NFKD", family).encode("ascii", "ignore").decode()
        assert re.fullmatch(rf"{family}-{paper.year}-[a-z0-9-]+", key)
    every = list(shipped_papers().values())
    for facts in ("title", "arxiv", "doi"):
        given = [value for paper in every if (value := getattr(paper, facts))]
        assert len(set(given)) == len(given)
    assert FILE.removesuffix(".yaml") not in shipped()


def test_every_paper_has_a_link_and_a_whole_entry() -> None:
    text = "\n\n".join(paper.bibtex(key) for key, paper in shipped_papers().items())
    found = parsed(text)
    assert set(found) == set(shipped_papers())
    for kind, fields in found.values():
        assert NEEDED[kind] | {"url"} <= set(fields)
        known = r"https://(arxiv\.org/abs/\d{4}\.\d{4,5}|doi\.org/10\.\S+|(www|jmlr|cs231n)\.\S+)"
        assert re.fullmatch(known, fields["url"])
        assert ("eprint" in fields) == ("archiveprefix" in fields)


def test_a_paper_by_hand() -> None:
    ldam = shipped_papers()["cao-2019-ldam"]
    assert (ldam.citation, ldam.link) == ("Cao et al., NeurIPS 2019", "https://arxiv.org/abs/1906.07413")
    kind, fields = parsed(ldam.bibtex("cao-2019-ldam"))["cao-2019-ldam"]
    assert kind == "inproceedings"
    assert fields == {
        "title": "{Learning Imbalanced Datasets with Label-Distribution-Aware Margin Loss}",
        "author": "Cao, Kaidi and Wei, Colin and Gaidon, Adrien and Arechiga, Nikos and Ma, Tengyu",
        "booktitle": "NeurIPS",
        "year": "2019",
        "eprint": "1906.07413",
        "archiveprefix": "arXiv",
        "url": "https://arxiv.org/abs/1906.07413",
    }
    assert "journal = {TPAMI}" in shipped_papers()["cui-2023-reslt"].bibtex("k")
    assert shipped_papers()["russakovsky-2015-imagenet"].link == "https://doi.org/10.1007/s11263-015-0816-y"


@pytest.mark.parametrize(
    ("authors", "citation"),
    [
        (["Doe, Jane"], "Doe, CVPR 2026"),
        (["Doe, Jane", "Sanchez Aimar, E."], "Doe and Sanchez Aimar, CVPR 2026"),
        (["Doe, Jane", "others"], "Doe et al., CVPR 2026"),
        (["A group of people"], "A group of people, CVPR 2026"),
    ],
)
def test_short_citations(authors: list[str], citation: str) -> None:
    assert Paper.read(OWN | {"authors": authors}).citation == citation


HOSTILE = r"100% \textbf{Mix} of }a{ & #1 $x_i$ ~ ^ \ ], } @misc{evil, | [x](y) \input{/etc/passwd}"


def test_no_text_of_one_s_own_breaks_the_file() -> None:
    facts = {"title": HOSTILE, "authors": [HOSTILE, "Doe and Son, J.", "others"], "venue": HOSTILE}
    paper = Paper.read(OWN | facts)
    (fields,) = (fields for _, fields in parsed(paper.bibtex("key")).values())
    for value in (fields["title"], fields["author"], fields["booktitle"]):
        assert not re.search(r"\\(textbf|input)|(?<!\\)[%&#$_]", value)
    assert fields["author"].endswith("} and {Doe and Son, J.} and others")
    assert fields["title"].startswith(r"{100\% \textbackslash{}textbf\textbraceleft{}Mix\textbraceright{} of ")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"title": "two\nlines"}, "title"),
        ({"authors": []}, "authors"),
        ({"year": "2026"}, "year"),
        ({"arxiv": 1906.07413}, "arxiv: should be a valid string, found 1906.07413"),
        ({"arxiv": "1906.07413)"}, "arxiv"),
        ({"doi": "10.1/a}b"}, "doi"),
        ({"url": "javascript:alert(1)"}, "url"),
        ({"url": "https://a.org/x) [y](z"}, "url"),
        ({"titel": "Tails"}, "did you mean title?"),
    ],
)
def test_what_no_paper_can_be_is_refused_in_one_line(change: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError) as refused:
        named([OWN | change], Path("mine.yaml"))
    assert str(refused.value).startswith("mine.yaml: ")
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_wrong_key_is_answered_with_the_nearest() -> None:
    with pytest.raises(UserError, match=r"mine\.yaml: papers\.0: 'cao-2019-ldma' .*did you mean cao-2019-ldam\?"):
        named(["cao-2019-ldma"], Path("mine.yaml"))
    with pytest.raises(UserError, match="papers: expected a list of keys such as"):
        named("cao-2019-ldam", Path("mine.yaml"))


def test_papers_of_one_s_own_get_keys_that_nothing_else_has() -> None:
    accented = OWN | {"title": "Über {tails}\\", "authors": ["Gonzále$z}, J."]}
    found = named([OWN, OWN | {"venue": "ICCV"}, OWN, accented, "cao-2019-ldam"], Path("mine.yaml"))
    assert list(found) == ["doe-2026-tails", "doe-2026-tails-b", "gonzale-z-2026-uber", "cao-2019-ldam"]
    assert joined([found, found]) == found
    assert Paper.read(OWN | {"doi": "10.1016/S0031-3203(01)00178-9"}).link == (
        "https://doi.org/10.1016/S0031-3203%2801%2900178-9"
    )
