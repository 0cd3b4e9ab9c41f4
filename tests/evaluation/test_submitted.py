from __future__ import annotations

import io
import zipfile
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from lt_bench.errors import UserError
from lt_bench.evaluation.submitted import read_predictions

LABELS = np.array([0, 1, 2, 0])
PREDICTED = np.array([0, 1, 0, 2])
LOGITS = np.log([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.6, 0.2, 0.2], [0.3, 0.3, 0.4]])


def read(path: Path, images: object = 4) -> tuple[list[int], list[float] | None]:
    found = read_predictions(path, images, LABELS, 3)  # type: ignore[arg-type]
    assert found.predicted.dtype == np.int16
    known = found.confidence
    return found.predicted.tolist(), None if known is None else [round(p, 3) for p in known.tolist()]


@pytest.mark.parametrize("name", ["predicted", "class", "prediction"])
def test_classes_alone(name: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "p.npz", **{name: PREDICTED})
    assert read(tmp_path / "p.npz") == ([0, 1, 0, 2], None)


@pytest.mark.parametrize(
    "arrays", [{"logits": LOGITS + 7}, {"probabilities": np.exp(LOGITS)}, {"probs": np.exp(LOGITS).astype("f2")}]
)
def test_scores_give_class_and_confidence(arrays: dict[str, np.ndarray], tmp_path: Path) -> None:
    np.savez(tmp_path / "p.npz", **arrays)
    predicted, confidence = read(tmp_path / "p.npz")
    assert (predicted, confidence) == ([0, 1, 0, 2], pytest.approx([0.7, 0.8, 0.6, 0.4], abs=1e-3))


def test_of_equal_scores_any_class_may_be_stated(tmp_path: Path) -> None:
    np.savez(tmp_path / "p.npz", logits=np.zeros((4, 3)), predicted=[2, 1, 0, 0])
    assert read(tmp_path / "p.npz")[0] == [0, 0, 0, 0]


def test_rows_go_where_their_images_are(tmp_path: Path) -> None:
    np.savez(tmp_path / "p.npz", image=[3, 0, 2, 1], predicted=PREDICTED[[3, 0, 2, 1]], label=LABELS[[3, 0, 2, 1]])
    assert read(tmp_path / "p.npz")[0] == [0, 1, 0, 2]
    np.savez(tmp_path / "p.npz", image=["d", "a", "c", "b"], predicted=PREDICTED[[3, 0, 2, 1]])
    assert read(tmp_path / "p.npz", ["a", "b", "c", "d"])[0] == [0, 1, 0, 2]


