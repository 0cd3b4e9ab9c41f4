"""A checkpoint is continued by the run that it belongs to, as it was made, or not at all."""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from run_cases import at_epoch, once, only, tiny, train, weights

from lt_bench.errors import UserError
from lt_bench.leaderboard.record import load_record

pytestmark = pytest.mark.usefixtures("working_folder", "tiny_backbone")


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """That of a run interrupted after its third epoch."""
    with pytest.MonkeyPatch.context() as patch:
        at_epoch(patch, before=lambda _: None, after=once(3))
        with pytest.raises(KeyboardInterrupt):
            train(tiny(), tmp_path, precision="float32")
    return only(tmp_path, "checkpoint.pt")


class Evil:
    """Unpickled by a careless reader, it would leave a file behind."""

    def __reduce__(self) -> Any:
        return Path.touch, (Path("evil"),)


def damage(path: Path, how: str) -> None:
    data = bytearray(path.read_bytes())
    if how == "altered":
        with zipfile.ZipFile(path) as archive:
            tensor = archive.read(max(archive.infolist(), key=lambda entry: entry.file_size))
        data[data.index(tensor) + len(tensor) // 2] ^= 0xFF
    whole = {"truncated": data[: len(data) // 2], "empty": b"", "text": b"not a checkpoint", "altered": data}
    if how in whole:
        path.write_bytes(whole[how])
    elif how == "pickle":
        torch.save({"setting": {}, "network": Evil()}, path)
    elif how == "list":
        torch.save([1, 2], path)
    else:
        content = torch.load(path, weights_only=True)
        if how == "incomplete":
            del content["optimizer"]
        else:
            content["network"]["trunk.0.weight"] = torch.zeros(1)
        torch.save(content, path)


@pytest.mark.parametrize(
    "how", ["truncated", "empty", "text", "altered", "pickle", "list", "incomplete", "other shape"]
)
def test_a_damaged_checkpoint_is_one_line(checkpoint: Path, tmp_path: Path, how: str) -> None:
    damage(checkpoint, how)
    with pytest.raises(
        UserError, match=r"checkpoint\.pt: not a checkpoint of this run .*; --no-resume trains anew"
    ) as caught:
        train(tiny(), tmp_path, precision="float32")
    assert "\n" not in str(caught.value)
    assert not Path("evil").exists()
    train(tiny(), tmp_path, precision="float32", restart=True)
    assert weights(tmp_path)


def test_a_checkpoint_of_another_arithmetic_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    line = "made with precision float32, now precision is bf16; go on with --precision float32 or begin anew"
    with pytest.raises(UserError, match=f"{line} with --no-resume"):
        train(tiny(), tmp_path, precision="bf16")
    assert train(tiny(), tmp_path, precision="float32").trained
    assert not checkpoint.exists()
    assert load_record(only(tmp_path, "seed*.json")).environment.precision == "float32"


# --- of another run ----------------------------------------------------------------------------------


def interrupted(folder: Path, recipe: Any, seed: int = 0) -> Path:
    """The checkpoint of a run interrupted after its third epoch."""
    with pytest.MonkeyPatch.context() as patch:
        at_epoch(patch, before=lambda _: None, after=once(3))
        with pytest.raises(KeyboardInterrupt):
            train(recipe, folder, seed, precision="float32")
    return only(folder, "checkpoint.pt")


@pytest.mark.parametrize(
    ("name", "seed", "whose"),
    [
        ("mixup", 0, "digits-lt mixup seed 0, not of digits-lt ce seed 0 (another recipe)"),
        ("ce", 1, "digits-lt ce seed 1, not of digits-lt ce seed 0 (another seed)"),
    ],
)
def test_the_checkpoint_of_another_run_is_refused(
    checkpoint: Path, tmp_path: Path, name: str, seed: int, whose: str
) -> None:
    shutil.copy(interrupted(tmp_path / "other", tiny(name), seed), checkpoint)
    with pytest.raises(UserError) as caught:
        train(tiny(), tmp_path, precision="float32")
    line = f"{checkpoint}: the checkpoint of another run, {whose}; --no-resume trains anew"
    assert str(caught.value) == line
    assert not (tmp_path / "records").exists() or not list((tmp_path / "records").rglob("*.json"))


def altered(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    content = torch.load(path, weights_only=True)
    change(content)
    torch.save(content, path)


def test_the_checkpoint_of_other_data_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    altered(checkpoint, lambda content: content["owner"].update(split="0" * 64))
    with pytest.raises(UserError, match=r"of another run, .* \(another split\)"):
        train(tiny(), tmp_path, precision="float32")


# --- of this run, with what no run leaves behind ------------------------------------------------------


def longer(content: dict[str, Any]) -> None:
    content["curve"] += [{**content["curve"][-1], "epoch": epoch} for epoch in (3, 4, 5)]


@pytest.mark.parametrize(
    "change",
    [
        longer,
        lambda content: content["curve"][1].update(epoch=0),
        lambda content: content["curve"][1].update(train_loss="low"),
        lambda content: content["curve"][2].update(test_top1=1.0),
        lambda content: content["curve"].clear(),
        lambda content: content.update(curve=7),
        lambda content: content["selections"]["last"]["correct"].reverse(),
        lambda content: content["selections"]["best-on-test"].update(epoch=0),
        lambda content: content["selections"].pop("last"),
        lambda content: content["predictions"]["predicted"].zero_(),
        lambda content: content["predictions"].update(confidence=torch.zeros(3)),
        lambda content: content.update(train_s=float("nan")),
        lambda content: content.update(images=-1),
        lambda content: content.update(wall_s="long"),
        lambda content: content.pop("ended"),
        lambda content: content["owner"].update(more=1),
    ],
)
def test_nonsense_in_a_checkpoint_is_one_line(
    checkpoint: Path, tmp_path: Path, change: Callable[[dict[str, Any]], Any]
) -> None:
    altered(checkpoint, change)
    with pytest.raises(UserError, match=r"not a checkpoint of this run .*; --no-resume trains anew") as caught:
        train(tiny(), tmp_path, precision="float32")
    assert "\n" not in str(caught.value)
