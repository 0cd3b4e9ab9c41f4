"""The pages, as files and as the site made of them: links, navigation, and the commands that they tell."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

import nbformat
import pytest
import typer
import yaml
from run_cases import STRANGER

from lt_bench.recipe import load_recipe
from lt_bench.recipe.files import SETTINGS, shipped

ROOT = Path(__file__).parents[1]
IN_NAVIGATION = (
    "README.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "benchmarks/*.md",
    "leaderboard/*.md",
    "leaderboard/robustness/*.md",
    "leaderboard/v1/*.md",
    "docs/*.md",
)
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.M | re.S)
MARKED = re.compile(r"^<!-- tests: (run|refused|write) ?(\S*) -->\n```\w*\n(.*?)^```$", re.M | re.S)
"""Blocks that are run, refused, or written to the file of that name, in their order on the page."""


def found(*patterns: str) -> list[str]:
    return [path.relative_to(ROOT).as_posix() for pattern in patterns for path in sorted(ROOT.glob(pattern))]


PAGES = found(*IN_NAVIGATION)
LINKED = [*PAGES, *found("leaderboard/v1/tables/*.md", "notebooks/*.ipynb")]


def text_of(page: str) -> str:
    """A page's Markdown; of a notebook that of its cells."""
    text = (ROOT / page).read_text(encoding="utf-8")
    if not page.endswith(".ipynb"):
        return text
    cells = nbformat.reads(text, as_version=4).cells
    return "\n\n".join(cell.source for cell in cells if cell.cell_type == "markdown")


def anchors(page: str) -> set[str]:
    """The last part of a link to each heading, as web pages of Markdown have it."""
    headings = re.findall(r"^#+ +(.+?) *$", FENCE.sub("", text_of(page)), re.M)
    return {re.sub(r"[^\w\- ]", "", heading).lower().replace(" ", "-") for heading in headings}


def broken(page: str, target: str) -> bool:
    path, _, anchor = target.partition("#")
    file = (ROOT / page).parent / path if path else ROOT / page
    return not file.exists() or bool(anchor and anchor not in anchors(file.resolve().relative_to(ROOT).as_posix()))


def links(page: str) -> set[str]:
    """Targets of its links that are no addresses."""
    prose = re.sub(r"`[^`\n]+`(?!\])", "", FENCE.sub("", text_of(page)))
    targets = set(re.findall(r"\]\(([^()\s]+)\)", prose))
    return {target for target in targets if not re.match(r"https?:|mailto:", target)}


@pytest.mark.parametrize("page", LINKED)
def test_every_link_leads_somewhere(page: str) -> None:
    assert [target for target in sorted(links(page)) if broken(page, target)] == []


def test_the_site_has_every_file_that_a_page_of_its_navigation_links_to() -> None:
    hook = ast.parse((ROOT / "docs/site_hook.py").read_text(encoding="utf-8"))
    (shown,) = (
        ast.literal_eval(node.value)
        for node in hook.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "SHOWN"
    )
    there = {(ROOT / file).resolve() for file in found(*shown)}
    targets = {((ROOT / page).parent / link.partition("#")[0]).resolve() for page in PAGES for link in links(page)}
    missing = [target for target in targets - there if target.is_file()]
    assert missing == []


@pytest.mark.parametrize("target", ["nowhere.md", "data.md#nowhere", "#nowhere", "../lt_bench/nowhere.py"])
def test_a_broken_link_is_seen(target: str) -> None:
    assert broken("docs/library.md", target)
    assert not broken("docs/methods.md", "../CONTRIBUTING.md#in-this-repository")


def test_the_navigation_of_the_site_has_every_page_once() -> None:
    def pages(node: Any) -> Iterator[str]:
        if isinstance(node, str):
            yield node
        else:
            for below in node.values() if isinstance(node, dict) else node:
                yield from pages(below)

    site = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    assert sorted(pages(site["nav"])) == sorted(PAGES)