def test_a_csv(tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text("image,predicted,confidence\n1,1,0.8\n0,0,0.7\n2,0,0.6\n3,2,1\n")
    assert read(tmp_path / "p.csv") == ([0, 1, 0, 2], [0.7, 0.8, 0.6, 1.0])
    lines = [",".join(map(str, row)) for row in np.exp(LOGITS).tolist()]
    (tmp_path / "p.csv").write_text("\n".join(["prob_0,prob_1,prob_2", *lines]))
    assert read(tmp_path / "p.csv") == ([0, 1, 0, 2], [0.7, 0.8, 0.6, 0.4])


REFUSED = [
    ({"predicted": PREDICTED[:3]}, "3 predictions of 4 test images"),
    ({"predicted": PREDICTED + 1}, "predicted: row 3 has class 3, allowed are 0 to 2"),
    ({"predicted": PREDICTED * 1.0}, "predicted: expected whole numbers [N], found float64 [4]"),
    ({"probabilities": np.exp(LOGITS) / 2}, "probabilities: row 0 sums to 0.5"),
    ({"probabilities": np.exp(LOGITS)[:, :2]}, "probabilities: expected numbers [N, 3], found float64 [4, 2]"),
    ({"logits": np.where(LOGITS > -0.3, np.nan, LOGITS)}, "logits: row 1 is not finite"),
    ({"predicted": PREDICTED, "image": [0, 1, 2, 2]}, "image: 2 of the test set comes more than once"),
    ({"predicted": PREDICTED, "image": [0, 1, 2, 4]}, "image: '4' is not in the test set of 4 images"),
    ({"predicted": PREDICTED, "image": ["a", "b", "c", "d"]}, "image: 'a' is not in the test set"),
    ({"predicted": PREDICTED, "label": [0, 1, 1, 0]}, "label: 1 of 4 are not those of the test set"),
    ({"predicted": PREDICTED, "confidence": [0.5, 0.5, 0.5, 1.5]}, "confidence: expected a probability from 0 to 1"),
    ({"logits": LOGITS, "class": [0, 1, 0, 1]}, "class: row 3 has class 1, its largest score is of 2"),
    ({"logits": LOGITS, "predicted": PREDICTED[:3]}, "predicted: 3 classes of 4 predictions"),
    ({"guess": PREDICTED}, "holds neither classes (predicted, class, prediction) nor scores"),
    ({"predicted": np.array([None] * 4)}, "not a readable .npz of predictions"),
]


@pytest.mark.parametrize(("arrays", "said"), REFUSED, ids=[said for _, said in REFUSED])
def test_refused_with_the_reason(arrays: dict[str, np.ndarray], said: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "p.npz", allow_pickle=True, **arrays)
    with pytest.raises(UserError) as caught:
        read(tmp_path / "p.npz")
    assert str(caught.value).startswith(f"{tmp_path / 'p.npz'}: {said}")


def test_files_of_other_kinds(tmp_path: Path) -> None:
    (tmp_path / "p.npz").write_bytes(b"no archive")
    with pytest.raises(UserError, match=r"not a readable \.npz of predictions"):
        read(tmp_path / "p.npz")
    bomb = io.BytesIO()
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("predicted.npy", b"0")
        archive.infolist()[0].file_size = 2**33
    (tmp_path / "p.npz").write_bytes(bomb.getvalue())
    with pytest.raises(UserError, match="8,589,934,592 bytes when unpacked"):
        read(tmp_path / "p.npz")
    too_large = "predicted\n" + "9" * 30 + "\n1\n1\n1\n"
    for text, said in (("", "holds neither classes"), (too_large, "predicted: expected whole numbers")):
        (tmp_path / "p.csv").write_text(text)
        with pytest.raises(UserError, match=said):
            read(tmp_path / "p.csv")
    (tmp_path / "p.csv").write_text("predicted\n" + "x" * 200_000)
    with pytest.raises(UserError, match="not a readable CSV of predictions: field larger than"):
        read(tmp_path / "p.csv")
    (tmp_path / "p.csv").write_text("predicted,confidence\n1\n")
    with pytest.raises(UserError, match="line 2 has 1 fields, the head has 2"):
        read(tmp_path / "p.csv")
    (tmp_path / "p.csv").write_text("predicted,,\n1,,\n0,,\n0,,\n2,,\n")  # as spreadsheets write
    assert read(tmp_path / "p.csv")[0] == [1, 0, 0, 2]
    (tmp_path / "p.csv").write_text("predicted, predicted\n1,0\n")
    with pytest.raises(UserError, match="the head has 'predicted' 2 times"):
        read(tmp_path / "p.csv")
    with pytest.raises(UserError, match=r"'\.txt' is not a known suffix of predictions"):
        read(tmp_path / "p.txt")


def test_a_damaged_archive_is_refused_or_read_and_nothing_else(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "whole.npz", logits=LOGITS, image=np.array(list("abcd")), label=LABELS)
    whole, rng = (tmp_path / "whole.npz").read_bytes(), np.random.default_rng(0)
    for _ in range(100):
        damaged = np.frombuffer(whole, np.uint8).copy()
        damaged[rng.integers(len(damaged), size=3)] = rng.integers(256, size=3)
        (tmp_path / "p.npz").write_bytes(damaged[: rng.integers(len(damaged) // 2, len(damaged) + 1)].tobytes())
        with suppress(UserError):
            read_predictions(tmp_path / "p.npz", list("abcd"), LABELS, 3)
