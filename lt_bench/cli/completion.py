"""What the shell offers for a word of the command line that has been begun. Nothing here waits for torch."""

from __future__ import annotations


def recipes(incomplete: str) -> list[str]:
    """Names of recipes; or of settings to override, `key=`, and for `protocol=` the protocols."""
    from lt_bench.recipe.files import PROTOCOLS, own_protocols, own_recipes, own_settings, shipped, shipped_recipes

    if incomplete.startswith("protocol="):
        return _beginning(incomplete, [f"protocol={name}" for name in (*own_protocols(), *shipped(PROTOCOLS))])
    own = [name for setting in own_settings() for name in own_recipes(setting)]
    return _beginning(incomplete, [*own, *shipped_recipes()]) or _beginning(incomplete, _keys())


def _keys() -> list[str]:
    from lt_bench.recipe.hints import BLOCKS
    from lt_bench.validation import paths

    return ["protocol=", *(f"{path}=" for field, block in BLOCKS.items() for path in paths(block, field))]


def data_sets(incomplete: str) -> list[str]:
    """Names of data sets, those of the working folder first."""
    from lt_bench.data.cards import card_names, own_names

    return _beginning(incomplete, [*own_names(), *card_names()])


def protocols(incomplete: str) -> list[str]:
    """Names of the protocols that ship."""
    from lt_bench.recipe.files import PROTOCOLS, shipped

    return _beginning(incomplete, list(shipped(PROTOCOLS)))


def trackers(incomplete: str) -> list[str]:
    """What `--track` can name."""
    from lt_bench.training.tracking import TRACKERS

    return _beginning(incomplete, list(TRACKERS))


def engines(incomplete: str) -> list[str]:
    """What `--on` can name."""
    from lt_bench.sweep.engines import ENGINES

    return _beginning(incomplete, [name for name in ENGINES if name.islower()])


def lists(incomplete: str) -> list[str]:
    """What `list` can list."""
    from lt_bench.listing import KINDS, OTHERS

    return _beginning(incomplete, [*OTHERS, *KINDS])


def _beginning(incomplete: str, names: list[str]) -> list[str]:
    return [name for name in names if name.startswith(incomplete)]
