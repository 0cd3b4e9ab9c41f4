"""YAML as people write it, and as somebody hostile does."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lt_bench.errors import UserError
from lt_bench.yaml_files import parse_yaml, read_yaml


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 1e-4),
        ("5E3", 5000.0),
        ("-.5", -0.5),
        ("2.", 2.0),
        (".inf", math.inf),
        ("160", 160),
        ("true", True),
        ("no", "no"),
        ("on", "on"),
        ("=", "="),
        ("{<<: 1}", {"<<": 1}),
        ("80%", "80%"),
        ("010", "010"),
        ("1:30", "1:30"),
        ("-7", -7),
        ("2022-03-01", "2022-03-01"),
        ("", None),
        ("null", None),
        ("[1, 2.5, x]", [1, 2.5, "x"]),
        ("{a: {b: 1}}", {"a": {"b": 1}}),
        ('"0.1"', "0.1"),
    ],
)
def test_scalars_as_people_mean_them(text: str, value: object) -> None:
    found = parse_yaml(text, "here")
    assert found == value
    assert type(found) is type(value)


text = st.text(st.characters(categories=("L", "N", "P", "S", "Zs")))
numbers = st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False)
scalars = st.none() | st.booleans() | numbers | text
trees = st.recursive(scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc"), inner))


@given(trees)
def test_json_is_read_as_what_it_is(tree: Any) -> None:
    assert parse_yaml(json.dumps(tree, ensure_ascii=False), "here") == tree


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("a: 1\nb: 2\na: 3\n", ":3: .*duplicate key 'a'"),
        ("a:\n  b: 1\n  b: 1\n", ":3: .*duplicate key 'b'"),
        ("a: !!bool maybe\n", ":1: .*the tag 'tag:yaml.org,2002:bool' is not read"),
        ("a: !!int ''\n", ":1: .*the tag 'tag:yaml.org,2002:int' is not read"),
        ("!!map [a]\n", "the tag 'tag:yaml.org,2002:map' is not read"),
        (f"a: {'9' * 400}\n", f":1: .*the number 99999999999999999999... is beyond {2**53}"),
        (f"a: -{2**53 + 1}\n", f"is beyond {2**53}"),
        ("a: [1, 2\n", "expected ',' or ']'"),
        ("a: b: c\n", ":1: .*mapping values are not allowed"),
        ("\tmodel: 1\n", r"cannot start any token"),
        ("a: \x00\n", "special characters are not allowed"),
        ("a: !!python/object/apply:os.system ['true']\n", "the tag .* is not read"),
        ("a: !!python/name:os.system\n", "the tag .* is not read"),
        ("a: !include other.yaml\n", "the tag .* is not read"),
        ("a: !!int x\n", "not readable YAML"),
        ("a: !!float x\n", "not readable YAML"),
        (f"a: {'9' * 5000}\n", "not readable YAML"),
        ("? [1, 2]\n: 3\n", r"\[1, 2\] cannot be a key"),
        ("? {a: 1}\n: 3\n", "cannot be a key"),
        ("a: &x {b: *x}\n", r":1: .*alias \*x"),
        ("a: &x [1]\nb: *x\n", r":2: .*alias \*x"),
        ("[" * 5000, "nested too deeply"),
        ("", "expected a mapping of fields, found NoneType"),
        ("# only a comment\n", "expected a mapping of fields, found NoneType"),
        ("- a\n- b\n", "expected a mapping of fields, found list"),
        ("just text\n", "expected a mapping of fields, found str"),
        ("a: 1\n---\nb: 2\n", "found another document"),
    ],
)
def test_unreadable_text_is_one_line(tmp_path: Path, text: str, complaint: str) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=complaint) as caught:
        read_yaml(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is a directory"):
        read_yaml(tmp_path)
    with pytest.raises(UserError, match="there is no such file"):
        read_yaml(tmp_path / "absent.yaml")
    (tmp_path / "latin.yaml").write_bytes(b"a: caf\xe9\n")
    with pytest.raises(UserError, match=r"latin\.yaml: not readable"):
        read_yaml(tmp_path / "latin.yaml")
    (tmp_path / "loop.yaml").symlink_to("loop.yaml")
    with pytest.raises(UserError, match=r"loop\.yaml: not readable"):
        read_yaml(tmp_path / "loop.yaml")


def test_no_pipe_is_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.yaml")
    with pytest.raises(UserError, match="not a regular file"):
        read_yaml(tmp_path / "pipe.yaml")
