"""Second stages that must be refused: what does not fit, trains nothing, or changes its first stage."""

from __future__ import annotations

from pathlib import Path

import pytest
from refusal_cases import refusal

from lt_bench.errors import UserError
from lt_bench.recipe import load_recipe


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("second_stage=crtt",), r"second_stage: 'crtt' is not a known stage; did you mean crt\?"),
        (("second_stage=[crt]",), r"second_stage: expected a name or a mapping with a name"),
        (("second_stage.lr=0.1",), r"second_stage: expected a name or a mapping with a name"),
        (
            ("second_stage=crt", "second_stage.epoch=3"),
            r"'epoch' is not a known field of second_stage; did you mean epochs",
        ),
        (("second_stage=tau-norm", "second_stage.epochs=3"), r"second_stage.epochs: .*0"),
        (("second_stage=crt", "second_stage.loss=ldam"), r"the loss ldam needs the head cosine, found linear"),
        (
            ("second_stage=crt", "second_stage.sampler=balanced"),
            r"second_stage.sampler: 'balanced' is not a known sampler",
        ),
        (("second_stage=crt", "model.head=cosine", "loss=ldam"), r"starts from the head linear, found cosine"),
        (("second_stage=crt", "second_stage.epochs=0"), r"second_stage.epochs: .*greater than or equal to 1"),
        (("second_stage=ncm", "second_stage.lr=0.5"), r"second_stage: lr has no effect on a stage that trains nothing"),
        (("second_stage=ncm", "second_stage.mix=cmo"), r"second_stage.mix: ncm trains nothing; leave it out"),
        (("second_stage=ncm", "second_stage.loss=focal"), r"second_stage.loss: ncm trains nothing, and focal leaves"),
        (("second_stage=post-hoc", "second_stage.loss.post_hoc=false"), r"logit-adjustment leaves the logits alone"),
        (("second_stage=post-hoc", "second_stage.loss=cross-entropy"), r"cross-entropy leaves the logits alone"),
        (("second_stage=post-hoc", "loss=balanced-softmax"), r"without which balanced-softmax has learned the logits"),
        (("second_stage=post-hoc", "loss=lade"), r"without which lade has learned the logits"),
        (("second_stage=post-hoc", "loss=vs"), r"without which vs has learned the logits"),
        (("second_stage=post-hoc", "loss=logit-adjustment"), r"without which logit-adjustment has learned the logits"),
        (
            ("second_stage=test-time-ensembling", "model.head=cosine", "method=robal"),
            r"test-time-ensembling reads the classifier by a loss, and the method robal has a way of its own",
        ),
    ],
)
def test_second_stages_that_cannot_be(overrides: tuple[str, ...], message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        load_recipe("digits-lt/ce", overrides)
    assert "\n" not in str(caught.value)


def test_a_loss_may_read_what_no_stage_trained() -> None:
    post_hoc = ["second_stage=ncm", "second_stage.loss={name: logit-adjustment, post_hoc: true}"]
    second = load_recipe("digits-lt/ce", post_hoc).second_stage
    assert second is not None
    assert second.loss["post_hoc"] is True


@pytest.mark.parametrize(
    ("overrides", "loss"),
    [
        (["loss={name: logit-adjustment, post_hoc: true}"], {"name": "logit-adjustment", "post_hoc": True}),
        (["loss=balanced-softmax"], {"name": "balanced-softmax"}),
        (["loss=ldam", "model.head=cosine"], {"name": "ldam"}),
    ],
)
def test_crops_are_read_as_the_whole_images_were(overrides: list[str], loss: dict[str, object]) -> None:
    recipe = load_recipe("digits-lt/ce", [*overrides, "second_stage=test-time-ensembling"])
    assert recipe.second_stage is not None
    assert recipe.second_stage.loss == recipe.phases[-1].loss
    assert loss.items() <= recipe.second_stage.loss.items()


def test_a_second_stage_changes_nothing_of_the_first(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("extends: digits-lt/ce\nloss: balanced-softmax\nsecond_stage: crt\n")
    with pytest.raises(UserError, match="the recipe changes what it extends; the first stage has to be ce itself"):
        load_recipe(path)
    path.write_text(
        "extends: protocols/digits-demo\ndata: {name: digits-lt}\nmodel: {backbone: resnet8}\nsecond_stage: crt\n"
    )
    with pytest.raises(UserError, match="the recipe must extend that of its first stage"):
        load_recipe(path)


def test_an_inherited_second_stage_follows_the_same_first_stage(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("extends: digits-lt/crt\nnotes: mine\n")
    assert load_recipe(path).first() == load_recipe("digits-lt/ce")
    path.write_text("extends: digits-lt/crt\ndata: {factor: 5}\n")
    assert "second_stage: beside it the recipe changes what it extends" in refusal(path)
