"""Trained networks outside the suite: what they predict is what the run predicted, in any code's ResNet."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from field_resnet import FieldResNet
from run_cases import only, record
from torchvision.models import ResNet, resnet18, resnext50_32x4d
from torchvision.models.resnet import BasicBlock

from lt_bench.data import long_tailed
from lt_bench.data.opening import open_split
from lt_bench.errors import UserError
from lt_bench.evaluation import evaluate_predictions
from lt_bench.models import build_network
from lt_bench.registry import lookup
from lt_bench.stages import DecoupledNetwork
from lt_bench.trained import load_network, plain_state_dict
from lt_bench.training.weights import read_weights

LtBench = Callable[..., Any]

COUNTS = [110, 78, 56, 40, 29, 20, 14, 10, 7, 5]
"""Of digits-LT."""


def moved(network: torch.nn.Module) -> torch.nn.Module:
    """With statistics and scales that are not those of the start."""
    generator = torch.Generator().manual_seed(1)
    for name, tensor in network.state_dict().items():
        if "bn" in name or "trunk.0.1" in name:
            tensor.copy_(0.5 + torch.rand(tensor.shape, generator=generator) if tensor.ndim else tensor)
    return network.eval()


@pytest.mark.parametrize("head", ["linear", "cosine"])
def test_the_fields_resnet32_gives_equal_logits(head: str) -> None:
    network = moved(build_network("resnet32", head, 10))
    theirs = FieldResNet(5, 10, use_norm=head == "cosine")
    theirs.load_state_dict(plain_state_dict(network))  # type: ignore[arg-type]
    images = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(theirs.eval()(images), network(images), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("backbone", "theirs"), [("resnet10", None), ("resnet18", resnet18), ("resnext50", resnext50_32x4d)]
)
def test_torchvisions_resnet_gives_equal_logits(backbone: str, theirs: Callable[..., ResNet] | None) -> None:
    network = moved(build_network(backbone, "linear", 10))
    plain = theirs(num_classes=10) if theirs else ResNet(BasicBlock, [1, 1, 1, 1], num_classes=10)
    plain.load_state_dict(plain_state_dict(network))  # type: ignore[arg-type]
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(plain.eval()(images), network(images), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("stage", ["crt", "lws", "tau-norm", "mislas"])
def test_an_affine_second_stage_becomes_the_linear_layer(stage: str) -> None:
    component = lookup("stage", stage)
    network = moved(DecoupledNetwork(build_network("resnet8", "linear", 10), component, component.Config(), 0))
    theirs = FieldResNet(1, 10)
    theirs.load_state_dict(plain_state_dict(network))  # type: ignore[arg-type]
    images = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(theirs.eval()(images), network(images), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("backbone", "head"),
    [("resnet8", "experts"), ("resnet8", "dual-branch"), ("cifar-resnet18", "linear"), ("resnet10", "experts")],
)
def test_a_network_of_another_shape_is_refused(backbone: str, head: str) -> None:
    with pytest.raises(UserError, match="plain ResNet has one branch of CIFAR's or torchvision's blocks"):
        plain_state_dict(build_network(backbone, head, 10))


def test_a_classifier_that_is_not_affine_is_refused() -> None:
    component = lookup("stage", "disalign")
    network = DecoupledNetwork(build_network("resnet8", "linear", 10), component, component.Config(), 0)
    with torch.no_grad():
        for parameter in network.second_stage.parameters():
            parameter.add_(1.0)
    with pytest.raises(UserError, match="ends in a linear layer"):
        plain_state_dict(network)


@pytest.mark.parametrize("method", ["ldam-drw", "dbn-mix"])
def test_the_predictions_are_those_of_the_record(working_folder: Path, lt_bench: LtBench, method: str) -> None:
    # In float32, which prediction here uses.
    done = lt_bench("run", f"digits-lt/{method}", "protocol.epochs=2", "--precision", "float32")
    assert done.code == 0, done
    network = load_network(only(working_folder, "weights.safetensors"))
    assert not network.training
    test = long_tailed("digits-lt", "test", factor=20)
    assert network.class_names == tuple(test.class_names)
    images = torch.stack([torch.from_numpy(np.array(image)).permute(2, 0, 1) for image, _ in test])
    predicted, confidence = network.predict(images)
    found = evaluate_predictions(test.labels, predicted, confidence, COUNTS)
    last = record(working_folder).selections["last"]
    assert found["correct"] == list(last.correct)
    torch.testing.assert_close(network(images), network(images / 255), rtol=1e-4, atol=1e-4)
    with pytest.raises(UserError, match="normalises them by itself"):
        network((images / 255 - 0.5) / 0.5)


def test_a_post_hoc_shift_is_part_of_the_linear_layer(working_folder: Path, lt_bench: LtBench) -> None:
    done = lt_bench("run", "digits-lt/logit-adjustment", "loss.post_hoc=true", "protocol.epochs=1")
    assert done.code == 0, done
    trained = load_network(only(working_folder, "weights.safetensors"))
    state = plain_state_dict(trained)
    prior = (torch.tensor(COUNTS) / sum(COUNTS)).log()
    raw = plain_state_dict(trained.network)
    torch.testing.assert_close(state["linear.bias"], raw["linear.bias"] - prior, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(state["linear.weight"], raw["linear.weight"], rtol=1e-4, atol=1e-4)


def test_priors_are_those_of_the_labels_that_were_trained_on(working_folder: Path, lt_bench: LtBench) -> None:
    noise = "data.noise={name: symmetric, rate: 0.4}"
    done = lt_bench("run", "digits-lt/logit-adjustment", "loss.post_hoc=true", "protocol.epochs=1", noise)
    assert done.code == 0, done
    trained = load_network(only(working_folder, "weights.safetensors"))
    given = np.bincount(open_split(trained.recipe.data, None).training.labels)
    assert given.tolist() != list(COUNTS)
    shift = plain_state_dict(trained.network)["linear.bias"] - plain_state_dict(trained)["linear.bias"]
    torch.testing.assert_close(shift, (torch.from_numpy(given) / given.sum()).log().float(), rtol=1e-4, atol=1e-4)


def test_priors_of_classes_that_have_moved_are_refused(
    working_folder: Path, lt_bench: LtBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    noise = "data.noise={name: symmetric, rate: 0.4}"  # whose class sizes no formula gives
    assert lt_bench("run", "digits-lt/logit-adjustment", "loss.post_hoc=true", "protocol.epochs=1", noise).code == 0
    path = only(working_folder, "weights.safetensors")
    other = replace(read_weights(path), class_names=tuple("1023456789"), counts=None)  # as weights of before
    monkeypatch.setattr("lt_bench.trained.read_weights", lambda path: other)
    with pytest.raises(UserError, match="trained when class 0 of digits-lt was '1', which is class 1 now"):
        load_network(path)


@pytest.mark.parametrize("shape", [(3, 32, 32), (2, 1, 32, 32)])
def test_what_is_no_batch_of_images_is_refused(shape: tuple[int, ...], working_folder: Path, lt_bench: LtBench) -> None:
    assert lt_bench("run", "digits-lt/ce", "protocol.epochs=1").code == 0
    network = load_network(only(working_folder, "weights.safetensors"))
    with pytest.raises(UserError, match=r"images: expected RGB of the shape \[B, 3, H, W\], found"):
        network.predict(torch.zeros(shape))


def test_another_file_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "other.safetensors").write_bytes(b"no weights")
    with pytest.raises(UserError, match="not the weights of a run"):
        load_network(tmp_path / "other.safetensors")