def test_the_reference_is_of_what_there_is() -> None:
    asked = re.findall(r"^::: (\S+)\n(?: +options: (.*)\n)?", text_of("docs/reference.md"), re.M)
    assert len(asked) > 10
    for name, options in asked:
        described = resolve_name(name)
        members = yaml.safe_load(options)["members"] if options else []
        assert [member for member in members if not hasattr(described, member)] == [], name


def commands(page: str) -> Iterator[tuple[str, bool]]:
    """The calls of `lt-bench` that a page tells, and whether they are whole: in its text some are only named."""
    for language, block in FENCE.findall(text_of(page)):
        lines = [] if language else block.replace("\\\n", " ").splitlines()
        called = [line.removeprefix(".venv/bin/") for line in lines]
        yield from ((line, True) for line in called if line.startswith("lt-bench "))
    for code in re.findall(r"`(lt-bench [^`]+)`", FENCE.sub("", text_of(page))):
        yield " ".join(code.split()), False


def parsed(line: str) -> dict[str, Any]:
    """The arguments and options of a call. Raises KeyError for an unknown command, click's errors for the rest."""
    from lt_bench.cli import app

    command: Any = typer.main.get_command(app)
    words = shlex.split(line, comments=True)[1:]
    while hasattr(command, "commands") and not words[0].startswith("--"):
        command = command.commands[words.pop(0)]
    if words == ["--help"]:
        return {}
    with command.make_context(command.name, words) as context:
        return dict(context.params)


def check_recipes(words: Sequence[str]) -> None:
    """Raises UserError where what a command names of the suite's own recipes is not valid with its overrides."""
    for word in words:
        setting, _, method = word.partition("/")
        if setting in shipped(SETTINGS) and method in shipped():
            load_recipe(word, [override for override in words if "=" in override])


def fault(line: str, whole: bool = True, refused: bool = False) -> str:
    """What is wrong with a call that a page tells; empty where nothing is."""
    try:
        arguments = parsed(line)
        if not refused and not arguments.get("plugin"):
            check_recipes(arguments.get("recipe") or ())
    except Exception as error:
        only_named = not whole and type(error).__name__ == "MissingParameter"
        nobody_has_run_it = str(error).startswith("runs/") and "there is no such file" in str(error)
        return "" if only_named or nobody_has_run_it else f"{line}: {error!r}"
    return ""


@pytest.mark.parametrize("page", [page for page in PAGES if page != "CHANGELOG.md"])  # which tells of the past
def test_every_command_of_a_page_is_right(page: str) -> None:
    refused = "".join(block for kind, _, block in MARKED.findall(text_of(page)) if kind == "refused")
    assert [wrong for line, whole in commands(page) if (wrong := fault(line, whole, line in refused))] == []


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("lt-bench runn ce", "KeyError('runn')"),
        ("lt-bench run digits-lt/ce --nope", "No such option: --nope"),
        ("lt-bench new mix", "MissingParameter"),
        ("lt-bench run digits-lt/ce los=focal", "did you mean loss?"),
    ],
)
def test_a_fault_in_a_command_is_seen(line: str, said: str) -> None:
    assert said in fault(line)
    assert not fault("lt-bench run digits-lt/ce loss=focal --seeds 0,1  # two seeds")


@pytest.mark.parametrize("page", [page for page in PAGES if MARKED.search(text_of(page))])
def test_what_a_page_marks_does_what_it_says(
    page: str, lt_bench: Callable[..., Any], working_folder: Path, registry: None
) -> None:
    for kind, name, block in MARKED.findall(text_of(page)):
        if kind == "write":
            (working_folder / name).write_text(block, encoding="utf-8")
            continue
        for line in block.splitlines():
            command, *words = shlex.split(line, comments=True)[1:]
            short = (*STRANGER, "--device", "cpu") if command in ("run", "sweep") else ()
            done = lt_bench(command, *words, *short)
            assert done.code == (2 if kind == "refused" else 0), f"{line}: {done.err}"
