"""Mixes in front of another, their generator: what they hand on, and how a recipe names it.

A generator is another mix with its settings or, where a mix says so, one of two words.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any, Literal, get_args

from pydantic import BeforeValidator
from torch import Tensor

from lt_bench.corrections import settings_of, with_revision
from lt_bench.data.types import Batch, ClassStats, Epoch, IntArray, Step
from lt_bench.errors import shown, unknown
from lt_bench.mixing import Mix, Mixed, Objective
from lt_bench.models.network import Network
from lt_bench.plugins import plugin_digest
from lt_bench.registry import lookup, members
from lt_bench.validation import in_words, validated_inside

Word = Literal["mixup", "cutmix"]
"""Ways of mixing whose settings stand beside the word, not inside it."""


class InFront(Mix):
    """A mix that changes something about another one, named by its setting `generator`, which does the rest."""

    config: Any
    generator: Mix
    timing = "the epochs of its generator {generator}"

    @classmethod
    def active_epochs(cls, config: Any, epochs: range, total: int) -> range:
        return generator_epochs(config.generator, epochs, total)

    @classmethod
    def reads_views(cls, config: Any) -> bool:
        return generator_reads_views(config.generator)

    def prepare(self, stats: ClassStats) -> None:
        self.generator = build_generator(self.config.generator, stats)

    def partner_order(self, order: IntArray, labels: IntArray, epoch: Epoch) -> IntArray | None:
        return self.generator.partner_order(order, labels, epoch)

    def forward(self, batch: Batch, partner: Batch | None, step: Step) -> Mixed:
        mixed: Mixed = self.generator(batch, partner, step)
        return mixed

    def loss(self, objective: Objective, batch: Batch, partner: Batch | None, step: Step) -> Tensor:
        return self.generator.loss(objective, batch, partner, step)

    def attach(self, network: Network) -> None:
        self.generator.attach(network)

    def after_step(self, network: Network, step: Step) -> None:
        self.generator.after_step(network, step)

    def end_epoch(self, predict: Callable[[Tensor], Tensor], clean: Callable[[], Iterable[Batch]]) -> None:
        self.generator.end_epoch(predict, clean)

    def diagnostics(self) -> Mapping[str, Tensor]:
        return self.generator.diagnostics()


def named(given: Any) -> Any:
    """A generator of which a bare word is the name of a mix. Raises one of pydantic's errors."""
    return complete({"name": given} if isinstance(given, str) else given)


def pair_mix(given: Any) -> Any:
    """The same of a mix whose images have two labels with shares, and whose loss is only that of these."""
    node = named(given)
    mix = lookup("mix", node["name"])
    if mix.loss is not Mix.loss:
        raise in_words(f"{node['name']} says its loss itself")
    if not mix.of_two_labels:
        raise in_words(f"{node['name']} has other targets than two labels whose shares sum to 1")
    return node


def complete(given: Any) -> Any:
    """A generator as a recipe may write it, resolved: a word as it is, a mix with all its settings.

    A mapping is never a word: `{name: cutmix}` is the mix of that name, with a coin of its own. One without a
    name means mixup, as an override of one setting does elsewhere. Raises one of pydantic's errors.
    """
    if isinstance(given, str) and given in get_args(Word):
        return given
    settings = {"name": given} if isinstance(given, str) else given
    if not isinstance(settings, dict):
        raise in_words(f"expected a name or a mapping with a name, found {shown(given)}")
    settings = dict(settings)
    component = _allowed(settings.pop("name", "mixup"))
    # A resolved mapping comes by here too.
    settings = settings_of("mix", {"name": component.name, **settings})
    config = validated_inside(component.Config, settings, component.name)
    return with_revision("mix", {"name": component.name, **config.model_dump(mode="json")})


Generator = Annotated[Word | dict[str, Any], BeforeValidator(complete)]
"""The type of a setting. Its value, once validated, is a word or what `build_generator` takes."""
GeneratorMix = Annotated[dict[str, Any], BeforeValidator(named)]
"""The same without the words."""


def build_generator(node: dict[str, Any], stats: ClassStats) -> Mix:
    """The mix that a resolved mapping names."""
    component, config = _looked_up(node)
    return component(stats, config)


def generator_epochs(node: dict[str, Any], epochs: range, total: int) -> range:
    """Those of `epochs` in which the mix that a resolved mapping names acts."""
    component, config = _looked_up(node)
    return component.active_epochs(config, epochs, total)


def generator_reads_views(node: dict[str, Any]) -> bool:
    """Whether the mix that a resolved mapping names needs views."""
    component, config = _looked_up(node)
    return component.reads_views(config)


def _looked_up(node: dict[str, Any]) -> tuple[type[Mix], Any]:
    component: type[Mix] = lookup("mix", node["name"])
    return component, component.Config.read(settings_of("mix", node))


def _allowed(name: Any) -> type[Mix]:
    """The mix called `name`, unless it cannot be a generator."""
    mixes: dict[str, Any] = members("mix")
    component = mixes.get(name) if isinstance(name, str) else None
    if component is None:
        allowed = [known for known, mix in mixes.items() if _refusal(mix) is None]
        raise in_words(unknown("generator", str(name), allowed))
    if (reason := _refusal(component)) is not None:
        raise in_words(f"{name} cannot be a generator: {reason}")
    found: type[Mix] = component
    return found


def _refusal(component: type[Mix]) -> str | None:
    """Why partners cannot be chosen for a mix."""
    if plugin_digest(component) is not None:
        return "it comes from a plug-in, whose sha256 the identity of a run holds for a mix of its own only"
    return component.refuses_partners
