"""What combines with what: the rules that a recipe has to keep, one function each.

A rule looks at a resolved recipe and its parts, and gives a complaint for each thing that cannot mean anything,
beginning with the field; the first one is told. Components say the facts (`uses`, `heads`, `takes_cosines`, ...), rules
compare them. `lt_bench.listing.fits` tells the same two by two, for the list of methods.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from lt_bench.corrections import with_revision
from lt_bench.data.cards import Card, load_card
from lt_bench.errors import UserError, unknown
from lt_bench.recipe.schema import PHASE_FAMILIES, Composition, Recipe, choice
from lt_bench.registry import lookup


@dataclass(frozen=True)
class Parts:
    """A recipe with the classes of the components that it names."""

    recipe: Recipe
    method: type[Any]
    head: type[Any]
    stage: type[Any] | None
    card: Card

    @classmethod
    def of(cls, recipe: Recipe) -> Parts:
        second = recipe.second_stage
        return cls(
            recipe,
            method=lookup("method", recipe.method["name"]),
            head=lookup("head", recipe.model.head["name"]),
            stage=None if second is None else lookup("stage", second.stage["name"]),
            card=load_card(recipe.data.name),
        )

    @property
    def with_loss(self) -> tuple[Composition, ...]:
        """What trains by a loss of the recipe: a second stage does, whatever its first stage's method brings."""
        recipe = self.recipe
        return recipe.compositions if "loss" in self.method.uses else recipe.compositions[len(recipe.phases) :]


def check(recipe: Recipe) -> None:
    """Raise UserError for the first rule that a recipe breaks."""
    parts = Parts.of(recipe)
    for rule in RULES:
        for complaint in rule(parts):
            raise UserError(complaint)


def _a_method_brings_its_own(parts: Parts) -> Iterator[str]:
    for kind in PHASE_FAMILIES:
        default = _default(kind)
        if kind not in parts.method.uses and any(getattr(phase, kind) != default for phase in parts.recipe.phases):
            yield f"{kind}: the method {parts.method.name} brings its own {kind}; remove this one"


def _a_stage_needs_its_head(parts: Parts) -> Iterator[str]:
    if parts.stage is not None and parts.head.name not in parts.stage.heads:
        needed = " or ".join(sorted(parts.stage.heads))
        yield f"second_stage: {parts.stage.name} starts from the head {needed}, found {parts.head.name}"


def _a_stage_that_trains_nothing_reads_nothing(parts: Parts) -> Iterator[str]:
    second = parts.recipe.second_stage
    if second is None or parts.stage is None or parts.recipe.training.epochs:
        return
    name = parts.stage.name
    for kind in PHASE_FAMILIES:
        node = getattr(second, kind)
        chosen = choice(kind, node)
        same = kind in parts.stage.goes_on_with and node == getattr(_last_phase(parts), kind)
        if same or node == _default(kind, parts.stage.defaults[kind]):
            continue
        if kind != "loss":
            yield f"second_stage.{kind}: {name} trains nothing; leave it out"
        elif not chosen.component.changes_scores(chosen.config):
            yield f"second_stage.loss: {name} trains nothing, and {node['name']} leaves the logits alone"


def _a_stage_that_goes_on_reads_as_before(parts: Parts) -> Iterator[str]:
    from lt_bench.methods import Method  # noqa: PLC0415 (torch, which no earlier refusal waits for)
    from lt_bench.methods.standard import Standard  # noqa: PLC0415

    if parts.stage is None or "loss" not in parts.stage.goes_on_with:
        return
    if parts.method.scores not in (Method.scores, Standard.scores):
        yield (
            f"second_stage: {parts.stage.name} reads the classifier by a loss, and the method {parts.method.name} has a"
            " way of its own to read it"
        )


def _a_class_prior_is_taken_off_once(parts: Parts) -> Iterator[str]:
    second = parts.recipe.second_stage
    if second is None or parts.stage is None or not parts.stage.keeps_classifier:
        return
    before, after = (choice("loss", part.loss) for part in (_last_phase(parts), second))
    if before.component.adjusts(before.config) and after.component.changes_scores(after.config):
        yield (
            f"second_stage.loss: {after.component.name} takes the class prior off, without which"
            f" {before.component.name} has learned the logits already"
        )


def _last_phase(parts: Parts) -> Composition:
    """What trained the classifier that a second stage starts from."""
    return (parts.recipe.first() or parts.recipe).phases[-1]


