"""Revisions of components: what a shipped one once computed wrongly, and how its runs are told from those since.

A component whose code is corrected so that it computes something else gets one more correction in the table below.
From then on the node that names it in a resolved recipe says which `revision` it is, so that new runs have another
identity and recorded ones keep theirs. On the board a run by an earlier revision is shown, marked, and not ranked.
What only rounds differently is no correction.

A backbone is a bare word in a recipe: a corrected one gets another name.
"""

from __future__ import annotations

from collections.abc import Iterator, Set
from dataclasses import dataclass
from typing import Any

from lt_bench.nodes import Node, items, mapping


@dataclass(frozen=True)
class Correction:
    """Why the runs of the revision before it do not count."""

    date: str
    """ISO 8601, of the correction."""
    what: str
    """What was wrong, as a clause in the past tense; it stands below the tables."""


CORRECTIONS: dict[tuple[str, str], tuple[Correction, ...]] = {
    ("augment", "grid-mask"): (
        Correction("2026-11-29", "no bar lay before the first whole square, where too much was deleted"),
    ),
    ("mix", "tokenmix"): (
        Correction("2026-11-29", "tokens were an eighth of a small image's side whatever the network's own were"),
    ),
    ("method", "glmc"): (
        Correction("2026-11-28", "the CutMix box was one pixel too large where its side is an odd number of pixels"),
    ),
    ("method", "trades-cutmix-wa"): (
        Correction("2026-11-30", "each of the four parts of a batch had a box and an order of partners of its own"),
    ),
}
"""By kind and name, from the first to the latest: the code is at revision 1 plus their number."""


def with_revision(kind: str, node: dict[str, Any]) -> dict[str, Any]:
    """The node of a shipped component as a resolved recipe holds it: with its revision once it has been corrected."""
    corrections = CORRECTIONS.get((kind, node["name"]))
    return {**node, "revision": 1 + len(corrections)} if corrections else node


def settings_of(kind: str, node: Node) -> dict[str, Any]:
    """What a node of a resolved recipe says beside the component's name and revision."""
    apart = ("name", "revision") if (kind, node["name"]) in CORRECTIONS else ("name",)
    return {key: value for key, value in node.items() if key not in apart}


def superseded(recipe: Node) -> str | None:
    """What has been corrected since a recorded recipe was run, None where nothing has."""
    kinds = {kind for kind, _ in CORRECTIONS}  # ten thousand records are asked
    reasons = [
        f"{node['name']}: {correction.what} (corrected on {correction.date})"
        for kind, node in _components(recipe, kinds)
        for correction in _later(kind, node)
    ]
    return "; ".join(dict.fromkeys(reasons)) or None


def _later(kind: str, node: Node) -> tuple[Correction, ...]:
    """The corrections that came after the revision a node names."""
    name = node.get("name")
    known = CORRECTIONS.get((kind, name), ()) if isinstance(name, str) else ()
    if not known:
        return known
    revision = node.get("revision", 1)
    return known[max(0, revision - 1) :] if isinstance(revision, int) else known


def _components(recipe: Node, kinds: Set[str]) -> Iterator[tuple[str, Node]]:
    """All nodes of such kinds in a recorded recipe. A record may hold anything: what is no node is left out."""
    if "method" in kinds:
        yield "method", mapping(recipe.get("method"))
    if "head" in kinds:
        yield "head", mapping(mapping(recipe.get("model")).get("head"))
    seen = [mapping(recipe.get("protocol")).get("augmentation"), *mapping(recipe.get("views")).values()]
    for kind, several in (
        ("augment", recipe.get("augment")),
        *(("augment", mapping(one).get("then")) for one in seen),
        ("regularise", recipe.get("regularise")),
    ):
        if kind in kinds:
            yield from ((kind, {"name": name, **mapping(node)}) for name, node in mapping(several).items())
    parts = [*items(recipe.get("phases")), recipe.get("second_stage")]
    for kind in kinds & {"sampler", "mix", "loss", "stage"}:
        for part in parts:
            node = mapping(mapping(part).get(kind))
            yield kind, node
            if kind == "mix":  # which may choose partners for another
                yield kind, mapping(node.get("generator"))
