"""What runs have left, looked at by the command line: weights, logs, records."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable
from contextlib import redirect_stderr
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from run_cases import RUN, refused

from lt_bench.data.opening import open_split
from lt_bench.errors import UserError
from lt_bench.training.weights import read_weights

pytestmark = pytest.mark.usefixtures("working_folder", "tiny_backbone")

LtBench = Callable[..., Any]


def told_of_split(path: Path, **then: Any) -> str:
    """What is said of weights that were trained on their data as it was `then`."""
    weights, said = read_weights(path), io.StringIO()
    with redirect_stderr(said):
        replace(weights, **then).as_trained(open_split(weights.recipe.data, None))
    return said.getvalue()


def test_evaluate(lt_bench: LtBench, working_folder: Path) -> None:
    lt_bench(*RUN)
    (weights,) = working_folder.rglob("weights.safetensors")
    (path,) = working_folder.rglob("seed*.json")
    expected = json.loads(path.read_text())["selections"]["last"]
    found = json.loads(lt_bench("evaluate", weights, "--device", "cpu", "--json").out)
    assert (found["correct"], found["total"]) == (expected["correct"], expected["total"])
    assert (found["unit"], found["top1"]) == ("fraction", pytest.approx(sum(expected["correct"]) / 600))
    last = found["classes"][9]
    assert (last["class_name"], last["group"], last["total"]) == ("9", "few", 60)
    assert last["accuracy"] == pytest.approx(expected["correct"][9] / 60)
    assert told_of_split(weights) == ""
    told = told_of_split(weights, split="0" * 64)
    assert f"trained on another split ({'0' * 12}) than digits-lt has now" in told
    assert "): test images may be training images" in told
    refused(lt_bench("evaluate", path), "not the weights of a run")
    refused(lt_bench("evaluate", "absent"), "absent: there is no such file")
    refused(lt_bench("evaluate", working_folder), "not the weights of a run")


def test_weights_of_classes_that_have_moved(lt_bench: LtBench, working_folder: Path) -> None:
    lt_bench(*RUN)
    (path,) = working_folder.rglob("weights.safetensors")
    names = tuple("0123456789")
    assert read_weights(path).class_names == names
    with pytest.raises(UserError, match=r"trained when class 0 of digits-lt was '1', which is class 1 now"):
        told_of_split(path, class_names=("1", "0", *names[2:]))
    with pytest.raises(UserError, match=r"trained on 9 classes, and digits-lt has 10 now"):
        told_of_split(path, class_names=names[1:])
    for unmoved, doubt in (
        (None, "classes may stand in another order"),
        (("zero", *names[1:]), "class 0 was 'zero' and is '0'"),
    ):
        assert told_of_split(path, class_names=unmoved) == ""
        assert f"): {doubt}, test images may be" in told_of_split(path, class_names=unmoved, split="0" * 64)


def test_an_evaluation_that_is_interrupted_has_nothing_to_go_on_from(
    lt_bench: LtBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("weights.safetensors").touch()

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("lt_bench.training.evaluate.evaluate_weights", interrupted)
    done = lt_bench("evaluate", "weights.safetensors")
    assert (done.code, done.err) == (130, "lt-bench: interrupted\n")


def test_evaluate_tells_percent_classes_speed_and_every_image(lt_bench: LtBench, working_folder: Path) -> None:
    lt_bench(*RUN)
    (weights,) = working_folder.rglob("weights.safetensors")
    (path,) = working_folder.rglob("seed*.json")
    expected = json.loads(path.read_text())["selections"]["last"]
    told = lt_bench("evaluate", weights, "--device", "cpu", "--predictions", "all.npz")
    assert re.fullmatch(r"digits-lt/ce seed 0: .+, \d+ threads?, .+\n", told.err)
    assert re.search(r"^digits-lt/ce seed 0: 600 test images in [\d.]+ s, [\d,]+ images/s\n", told.out)
    assert re.search(rf"^top1 ↑ +{sum(expected['correct']) / 6:.2f} *\n", told.out, re.M)
    assert re.search(rf"^9 +9 +few +\d+ +60 +{expected['correct'][9] / 0.6:.2f} *\n", told.out, re.M)
    with np.load("all.npz", allow_pickle=False) as arrays:
        assert arrays["logits"].shape == (600, 10)
        np.testing.assert_array_equal(arrays["logits"].argmax(1), arrays["predicted"])
        right = arrays["label"][arrays["predicted"] == arrays["label"]]
        assert np.bincount(right, minlength=10).tolist() == expected["correct"]
        assert (arrays["class_names"][9], arrays["image"][599]) == ("9", 599)
    told = lt_bench("evaluate", weights, "--device", "cpu", "--predictions", "all.csv", "--no-per-class")
    assert (told.code, "accuracy %" in told.out) == (0, False)
    header, first, *rest = Path("all.csv").read_text().splitlines()
    assert header.startswith("image,label,predicted,confidence,logit_0,") and header.endswith(",logit_9")
    assert (len(rest), first.startswith("0,")) == (599, True)
    refused(
        lt_bench("evaluate", weights, "--predictions", "all.txt"), "all.txt: '.txt' is not a known suffix", ".csv, .npz"
    )
    refused(
        lt_bench("evaluate", weights, "--predictions", "absent/all.npz"), "absent/all.npz: there is no folder absent"
    )