def _a_method_needs_its_head(parts: Parts) -> Iterator[str]:
    method, head = parts.method, parts.head
    if method.heads is not None and head.name not in method.heads:
        yield f"model.head: the method {method.name} needs {' or '.join(sorted(method.heads))}"
    if method.heads is None and head.has_training_layers:
        yield f"model.head: {head.name} has layers that the method {method.name} does not train"


def _images_are_augmented_as_their_kind(parts: Parts) -> Iterator[str]:
    try:
        parts.recipe.protocol.augmentation.check(parts.card)
    except UserError as error:
        yield f"protocol: {error}"


def of_no_stream(views: Iterable[object], method: type[Any]) -> Iterator[str]:
    """A complaint for each name of a view that is none of a stream which may have one."""
    for name in map(str, views):
        if not method.view_streams:
            yield f"views.{name}: the method {method.name} varies all its images alike; leave it out"
        elif name not in method.view_streams:
            yield f"views: {unknown(f'stream of the method {method.name}', name, method.view_streams)}"


def _views_are_of_streams_and_like_the_other_images(parts: Parts) -> Iterator[str]:
    """Batches of all streams go through one network, which is tested on images as the protocol has them."""
    yield from of_no_stream(parts.recipe.views, parts.method)
    card, usual = parts.card, parts.recipe.protocol.augmentation
    for name, view in parts.recipe.views.items():
        try:
            view.check(card)
        except UserError as error:
            yield f"views.{name}: {error}"
        if view.side(card) != usual.side(card):
            yield f"views.{name}: gives images of {view.side(card)} pixels, the protocol of {usual.side(card)}"
        if view.normalisation(card) != usual.normalisation(card):
            yield f"views.{name}: mean and std have to be the protocol's"
        for field in ("test_resize", "test_views"):
            if getattr(view, field) != type(view).model_fields[field].default:
                yield f"views.{name}.{field}: nothing is tested by it; leave it out"


def _an_augmentation_comes_once(parts: Parts) -> Iterator[str]:
    recipe = parts.recipe
    for name in sorted(recipe.augment.keys() & recipe.protocol.augmentation.steps().keys()):
        yield f"augment.{name}: the protocol {recipe.protocol.name} has it already"


def _a_regulariser_changes_something(parts: Parts) -> Iterator[str]:
    recipe = parts.recipe
    if "zero-init" in recipe.regularise and _pretrained(recipe.backbone_choice().config):
        yield "regularise.zero-init: the network starts from trained weights, of which it would undo a part"
    try:
        for regulariser in recipe.regularisers():
            regulariser.trained_under(recipe.protocol)
    except UserError as error:
        yield str(error)


def _a_tuner_has_a_pretrained_network(parts: Parts) -> Iterator[str]:
    recipe, tuner, start = parts.recipe, parts.recipe.tuner_choice(), parts.recipe.start_choice()
    for field, chosen in (("tuner", tuner), ("start", start)):
        if chosen is not None and not _pretrained(recipe.backbone_choice().config):
            yield (
                f"model.{field}: {chosen.component.name} needs pretrained weights; say model.backbone.pretrained, or "
                "model.backbone.weights=FILE"
            )


def _a_tuner_says_what_learns(parts: Parts) -> Iterator[str]:
    tuner = parts.recipe.tuner_choice()
    if tuner is None:
        return
    name = tuner.component.name
    if parts.recipe.model.trunk_lr_factor != 1:
        yield f"model.trunk_lr_factor: what learns is said by the tuner {name}; leave it at 1"
    if parts.method.freezes_parts:
        yield f"model.tuner: the method {parts.method.name} says itself what learns; leave {name} out"
    if parts.head.extends_stages:
        yield f"model.tuner: {parts.head.name} has fresh layers among the pretrained ones, which {name} would freeze"


def _a_classifier_can_begin_there(parts: Parts) -> Iterator[str]:
    start, backbone = parts.recipe.start_choice(), parts.recipe.backbone_choice()
    if start is None:
        return
    if start.component.reads_text and not backbone.component.reads_text:
        yield (
            f"model.start: {start.component.name} needs a backbone that reads text, such as "
            f"clip/ViT-B-16-quickgelu, found {backbone.component.name}"
        )
    if parts.head.name not in STARTED:
        yield f"model.start: is for the heads {', '.join(sorted(STARTED))}, found {parts.head.name}"


