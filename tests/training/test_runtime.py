"""What a run computes on: chosen by the machine or the user, recorded, no influence on what is computed."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from run_cases import assert_same_result, at_epoch, once, options, record, tiny, train, until_done

from lt_bench.data.opening import open_split
from lt_bench.data.types import Epoch
from lt_bench.errors import UserError
from lt_bench.methods.paco import PaCo
from lt_bench.models import Network, build_network
from lt_bench.models.backbones.cifar_resnet import ResNet8
from lt_bench.models.heads.experts import DualBranch
from lt_bench.models.heads.linear import Linear
from lt_bench.models.norm import BatchNormReLU
from lt_bench.native import NoCompilerError, load_native
from lt_bench.regularisers import DropBlock, Dropout, MaxDropout, Regulariser, place_all
from lt_bench.training import run as run_module
from lt_bench.training import runtime as runtime_module
from lt_bench.training.run import build_job
from lt_bench.training.runtime import COMPILE_FROM_STEPS, Compiled, Runtime, choose_runtime

CPU = torch.device("cpu")


def no_compiler() -> Any:
    raise NoCompilerError("no C++ compiler on PATH, looked for c++")


@pytest.fixture
def without_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime_module, "kernels", no_compiler)


@pytest.fixture
def with_kernels() -> None:
    """Skip where the kernels cannot be compiled."""
    try:
        runtime_module.kernels()
    except NoCompilerError as error:
        pytest.skip(f"the kernels cannot be compiled here: {error}")


def resnet8(head: type[Any] = Linear) -> Network:
    return build_network(ResNet8, head(), 10, 0)


# --- the choice --------------------------------------------------------------------------------------


@pytest.mark.usefixtures("with_kernels")
def test_a_cpu_with_a_compiler_uses_the_kernels() -> None:
    chosen = choose_runtime("cpu", "float32")
    assert chosen.compiled == "native kernels"
    assert chosen.memory_format == torch.channels_last
    assert "float32, native kernels" in chosen.description
    layers = [m for m in chosen.prepare(resnet8()).modules() if isinstance(m, BatchNormReLU)]
    assert [layer.fused for layer in layers] == [True] * 7


def test_off_means_plain_torch() -> None:
    chosen = choose_runtime("cpu", "float32", "off")
    assert chosen == Runtime(CPU, "float32")
    assert not any(m.fused for m in chosen.prepare(resnet8()).modules() if isinstance(m, BatchNormReLU))
    assert chosen.description.endswith("not compiled")


@pytest.mark.usefixtures("without_compiler")
def test_without_a_compiler_auto_goes_on_and_says_why() -> None:
    chosen = choose_runtime("cpu", "float32", "auto")
    assert chosen.compiled is None
    assert chosen.description.endswith("not compiled (no C++ compiler on PATH, looked for c++)")


@pytest.mark.usefixtures("without_compiler")
def test_without_a_compiler_on_is_refused() -> None:
    with pytest.raises(UserError, match=r"^--compile on: no C\+\+ compiler on PATH"):
        choose_runtime("cpu", "float32", "on")


def test_a_cpu_whose_convolutions_are_slow_in_channels_last_keeps_to_plain_torch(
    with_kernels: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtime_module, "_channels_last_is_fast", lambda: False)
    assert choose_runtime("cpu", "bf16").compiled is None
    assert choose_runtime("cpu", "bf16").memory_format == torch.contiguous_format
    assert choose_runtime("cpu", "bf16", "on").compiled == "native kernels"
    assert choose_runtime("cpu", "float32").compiled == "native kernels"


@pytest.mark.parametrize(
    ("steps", "compile", "compiled"),
    [
        (COMPILE_FROM_STEPS, "auto", "torch.compile"),
        (COMPILE_FROM_STEPS - 1, "auto", None),  # over before the compiler would be
        (0, "on", "torch.compile"),
        (COMPILE_FROM_STEPS, "off", None),
    ],
)
def test_on_cuda_auto_compiles_long_runs(
    steps: int, compile: Any, compiled: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, answer in (("is_available", True), ("is_bf16_supported", True), ("reset_peak_memory_stats", None)):
        monkeypatch.setattr(torch.cuda, name, lambda *_, answer=answer, **__: answer)
    monkeypatch.setattr(runtime_module, "find_spec", lambda _: object())
    chosen = choose_runtime("cuda", "auto", compile, steps)
    assert (chosen.device.type, chosen.precision, chosen.compiled) == ("cuda", "bf16", compiled)
    assert chosen.memory_format == torch.channels_last
    monkeypatch.setattr(runtime_module, "find_spec", lambda _: None)
    if compile == "on":
        with pytest.raises(UserError, match="triton"):
            choose_runtime("cuda", "auto", compile, steps)
    else:
        assert choose_runtime("cuda", "auto", compile, steps).compiled is None


def test_a_compiler_that_fails_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LT_BENCH_CACHE", str(tmp_path))
    source = tmp_path / "broken.cpp"
    source.write_text("this is not C++\n")
    with pytest.raises(NoCompilerError) as caught:
        load_native(source)
    assert len(str(caught.value).splitlines()) == 1
    assert not list(tmp_path.rglob("*.so"))


def test_no_compiler_on_the_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "any.cpp"
    source.write_text("// nothing\n")
    monkeypatch.setenv("LT_BENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(NoCompilerError, match=r"no C\+\+ compiler on PATH"):
        load_native(source)


@pytest.mark.usefixtures("with_kernels")
def test_what_was_compiled_once_needs_no_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "one.cpp"
    source.write_text('extern "C" int one() { return 1; }\n')
    monkeypatch.setenv("LT_BENCH_CACHE", str(tmp_path / "cache"))
    assert load_native(source).one() == 1
    load_native.cache_clear()
    monkeypatch.setenv("PATH", str(tmp_path))
    assert load_native(source).one() == 1


# --- torch.compile, by the parts of a network -----------------------------------------------------------


def compile_with(monkeypatch: pytest.MonkeyPatch, backend: Any) -> None:
    """Let torch.compile use this backend, which knows no CUDA graphs, instead of a compiler."""
    real = torch.nn.Module.compile

    def compile(self: torch.nn.Module, *, dynamic: bool, mode: str) -> None:
        real(self, backend=backend, dynamic=dynamic)

    monkeypatch.setattr(torch.nn.Module, "compile", compile)


def test_a_compiled_network_has_the_names_and_values_of_a_plain_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Traced and differentiated as on CUDA, but run by torch's own operations: no compiler is needed."""
    plain = resnet8(DualBranch)
    compiled = copy.deepcopy(plain)
    compile_with(monkeypatch, "aot_eager")
    runtime = Runtime(CPU, "float32", "torch.compile")
    compiled = runtime.prepare(compiled)
    assert list(compiled.state_dict()) == list(plain.state_dict())
    plain = plain.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    images = torch.randn(8, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    for network in (plain, compiled):
        (network.branch_logits(images, 0).square().sum() + network.branch_logits(images, 1).sum()).backward()
    for (name, p), q in zip(plain.named_parameters(), compiled.parameters(), strict=True):
        torch.testing.assert_close(q.grad, p.grad, rtol=1e-3, atol=1e-4, msg=lambda text, name=name: f"{name}: {text}")
    assert compiled.trunk._compiled_call_impl is not None


@pytest.mark.parametrize("regulariser", [Dropout, MaxDropout, DropBlock])
def test_a_regularised_network_does_not_run_the_code_of_a_plain_one(
    regulariser: type[Regulariser], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In one process a sweep compiles one network after the other; they may differ by hooks, which torch passes by."""
    compile_with(monkeypatch, "eager")
    images = torch.randn(8, 3, 32, 32, generator=torch.Generator().manual_seed(0))

    def answer(kind: Compiled | None, *regularisers: Regulariser) -> torch.Tensor:
        network = resnet8(Linear)
        place_all(regularisers, network)
        network = Runtime(CPU, "float32", kind).prepare(network)
        for one in network.regularisers:
            one.begin(Epoch(100, 200, 0))
        torch.manual_seed(0)
        return network(images)

    plain = answer("torch.compile")
    regularised = answer("torch.compile", regulariser())
    assert not torch.allclose(plain, regularised)
    torch.testing.assert_close(regularised, answer(None, regulariser()), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("head", [Linear, DualBranch])
def test_every_part_of_a_network_runs_as_one_graph(head: type[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """And not as one for each block, as torch 2.11 would do: a step would take twelve launches instead of two."""
    runs = 0

    def compiler(graph: torch.fx.GraphModule, _: list[torch.Tensor]) -> Any:
        def counted(*arguments: Any) -> Any:
            nonlocal runs
            runs += 1
            return graph.forward(*arguments)

        return counted

    compile_with(monkeypatch, compiler)
    network = Runtime(CPU, "float32", "torch.compile").prepare(resnet8(head))
    network(torch.zeros(4, 3, 32, 32))
    assert runs == 1 + len(network.branches)
    twin = copy.deepcopy(network)  # as PaCo makes one
    assert twin.trunk.forward.__self__ is twin.trunk


def test_only_full_training_batches_are_compiled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each further shape would be compiled for half a minute on CUDA: last batch of an epoch, test images."""
    images = []

    def compiler(graph: torch.fx.GraphModule, inputs: list[torch.Tensor]) -> Any:
        images.extend(len(x) for x in inputs if x.shape[1:] == (3, 32, 32))
        return graph.forward

    compile_with(monkeypatch, compiler)
    monkeypatch.setattr(run_module, "choose_runtime", lambda *_: Runtime(CPU, "float32", "torch.compile"))
    recipe = tiny("ce", "model.backbone=resnet8", "protocol.epochs=2", "protocol.schedule={warmup_epochs: 1}")
    train(recipe, tmp_path)
    assert images == [recipe.protocol.batch_size]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine")
@pytest.mark.parametrize("head", [Linear, DualBranch])
def test_compiled_on_cuda_the_gradients_are_those_of_the_cpu(head: type[Any]) -> None:
    images, labels = torch.randn(64, 3, 32, 32, generator=torch.Generator().manual_seed(0)), torch.arange(64) % 10
    gradients = []
    for runtime in (Runtime(CPU, "float32"), choose_runtime("cuda", "float32", "on")):
        network = runtime.prepare(resnet8(head))
        loss = torch.nn.functional.cross_entropy(network(images.to(runtime.device)), labels.to(runtime.device))
        loss.backward()
        gradients.append(torch.cat([p.grad.flatten().cpu() for p in network.parameters() if p.grad is not None]))
    cpu, cuda = gradients
    assert (cuda - cpu).norm() / cpu.norm() < 5e-3


# --- in a run ------------------------------------------------------------------------------------------

RESNET = ("model.backbone=resnet8", "protocol.epochs=3", "protocol.schedule={warmup_epochs: 1}")


@pytest.mark.usefixtures("working_folder", "with_kernels")
@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_with_the_kernels_an_interrupted_run_is_the_uninterrupted_one_bit_for_bit(
    precision: str, tmp_path: Path, tiny_backbone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = tiny("ce-drw", *RESNET)
    train(recipe, tmp_path / "whole", precision=precision, compile="on")
    at_epoch(monkeypatch, before=lambda _: None, after=once(1, 2))
    assert until_done(recipe, tmp_path / "cut", precision=precision, compile="on") == 2
    assert_same_result(tmp_path / "cut", tmp_path / "whole")
    assert record(tmp_path / "cut").environment.compile == "native kernels"


@pytest.mark.usefixtures("working_folder", "with_kernels")
def test_a_copy_of_the_network_that_a_method_keeps_uses_the_kernels_too(tmp_path: Path, tiny_backbone: Path) -> None:
    recipe = tiny("paco", *RESNET)
    job = build_job(recipe, open_split(recipe.data), 0, options(tmp_path, compile="on"), epochs=1)
    assert isinstance(job.method, PaCo)
    layers = [m for m in job.method.key_network.modules() if isinstance(m, BatchNormReLU)]
    assert [layer.fused for layer in layers] == [True] * 7


@pytest.mark.usefixtures("working_folder", "with_kernels")
def test_a_checkpoint_made_with_the_kernels_is_not_continued_without(
    tmp_path: Path, tiny_backbone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_epoch(monkeypatch, before=lambda _: None, after=once(1))
    with pytest.raises(KeyboardInterrupt):
        train(tiny("ce", *RESNET), tmp_path, compile="on")
    with pytest.raises(UserError, match="made with compile on, now compile is off; go on with --compile on"):
        train(tiny("ce", *RESNET), tmp_path, compile="off")


@pytest.mark.usefixtures("working_folder", "without_compiler")
def test_a_run_without_a_compiler_says_so_in_its_record(tmp_path: Path, tiny_backbone: Path) -> None:
    train(tiny("ce", *RESNET), tmp_path)
    assert record(tmp_path).environment.compile is False
