"""What to cite: the papers of a method, of its data set, and the suite itself."""

from __future__ import annotations

from functools import reduce
from pathlib import Path
from typing import Any

from lt_bench.bibliography import Papers, entry, joined, latex, named
from lt_bench.data.cards import card_names, load_card
from lt_bench.recipe.files import Node, Origin, is_record, is_resolved, locate, shipped
from lt_bench.recipe.layers import chain, merge, papers, papers_of
from lt_bench.resources import resource_folder
from lt_bench.yaml_files import read_yaml

CFF = "CITATION.cff"


def cited(name: str) -> Papers:
    """The papers of METHOD, SETTING/METHOD, a recipe's file or a record: first the method's, then its data set's.

    A resolved recipe says as little of papers as a record: those of the shipped method of its name.

    Raises UserError with the nearest valid name.
    """
    if is_record(name):
        return _of_record(Path(name))
    origin = Origin(shipped()[name]) if name in shipped() else locate(name)
    if is_resolved(origin):
        return _of_resolved(origin.method)
    files = chain(origin)
    data: Node = reduce(merge, (node["data"] for _, node in files if isinstance(node.get("data"), dict)), {})
    return joined([papers(files), _of_dataset(data["name"]) if "name" in data else {}])


def described(found: Papers) -> list[dict[str, Any]]:
    """Papers for machines: facts, link, short citation and BibTeX."""
    return [
        {"key": key, **paper.model_dump(mode="json"), "link": paper.link, "citation": paper.citation}
        | {"bibtex": paper.bibtex(key)}
        for key, paper in found.items()
    ]


def suite() -> dict[str, str]:
    """The suite itself, for machines, from the facts of its CITATION.cff."""
    facts = read_yaml(resource_folder("recipes").parent / CFF)
    title, version, licence = (str(facts[name]) for name in ("title", "version", "license"))
    authors = " and ".join(f"{{{latex(author['name'])}}}" for author in facts["authors"])
    note = latex(f"Version {version}, {licence} licence")
    bibtex = entry("misc", "lt-bench", {"title": f"{{{latex(title)}}}", "author": authors, "note": note})
    return {"key": "lt-bench", "title": title, "version": version, "bibtex": bibtex}


def _of_record(path: Path) -> Papers:
    from lt_bench.leaderboard.record import load_record  # noqa: PLC0415 (imports what tables are made with)

    record = load_record(path)
    other = bool(record.recipe.get("plugins") or record.external)
    return _of_run(record.recipe_name, record.dataset.name, other)


def _of_resolved(path: Path) -> Papers:
    from lt_bench.recipe.loading import load_recipe  # noqa: PLC0415 (imports torch)

    recipe = load_recipe(path)
    return _of_run(recipe.name, recipe.data.name, bool(recipe.plugins))


def _of_run(name: str, dataset: str, other: bool) -> Papers:
    """Those of the shipped method, unless a plug-in or another program is run, and of its data set if that ships."""
    method = {} if other else papers_of(name)
    return joined([method, _of_dataset(dataset) if dataset in card_names() else {}])


def _of_dataset(name: str) -> Papers:
    """Those that the card of a data set names."""
    return named(load_card(name).papers, Path(name))