STARTED = frozenset({"linear", "cosine", "scaled-cosine"})
"""Heads of one classifier whose weight has a row for each class."""


def _pretrained(backbone: Any) -> bool:
    """Whether a backbone with these settings starts from trained weights."""
    return bool(getattr(backbone, "pretrained", None) or getattr(backbone, "weights", None))


def _a_network_fits_its_images(parts: Parts) -> Iterator[str]:
    recipe = parts.recipe
    backbone = recipe.backbone_choice()
    try:
        for protocol in (recipe.protocol, recipe.training):
            backbone.component(backbone.config).check_images(protocol.augmentation.side(parts.card))
    except UserError as error:
        yield str(error)


def _a_method_agrees_with_its_head_and_classes(parts: Parts) -> Iterator[str]:
    recipe = parts.recipe
    try:
        parts.method.check(choice("method", recipe.method).config, recipe.head_choice().config, parts.card.classes)
    except UserError as error:
        yield str(error)


def _a_loss_needs_its_kind_of_logits(parts: Parts) -> Iterator[str]:
    head = parts.head
    for part in parts.with_loss:
        loss = lookup("loss", part.loss["name"])
        if loss.takes_cosines and not head.gives_cosines:
            yield f"model.head: the loss {loss.name} needs the head cosine, found {head.name}"
        if head.gives_cosines and not loss.takes_cosines:
            yield f"model.head: {head.name} gives cosines in [-1, 1], too flat for {loss.name}"
        if loss.takes_features and not head.gives_features:
            yield f"model.head: the loss {loss.name} needs a head of one branch, found {head.name}"


def _a_method_that_arranges_batches_sees_images_once(parts: Parts) -> Iterator[str]:
    times = parts.recipe.protocol.repeated_augmentation
    if parts.method.arranges_batches and times > 1:
        yield f"protocol.repeated_augmentation: {parts.method.name} arranges batches itself; set it to 1, found {times}"
    if parts.method.arranges_batches and parts.recipe.training.batch_augmentation > 1:
        yield f"regularise.batch-augmentation: {parts.method.name} arranges batches itself, each image once"


def _a_method_that_learns_by_itself_does_so_in_every_batch(parts: Parts) -> Iterator[str]:
    accumulate = parts.recipe.protocol.accumulate
    if parts.method.learns_in_loss and accumulate > 1:
        yield (
            f"protocol.accumulate: the method {parts.method.name} moves weights in every batch itself, so that a step"
            f" is of one, found {accumulate}"
        )


def _a_mix_takes_a_whole_network_of_one_branch_apart(parts: Parts) -> Iterator[str]:
    recipe = parts.recipe
    for part in recipe.compositions:
        mix = lookup("mix", part.mix["name"])
        if not mix.one_branch:
            continue
        if part is recipe.second_stage:
            yield f"second_stage.mix: {mix.name} takes the network apart, and a second stage trains only its classifier"
        if not parts.head.gives_features:
            yield f"mix: {mix.name} needs a head of one branch, such as linear or cosine, found {parts.head.name}"


def _a_mix_that_evaluates_its_own_network_trains_it(parts: Parts) -> Iterator[str]:
    recipe = parts.recipe
    for part in recipe.compositions:
        mix = lookup("mix", part.mix["name"])
        if not mix.evaluates_its_own:
            continue
        if any(phase.mix != part.mix for phase in recipe.phases):
            yield f"mix: {mix.name} evaluates a network of its own, so it has to be the mix of every phase"
        if recipe.protocol.ema is not None:
            yield f"protocol.ema: {mix.name} evaluates an average of its own, set by mix.momentum; remove this one"


def _a_teacher_is_told_what_images_show(parts: Parts) -> Iterator[str]:
    second = parts.recipe.second_stage
    if second is None or parts.stage is None or not parts.stage.plain_images:
        return
    mix = choice("mix", second.mix)
    if mix.component.reads_views(mix.config):
        yield (
            f"second_stage.mix: {mix.component.name} lays a teacher's maps over what varied images show, and "
            f"{parts.stage.name} trains on images that nothing varies; leave the teacher out, or take another mix"
        )


def _weights_are_averaged_once(parts: Parts) -> Iterator[str]:
    if parts.method.averages_weights and parts.recipe.protocol.ema is not None:
        yield f"protocol.ema: the method {parts.method.name} evaluates an average of its own; remove this one"


