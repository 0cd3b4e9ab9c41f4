"""What every method must survive and keep, with every mix, loss, sampler and head that it can be combined with.

The cases come from the registry: a new component is tested by being there.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator
from copy import deepcopy
from dataclasses import asdict, dataclass, fields, replace
from heapq import heapify, heappop, heapreplace
from itertools import combinations, product

import numpy as np
import pytest
import torch
from method_cases import LABELS, batch_of, build, choice, step_at, tiny_network
from some_pictures import some_pictures
from tiny_backbone import TinyShakeShake
from torch import nn

from lt_bench.data.types import Batch, Epoch, Step
from lt_bench.losses import Loss
from lt_bench.methods import Method
from lt_bench.mixing import Mix
from lt_bench.mixing.teachers import Taught
from lt_bench.models import Head, Network, build_network
from lt_bench.registry import FAMILIES, Choice, Phase, lookup, members
from lt_bench.regularisers import place_all
from lt_bench.training.runtime import Compiled, Runtime

MEASURED, NEXT = Epoch(10, 200, 0), Epoch(11, 200, 0)
"""The end of the first is seen by the method; then comes the second."""


@dataclass(frozen=True)
class Case:
    """One combination; it is regularised by nothing, or by everything at once."""

    method: str
    head: str
    mix: str = "none"
    loss: str = "cross-entropy"
    sampler: str = "instance"
    regularise: str = "nothing"

    def build(self) -> tuple[Method, Network]:
        """The method after a while of training, as a checkpoint would leave it."""
        if self.mix == "saliencymix":
            pytest.importorskip("cv2", reason="the extra [saliency]")
        parts = (choice("sampler", self.sampler), always_mixing(self.mix), choice("loss", self.loss))
        # One step of an adversary is as good as ten here, and sooner done.
        settings = {"attack": {"steps": 1}} if lookup("method", self.method).adversarial else {}
        method, network = build(self.method, (Phase(200, *parts),), **settings), self.network()
        method.attach(network)
        for part in method.modules():
            if isinstance(part, Taught):
                part.maps = torch.linspace(0, 1, 12 * 4).view(12, 2, 2)
        method.streams(MEASURED)
        network.eval()
        with torch.no_grad():
            clean = [batch_of(1, labels=[0, 0, 1, 2]), batch_of(2, labels=[1, 0])]
            method.end_epoch(MEASURED, lambda images: method.scores(network, images).float(), lambda: iter(clean))
        return method.train(), network.train()

    def network(self) -> Network:
        if self.regularise == "nothing":
            return tiny_network(self.head)
        network = build_network(TinyShakeShake, self.head, 3)
        place_all([one() for one in members("regularise").values()], network)
        return network

    def __str__(self) -> str:
        return "-".join(asdict(self).values())


def always_mixing(name: str) -> Choice:
    """A mix that leaves no batch as it is, so that a test of one batch tests it."""
    known = lookup("mix", name).Config.model_fields
    # The tiny network has no stages behind which features could be mixed.
    settings = {"probability": 1.0, "layers": (0,), "pictures": str(some_pictures())}
    return choice("mix", name, **{field: value for field, value in settings.items() if field in known})


def cases() -> Iterator[Case]:
    """All that fits together, first without what regularises."""
    for regularise in ("nothing", "everything"):
        yield from (replace(case, regularise=regularise) for case in combined())


def combined() -> Iterator[Case]:
    for name, method in members("method").items():
        heads = [name for name, head in members("head").items() if trains(method, head)]
        mixes = members("mix") if "mix" in method.uses else ["none"]
        losses = members("loss") if "loss" in method.uses else ["cross-entropy"]
        for head, mix, loss in product(heads, mixes, losses):
            if lookup("mix", mix).one_branch and not lookup("head", head).gives_features:
                continue  # it refuses them
            if mix == "transmix":
                continue  # it needs a vision transformer: tests/mixing/test_labels_by_maps.py
            if "loss" not in method.uses or fits(lookup("loss", loss), lookup("head", head)):
                yield Case(name, head, mix, loss)
        if "sampler" in method.uses:
            yield from (Case(name, heads[0], sampler=sampler) for sampler in members("sampler"))


def trains(method: type[Method], head: type[Head]) -> bool:
    """Whether the method can train all that the head has."""
    return not head.has_training_layers if method.heads is None else head.name in method.heads


def fits(loss: type[Loss], head: type[Head]) -> bool:
    """Whether the head gives what the loss takes."""
    return loss.takes_cosines == head.gives_cosines and (head.gives_features or not loss.takes_features)


def covering(every: Iterable[Case], pairs: Collection[tuple[str, str]]) -> list[Case]:
    """Few in which all parts of such families meet that meet in any: always one that brings the most together."""
    waiting, chosen, met = [], [], set[tuple[str, ...]]()
    for number, case in enumerate(every):
        parts = asdict(case)
        meeting = {(*pair, *(parts[family] for family in pair)) for pair in pairs}
        waiting.append((-len(meeting), number, case, meeting))
    heapify(waiting)
    while waiting:
        _, number, case, meeting = waiting[0]
        meeting -= met  # as much as it brings now; earlier it was no less
        if not meeting:
            heappop(waiting)
        elif heapreplace(waiting, (-len(meeting), number, case, meeting))[1] == waiting[0][1]:
            met |= meeting
            chosen.append(case)
    return chosen


PAIRS = list(combinations((field.name for field in fields(Case)), 2))
WHOLE = list(cases()) if os.environ.get("LT_BENCH_WHOLE") else None
"""`make test-whole` takes the whole product."""


def parametrized(pairs: Collection[tuple[str, str]]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("case", WHOLE or covering(cases(), pairs), ids=str)


ALONE = [("method", "method"), ("mix", "mix")]


def touches_the_network(case: Case) -> bool:
    """Whether its mix does more than to make images of images."""
    return case.mix == "none" or lookup("mix", case.mix).loss is not Mix.loss


every_case = parametrized(PAIRS)
every_method = parametrized([pair for pair in PAIRS if "method" in pair])
"""Each method with each part: for what no mix has to do with a loss."""
every_part = parametrized([(field.name, field.name) for field in fields(Case)])
"""Each part once: for what it does, or leaves alone, whatever it is with."""


def batches(method: Method, labels: list[int], epoch: Epoch = NEXT) -> dict[str, Batch]:
    """A batch for each stream of the method."""
    return {name: batch_of(seed, labels=labels) for seed, name in enumerate(method.streams(epoch))}


def step(seed: int = 0) -> Step:
    return step_at(NEXT.index, NEXT.total, seed)


@every_case
def test_loss_and_gradients_are_finite(case: Case) -> None:
    check_training(case, "float32")


@every_method
def test_loss_and_gradients_are_finite_in_bf16(case: Case) -> None:
    check_training(case, "bf16")


def check_training(case: Case, precision: str) -> None:
    """A loss and gradients, whatever labels a batch has."""
    method, network = case.build()
    for labels in ([0, 1, 2, 0, 0, 1], [0, 0, 1, 0, 1, 0], [2, 2]):
        network.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            loss = method.loss(network, batches(method, labels), step())
        assert loss.shape == ()
        assert loss.dtype == torch.float32
        assert loss.isfinite(), labels
        loss.backward()
        gradients = [p.grad for p in network.parameters()]
        assert all(g is not None and g.isfinite().all() for g in gradients), labels
        assert any(g.any() for g in gradients if g is not None), labels


@every_part
def test_the_same_step_gives_the_same_loss_and_leaves_its_input(case: Case) -> None:
    method, network = case.build()
    given = batches(method, [0, 1, 2, 0, 0, 1])
    before = {name: (batch.images.clone(), batch.labels.clone()) for name, batch in given.items()}
    # From the same state, because a step may change it, and the statistics of the network.
    losses = [twin.loss(deepcopy(network), given, step()) for twin in (deepcopy(method), method)]
    assert torch.equal(*losses)
    for name, (images, labels) in before.items():
        assert torch.equal(given[name].images, images)
        assert torch.equal(given[name].labels, labels)


@pytest.mark.parametrize("case", covering(filter(touches_the_network, combined()), ALONE), ids=str)
def test_compiled_networks_give_what_plain_ones_give(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """Loss, statistics and gradients, traced as on CUDA, both ways, and run by torch's own operations.

    What is done to a network must reach its compiled code, and no pass take from another what that needs to go back.
    """
    compile_part, plain = nn.Module.compile, Case.network
    found = []
    monkeypatch.setattr(nn.Module, "compile", lambda part, **_: compile_part(part, backend="aot_eager", dynamic=False))
    kinds: tuple[Compiled | None, ...] = (None, "torch.compile")
    for compiled in kinds:
        runtime = Runtime(torch.device("cpu"), "float32", compiled)
        monkeypatch.setattr(Case, "network", lambda of, there=runtime: there.prepare(without_dropout(plain(of))))
        method, network = case.build()
        assert (network.trunk._compiled_call_impl is not None) == bool(compiled)
        losses = []
        for seed in range(2):
            losses.append(method.loss(network, batches(method, [0, 1, 2, 0, 0, 1]), step(seed)))
            losses[-1].backward()
        gradients = {name: parameter.grad for name, parameter in network.named_parameters()}
        found.append((losses, gradients, dict(network.named_buffers()), dict(method.named_buffers())))
    torch.testing.assert_close(*found, rtol=1e-4, atol=1e-5)


def without_dropout(network: Network) -> Network:
    """Whose masks may be others once its code is compiled."""
    for layer in network.modules():
        if isinstance(layer, nn.Dropout):
            layer.p = 0.0
    return network


@every_method
def test_scores_are_logits_of_every_class(case: Case) -> None:
    method, network = case.build()
    network.eval()
    images = batch_of().images
    scores = method.scores(network, images)
    assert scores.shape == (len(images), 3)
    assert scores.isfinite().all()
    assert torch.equal(scores, method.scores(network, images))


@every_method
def test_streams_are_positions_of_training_images(case: Case) -> None:
    method, _ = case.build()
    streams = method.streams(NEXT)
    assert streams
    for order in streams.values():
        assert order.dtype == np.int64
        assert order.shape == LABELS.shape  # an epoch has one length, whatever the method
        assert 0 <= order.min() <= order.max() < len(LABELS)
    other = method.streams(Epoch(NEXT.index, NEXT.total, seed=1))
    assert any((streams[name] != other[name]).any() for name in streams)


@every_part
def test_a_fresh_method_goes_on_from_the_state_of_another(case: Case) -> None:
    method, network = case.build()
    fresh, _ = Case.build(case)
    for buffer in fresh.state_dict().values():
        buffer.zero_()
    fresh.load_state_dict(method.state_dict())
    expected, found = method.streams(NEXT), fresh.streams(NEXT)
    assert list(expected) == list(found)
    assert all((expected[name] == found[name]).all() for name in expected)
    given = batches(method, [0, 1, 2, 0, 0, 1])
    twin = deepcopy(network)  # whose statistics are still the same for the second
    assert torch.equal(method.loss(network, given, step()), fresh.loss(twin, given, step()))


@pytest.mark.parametrize("kind", FAMILIES)
def test_every_component_says_what_it_is(kind: str) -> None:
    for name, component in members(kind).items():
        assert name == component.name
        assert component.info.summary, name
        assert component.__doc__, name
        assert component.info.year is None or 1990 < component.info.year < 2100, name
        if name not in ("timm", "clip"):  # of which there is no usual one
            assert component.Config.read({}) == component.Config(), name  # defaults suffice
