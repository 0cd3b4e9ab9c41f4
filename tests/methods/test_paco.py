"""PaCo against the values of its card; its queue, and the network of its keys."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import numpy as np
import pytest
import torch
from method_cases import LABELS, batch_of, build, step_at, tiny_network
from torch import Tensor
from torch.nn import functional as F

from lt_bench.data.types import Batch, ClassStats, Epoch
from lt_bench.losses.logit_adjustment import log_prior
from lt_bench.methods.paco import PaCo, parametric_contrastive, random_unit_vectors
from lt_bench.models.heads.contrastive import ContrastiveNetwork

QUERIES, KEYS = [[1, 0], [0.6, 0.8]], [[0.8, 0.6], [0, 1]]
QUEUE = [[0.70710677, 0.70710677], [-0.98058069, 0.19611615]]
POINTS = torch.tensor([*QUERIES, *KEYS, *QUEUE])
CLASSES = torch.tensor([0, 1, 0, 1, 1, 2])
CENTRES = torch.tensor([[2.0, 0.5, -1.0], [0.2, 1.0, 0.3]]) + log_prior(ClassStats(torch.tensor([500, 50, 5])))
PER_ANCHOR = [2.764728, 6.697664]


def losses(**settings: float) -> Tensor:
    return parametric_contrastive(
        CENTRES, POINTS, CLASSES, PaCo.Config.read({"alpha": 0.05, "temperature": 0.2} | settings)
    )


def network() -> ContrastiveNetwork:
    net = tiny_network("contrastive")
    assert isinstance(net, ContrastiveNetwork)
    return net


def attached(net: ContrastiveNetwork, **settings: Any) -> PaCo:
    method = build("paco", **settings)
    assert isinstance(method, PaCo)
    method.attach(net)
    return method


def batches(seed: int = 0, size: int = 6) -> dict[str, Batch]:
    query = batch_of(seed, size)
    return {"query": query, "key": Batch(batch_of(seed + 100, size).images, query.labels)}


# --- the loss ----------------------------------------------------------------------------------------


def test_the_loss_of_the_card() -> None:
    assert losses().tolist() == pytest.approx(PER_ANCHOR, abs=2e-6)
    assert float(losses().mean()) == pytest.approx(4.731196, abs=1e-6)


def test_the_loss_is_computed_in_float32_under_autocast() -> None:
    with torch.autocast("cpu", torch.bfloat16):
        assert losses().tolist() == pytest.approx(PER_ANCHOR, abs=2e-6)


def test_the_loss_by_hand() -> None:
    """Its terms one by one, with every weight and temperature other than 1."""
    found = losses(beta=0.5, gamma=2.0, supt=1.5)
    for i in (0, 1):
        centres = [float(u) / 1.5 for u in CENTRES[i]]
        points = {j: float(POINTS[i] @ POINTS[j]) / 0.2 for j in range(6) if j != i}
        denominator = sum(np.exp(centres)) + 2 * sum(np.exp(list(points.values())))
        positives = [(0.5, centres[i]), *((0.05, u) for j, u in points.items() if CLASSES[j] == CLASSES[i])]
        by_hand = -sum(w * (u - np.log(denominator)) for w, u in positives) / sum(w for w, _ in positives)
        assert float(found[i]) == pytest.approx(by_hand, rel=1e-5)


def test_queries_and_keys_learn_from_both_sides_of_a_cosine() -> None:
    """As points, too: the authors' contrast detaches the queue alone."""
    points = POINTS.double().requires_grad_()
    settings = PaCo.Config.read({"alpha": 0.05, "temperature": 0.2})

    def loss(given: Tensor) -> Tensor:
        return parametric_contrastive(CENTRES.double(), given, CLASSES, settings)

    (found,) = torch.autograd.grad(loss(points).sum(), points)
    by_hand = torch.zeros_like(found)
    for place in np.ndindex(*points.shape):
        step = torch.zeros_like(found)
        step[place] = 1e-2  # the loss is in float32
        with torch.no_grad():
            by_hand[place] = float((loss(points + step) - loss(points - step)).sum()) / 2e-2
    torch.testing.assert_close(found, by_hand, atol=0.02, rtol=0.01)


def test_without_samples_it_is_balanced_softmax() -> None:
    alone = losses(alpha=0.0, gamma=1e-12)
    torch.testing.assert_close(alone, F.cross_entropy(CENTRES, CLASSES[:2], reduction="none"))


# --- the queue ---------------------------------------------------------------------------------------


def test_the_queue_begins_with_unit_vectors_of_no_class() -> None:
    method = attached(network())
    assert method.queue.shape == (1024, 32)
    torch.testing.assert_close(method.queue.norm(dim=1), torch.ones(1024))
    assert (method.queue_labels == -1).all()
    assert torch.equal(method.queue, random_unit_vectors(1024, 32))


def test_keys_replace_the_oldest_whether_their_number_divides_the_queue_or_not() -> None:
    method = attached(network(), queue_size=5)
    start = method.queue.clone()
    keys = [random_unit_vectors(n, 32) for n in (3, 4, 1, 9)]
    method.enqueue(keys[0], torch.tensor([0, 1, 2]))
    assert method.queue_labels.tolist() == [0, 1, 2, -1, -1]
    assert torch.equal(method.queue, torch.cat([keys[0], start[3:]]))
    method.enqueue(keys[1], torch.tensor([3, 4, 5, 6]))
    assert method.queue_labels.tolist() == [5, 6, 2, 3, 4]
    assert torch.equal(method.queue, torch.cat([keys[1][2:], keys[0][2:], keys[1][:2]]))
    method.enqueue(keys[2], torch.tensor([7]))
    assert method.queue_labels.tolist() == [5, 6, 7, 3, 4]
    method.enqueue(keys[3], torch.arange(10, 19))  # more than there is room for: the last five stay
    assert sorted(method.queue_labels.tolist()) == [14, 15, 16, 17, 18]
    for key, label in zip(method.queue, method.queue_labels, strict=True):
        assert torch.equal(key, keys[3][label - 10])