def _a_schedule_ends_with_the_training(parts: Parts) -> Iterator[str]:
    protocol = parts.recipe.protocol
    schedule, epochs = protocol.schedule, protocol.epochs
    late = [start for start in schedule.milestones if start >= epochs]
    if late:
        yield (
            f"protocol.schedule.milestones: {late[0]} lies behind the {epochs} epochs of the training, and the rate "
            "would not fall; percentages such as 80% follow its length"
        )
    if schedule.warmup_epochs > max(1, epochs - 1):
        yield (
            f"protocol.schedule.warmup_epochs: {schedule.warmup_epochs:g} leave nothing of the {epochs} epochs of the "
            "training; a percentage such as 2.5% follows its length"
        )
    if schedule.cooldown_epochs and schedule.warmup_epochs + schedule.cooldown_epochs > epochs - 1:
        yield (
            f"protocol.schedule.cooldown_epochs: {schedule.cooldown_epochs} after a warm-up of "
            f"{schedule.warmup_epochs:g} leave nothing of the {epochs} epochs of the training; a percentage such as 3% "
            "follows its length"
        )


def _everything_acts_in_some_epoch(parts: Parts) -> Iterator[str]:
    """Or the run would be tabled as a method that it never trained."""
    recipe, epochs = parts.recipe, parts.recipe.protocol.epochs
    yield from _idle("method", recipe.method, [range(epochs)], epochs)
    starts = [0, *(phase.until for phase in recipe.phases)]
    spans = [range(start, phase.until) for start, phase in zip(starts, recipe.phases, strict=False)]
    for kind in (kind for kind in PHASE_FAMILIES if kind in parts.method.uses):
        nodes = [getattr(phase, kind) for phase in recipe.phases]
        for node in nodes:
            named = [span for span, other in zip(spans, nodes, strict=True) if other == node]
            yield from _idle(kind, node, named, epochs)
    trained = recipe.training.epochs
    if recipe.second_stage is not None and trained:
        for kind in PHASE_FAMILIES:
            yield from _idle(f"second_stage.{kind}", getattr(recipe.second_stage, kind), [range(trained)], trained)


def _idle(field: str, node: dict[str, Any], spans: list[range], total: int) -> Iterator[str]:
    """A complaint if a component acts in none of the spans of epochs in which it is named."""
    chosen = choice(field.rpartition(".")[2], node)
    if any(chosen.component.active_epochs(chosen.config, span, total) for span in spans):
        return
    where = ", ".join(f"{span.start} to {span.stop - 1}" for span in spans)
    why = chosen.component.timing.format(**dict(chosen.config))
    said = f"{field}: {node['name']} would {chosen.component.acts} in none of the epochs {where} of {total}"
    yield f"{said} ({why})" if why else said


def _default(kind: str, given: Any = None) -> dict[str, Any]:
    """A component in its resolved form, by default that of a recipe which names none."""
    names = {"sampler": "instance", "mix": "none", "loss": "cross-entropy"}
    settings = given if isinstance(given, dict) else {"name": given or names[kind]}
    config = lookup(kind, settings["name"]).Config
    read = config.read({key: value for key, value in settings.items() if key != "name"})
    return with_revision(kind, {"name": settings["name"], **read.model_dump(mode="json")})


RULES: tuple[Callable[[Parts], Iterator[str]], ...] = (
    _a_method_brings_its_own,
    _a_stage_needs_its_head,
    _a_stage_that_trains_nothing_reads_nothing,
    _a_stage_that_goes_on_reads_as_before,
    _a_class_prior_is_taken_off_once,
    _a_method_needs_its_head,
    _images_are_augmented_as_their_kind,
    _views_are_of_streams_and_like_the_other_images,
    _an_augmentation_comes_once,
    _a_regulariser_changes_something,
    _a_tuner_has_a_pretrained_network,
    _a_tuner_says_what_learns,
    _a_classifier_can_begin_there,
    _a_network_fits_its_images,
    _a_method_agrees_with_its_head_and_classes,
    _a_loss_needs_its_kind_of_logits,
    _a_method_that_arranges_batches_sees_images_once,
    _a_method_that_learns_by_itself_does_so_in_every_batch,
    _a_mix_takes_a_whole_network_of_one_branch_apart,
    _a_mix_that_evaluates_its_own_network_trains_it,
    _a_teacher_is_told_what_images_show,
    _weights_are_averaged_once,
    _a_schedule_ends_with_the_training,
    _everything_acts_in_some_epoch,
)
