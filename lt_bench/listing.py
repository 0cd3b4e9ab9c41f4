"""What a recipe may name, as rows for a table or for machines."""

from __future__ import annotations

from typing import Any

from lt_bench.data.cards import card_names, load_card
from lt_bench.errors import UserError, unknown
from lt_bench.recipe import load_recipe
from lt_bench.recipe_files import shipped_recipes
from lt_bench.registry import members

KINDS = {
    "methods": "method",
    "stages": "stage",
    "mixes": "mix",
    "losses": "loss",
    "samplers": "sampler",
    "heads": "head",
    "backbones": "backbone",
}


def listing(what: str) -> list[dict[str, Any]]:
    """Rows for one of the words above, or `models`, `datasets`, `recipes`."""
    if what == "datasets":
        return [_dataset(name) for name in card_names()]
    if what == "recipes":
        return [_recipe(f"{path.parent.name}/{path.stem}") for path in shipped_recipes()]
    if what == "models":
        return listing("backbones") + listing("heads")
    if what not in KINDS:
        raise UserError(unknown("list", what, (*KINDS, "models", "datasets", "recipes")))
    rows = []
    for name, component in sorted(members(KINDS[what]).items()):
        info = component.info
        settings = ", ".join(component.Config.model_fields)
        rows.append(
            {"name": name, "summary": info.summary, "settings": settings, "paper": info.paper, "cost": info.cost}
        )
    return rows


def _dataset(name: str) -> dict[str, Any]:
    card = load_card(name)
    return {"name": name, "title": card.title, "classes": card.classes, "licence": card.licence}


def _recipe(name: str) -> dict[str, Any]:
    recipe = load_recipe(name)
    protocol = recipe.protocol
    return {"name": name, "protocol": protocol.name, "epochs": protocol.epochs, "backbone": recipe.model.backbone}