def test_a_step_leaves_its_keys_in_the_queue() -> None:
    net = network().eval()
    method = attached(net, queue_size=10, momentum=0.0).eval()
    assert isinstance(method, PaCo)
    first, second = batches(0), batches(1)
    for given in (first, second):
        method.loss(net, given, step_at())
    expected = torch.cat([net.project(net.features(given["key"].images)) for given in (first, second)])
    order = [10, 11, *range(2, 10)]
    torch.testing.assert_close(method.queue, expected[order])
    assert torch.equal(method.queue_labels, torch.cat([first["key"].labels, second["key"].labels])[order])


# --- the network of the keys -------------------------------------------------------------------------


def test_the_keys_network_follows_without_gradient() -> None:
    net = network().train()
    method = attached(net, momentum=0.75)
    before = {name: p.clone() for name, p in net.named_parameters()}
    assert all(torch.equal(p, before[name]) for name, p in method.key_network.named_parameters())
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(4.0)
    method.loss(net, batches(), step_at()).backward()
    method.after_step(net, step_at())
    for name, parameter in method.key_network.named_parameters():
        torch.testing.assert_close(parameter, before[name] + 1.0)
        assert parameter.grad is None
        assert not parameter.requires_grad


def test_the_optimizer_and_its_weight_decay_leave_the_keys_network_alone() -> None:
    net = network().train()
    method = attached(net)
    optimizer = torch.optim.SGD([*net.parameters(), *method.parameters()], lr=0.1, momentum=0.9, weight_decay=0.5)
    for seed in (0, 1):
        optimizer.zero_grad()
        method.loss(net, batches(seed), step_at()).backward()
        before = [p.clone() for p in method.key_network.parameters()]
        optimizer.step()
        assert all(map(torch.equal, before, method.key_network.parameters()))
    assert not optimizer.state.keys() & set(method.key_network.parameters())


def test_the_keys_network_keeps_batch_statistics_of_its_own() -> None:
    """As MoCo: each network sees one view, and only parameters follow."""
    net = network().train()
    method = attached(net)
    start = {name: b.clone() for name, b in net.named_buffers() if name.endswith("running_mean")}
    method.loss(net, batches(), step_at())
    own = dict(method.key_network.named_buffers())
    for name, trained in net.named_buffers():
        if name in start:
            assert not torch.equal(own[name], start[name])
            assert not torch.equal(own[name], trained)


def test_a_step_is_the_card_s_formula() -> None:
    net = network().eval()
    method, given = attached(net, queue_size=7).eval(), batches()
    assert isinstance(method, PaCo)
    with torch.no_grad():
        for parameter in method.key_network.parameters():
            parameter.mul_(1.1)
    key_network = deepcopy(method.key_network)
    with torch.no_grad():
        for own, trained in zip(key_network.parameters(), net.parameters(), strict=True):
            own.copy_(0.999 * own + 0.001 * trained)
    points = [
        F.normalize(net.projection(net.features(given["query"].images))),
        F.normalize(key_network.projection(key_network.features(given["key"].images))),
        method.queue.clone(),
    ]
    y = given["query"].labels
    centres = net(given["query"].images) + (torch.tensor([20, 6, 2]) / 28).log()
    expected = parametric_contrastive(
        centres, torch.cat(points), torch.cat([y, y, torch.full((7,), -1)]), method.config
    )
    method.after_step(net, step_at())  # of the step before
    torch.testing.assert_close(method.loss(net, given, step_at()), expected.mean())


def test_the_keys_network_follows_once_where_a_step_is_of_several_batches() -> None:
    net = network().train()
    method = attached(net, momentum=0.75)
    before = [p.clone() for p in method.key_network.parameters()]
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(4.0)
    for seed in range(3):
        method.loss(net, batches(seed), step_at())
        assert all(map(torch.equal, before, method.key_network.parameters()))


def test_a_saved_method_goes_on_exactly(tmp_path: Any) -> None:
    net = network().train()
    method, fresh = attached(net, queue_size=10), attached(network(), queue_size=10)
    optimizer = torch.optim.SGD([*net.parameters(), *method.parameters()], lr=0.1, weight_decay=0.1)
    for seed in range(3):
        optimizer.zero_grad()
        method.loss(net, batches(seed, size=4), step_at()).backward()
        optimizer.step()
    torch.save(method.state_dict(), tmp_path / "method.pt")
    fresh.load_state_dict(torch.load(tmp_path / "method.pt", weights_only=True))
    assert int(fresh.queue_start) == 2
    for seed in (3, 4):
        given = batches(seed, size=4)
        # The tiny network's dropout draws from torch's generator, which step_at seeds.
        assert torch.equal(method.loss(net, given, step_at()), fresh.loss(net, given, step_at()))
    state = fresh.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in method.state_dict().items())


# --- the streams -------------------------------------------------------------------------------------


def test_the_streams_are_two_views_of_the_same_images() -> None:
    streams = build("paco").streams(Epoch(0, 200, 0))
    assert list(streams) == ["query", "key"]
    assert (np.sort(streams["query"]) == np.arange(len(LABELS))).all()
    assert (streams["query"] == streams["key"]).all()


def test_prediction_is_the_centres_raw_logits() -> None:
    net, images = network().eval(), batch_of().images
    assert torch.equal(attached(net).scores(net, images), net(images))
