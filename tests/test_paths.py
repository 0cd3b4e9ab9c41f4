"""Every option and argument that is a path understands `~` and refuses what no path can be, in one line."""

from __future__ import annotations

import pwd
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lt_bench.cli.app import app, board_app, data_app
from lt_bench.errors import UserError
from lt_bench.paths import parse_file, parse_path

LtBench = Callable[..., Any]


def path_parameters() -> Iterator[tuple[str, Any]]:
    """Command and name of each, and what is declared of it."""
    for part in (app, data_app, board_app):
        for command in part.registered_commands:
            assert command.callback is not None
            for name, hint in get_type_hints(command.callback, include_extras=True).items():
                kind, *notes = get_args(hint) or (hint,)
                if Path in (kind, *get_args(kind)) or list[Path] in get_args(kind):
                    yield f"{command.callback.__name__} {name}", notes[0] if notes else None


READ = (parse_path, parse_file)
"""The second is the first, of what has to be there."""


def test_every_path_is_read_in_one_way() -> None:
    found = dict(path_parameters())
    assert len(found) > 20
    assert [name for name, declared in found.items() if getattr(declared, "parser", None) not in READ] == []


def test_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert parse_path("~/x") == tmp_path / "x"
    root = pwd.getpwuid(0)
    assert parse_path(f"~{root.pw_name}/x") == Path(root.pw_dir) / "x"
    assert parse_path("a/~/x") == Path("a/~/x")


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("~nobody-of-that-name/x", "there is no user of that name"),
        ("a" * 300, "longer than a name (255 bytes)"),
        ("\u00fc" * 130, "longer than a name (255 bytes)"),
        ("/".join(["a" * 100] * 50), "or a path (4095) can be"),
        ("", "'' is not a path"),
        ("a\0b", "is not a path"),
    ],
    ids=["no user", "long name", "long in bytes", "long path", "empty", "NUL"],
)
def test_what_is_no_path(word: str, said: str) -> None:
    with pytest.raises(UserError) as error:
        parse_path(word)
    assert said in str(error.value)
    assert len(str(error.value)) < 200


@given(st.text())
def test_any_word_is_a_path_or_refused(word: str) -> None:
    with suppress(UserError):
        parse_path(word).exists()


@pytest.mark.parametrize("word", ["~nobody-of-that-name/x", "a" * 300], ids=["no user", "long name"])
@pytest.mark.parametrize(
    "command",
    [
        ("run", "digits-lt/ce", "--records"),
        ("run", "digits-lt/ce", "--work"),
        ("list", "methods", "--plugin"),
        ("evaluate",),
        ("leaderboard", "diff"),
        ("data", "describe", "digits-lt", "--data-root"),
    ],
    ids=" ".join,
)
def test_on_the_command_line_it_is_one_line(lt_bench: LtBench, command: tuple[str, ...], word: str) -> None:
    done = lt_bench(*command, word)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith(f"lt-bench: {word[:50]}")
    assert len(done.err.splitlines()) == 1


def test_home_on_the_command_line(lt_bench: LtBench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home" / "x").mkdir(parents=True)
    assert lt_bench("leaderboard", "build", "--records=~/x", "--out=~/board").code == 0
    assert (tmp_path / "home" / "board" / "README.md").is_file()
    assert not (tmp_path / "~").exists()
