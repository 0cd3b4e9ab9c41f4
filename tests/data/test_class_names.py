"""Names of classes: those that a record can hold, in the order of the labels, or made."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from lt_bench.data.cards import load_card
from lt_bench.data.class_names import ClassFile, agreed, fault, from_folders, made
from lt_bench.data.folder import FilePart
from lt_bench.errors import UserError
from lt_bench.leaderboard.fields import Name

CARD = load_card("cifar10-lt")
assert CARD.class_names is not None


@given(st.text(st.characters(), max_size=20) | st.integers(495, 505).map("a".__mul__))
def test_what_has_no_fault_goes_into_a_record(name: str) -> None:
    try:
        TypeAdapter(Name).validate_python(name)
        held = bool(name.strip())  # a blank name is held, but is none
    except ValidationError:
        held = False
    assert (fault(name) is None) == held


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("", "is blank"),
        (" \u3000", "is blank"),
        ("two\nlines", "holds a line break"),
        ("n" * 501, "has 501 characters, the most is 500"),
        ("\ud800", "control character"),
        (None, "is not text"),
        (7, "is not text"),
    ],
)
def test_the_fault_is_said(name: object, said: str) -> None:
    assert said in (fault(name) or "")


def test_the_names_in_the_data_are_those_of_the_card() -> None:
    names = CARD.class_names
    assert names is not None
    assert agreed(CARD, [], "here") == names
    assert agreed(CARD, names, "here") == names
    without = CARD.model_copy(update={"class_names": None})
    assert agreed(without, names[::-1], "here") == names[::-1]
    assert agreed(without, [], "here") == tuple("0123456789")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda names: names[1:2] + names[:1] + names[2:], "here: class 0 is called 'automobile', on the card"),
        (lambda names: (*names, "eleven"), "here, class 10: 11 classes are named, expected 10"),
        (lambda names: names[:9], "9 classes are named, expected 10"),
        (lambda names: (*names[:9], names[0]), "class 9: the class name 'airplane' is that of here, class 0 too"),
        (lambda names: (*names[:9], "a\nb"), r"here, class 9: the class name 'a\\nb' holds a line break"),
        (lambda names: (*names[:9], 3), "here, class 9: the class name '3' is not text"),
    ],
)
def test_names_in_the_data_that_contradict(change: object, message: str) -> None:
    assert callable(change)
    with pytest.raises(UserError, match=message):
        agreed(CARD, change(CARD.class_names), "here")


def class_file(folder: Path, text: str, classes: int = 3) -> ClassFile:
    (folder / "classes.txt").write_bytes(text.encode())
    return ClassFile(folder / "classes.txt", classes)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("n0\tcat, house cat\nn1\tdog\nn2\tcow\n", ("cat", "dog", "cow")),
        ("\ufeffn0\tcat\r\nn1\t dog \r\nn2\t\r\n", ("cat", "dog", "n2")),
        ("cat\nhot dog, cold\nžába", ("cat", "hot dog, cold", "žába")),
        ("n0\tcrane\nn1\tcrane, bird\nn2\tcow\n", ("crane (n0)", "crane (n1)", "cow")),
    ],
)
def test_a_class_file(tmp_path: Path, text: str, names: tuple[str, ...]) -> None:
    assert class_file(tmp_path, text).names == names


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("n0\tcat\n\nn2\tdog\n", "classes.txt:2: the class name '' is blank"),
        ("n0\tcat\nn1\tdog\nn2\tcow\n\n", "classes.txt:4: the class name '' is blank"),
        ("a\nb\nc\nd\n", "classes.txt: names 4 classes, expected 3"),
        ("", "classes.txt: names 0 classes, expected 3"),
        ("a\nb\na\n", "classes.txt:3: the class name 'a' is that of .*classes.txt:1 too"),
        ("n0\ta\nn1\tb\nn0\tc\n", "classes.txt:3: the class name 'n0' is that of"),
        (f"a\n{'b' * 600}\nc\n", "classes.txt:2: the class name 'b+' has 600 characters, the most is 500"),
        ("n0\ta\nn1\tb\x07\nn2\tc\n", r"classes.txt:2: the class name 'b\\x07' holds a line break or another control"),
    ],
)
def test_a_class_file_that_names_no_classes(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        class_file(tmp_path, text)
    assert "\n" not in str(caught.value)


def part(*files: str, labels: tuple[int, ...] | None = None) -> FilePart:
    return FilePart(Path(), files, np.array(labels or range(len(files))))


def test_names_in_another_order_than_the_labels(tmp_path: Path) -> None:
    names = class_file(tmp_path, "n0\tcat\nn2\tdog\nn1\tcow\n")
    names.check_folders(part("train/n0/a.jpg", "train/n2/a.jpg", "elsewhere/a.jpg", "a.jpg", labels=(0, 1, 0, 2)))
    with pytest.raises(UserError, match=r"classes.txt:3: n1 is class 2, but the label of train/n1/a.jpg is 1"):
        names.check_folders(part("train/n0/a.jpg", "train/n1/a.jpg", labels=(0, 1)))


@pytest.mark.parametrize(
    ("files", "names"),
    [
        (("train/n0/a.jpg", "train/n1/a.jpg"), ("n0", "n1")),
        (("./žába/a.jpg", "hot dog//a.jpg"), ("žába", "hot dog")),
        (("d/b/bakery/shop/1.jpg", "d/g/gift/shop/1.jpg"), ("b/bakery/shop", "g/gift/shop")),
        (("a.jpg", "b.jpg"), made(2)),
        (("all/a.jpg", "all/b.jpg"), made(2)),
        (("n0/a.jpg", "b.jpg"), made(2)),
        (("n0/a.jpg", "a\nb/b.jpg"), made(2)),
    ],
)
def test_names_from_folders(files: tuple[str, ...], names: tuple[str, ...]) -> None:
    assert from_folders(part(*files), 2) == names


def test_a_class_in_several_folders_has_no_name() -> None:
    assert from_folders(part("n0/a.jpg", "n0b/a.jpg", "n1/a.jpg", labels=(0, 0, 1)), 2) == ("0", "1")
