"""What the documents promise: the example of CONTRIBUTING runs as written, the README's table is the board's."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

from lt_bench.recipe import load_recipe

ROOT = Path(__file__).parents[1]
TABLE = ROOT / "leaderboard" / "v1" / "tables" / "cifar100-lt-if100-cifar-200ep.md"


def blocks(document: str, language: str) -> list[str]:
    """The fenced code blocks of a document in one language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", (ROOT / document).read_text(encoding="utf-8"), re.M | re.S)


def test_a_stranger_adds_a_mix_in_one_file_and_one_recipe(tmp_path: Path) -> None:
    plugin, recipe = blocks("CONTRIBUTING.md", "python")[0], blocks("CONTRIBUTING.md", "yaml")[0]
    (tmp_path / "my_mix.py").write_text(plugin, encoding="utf-8")
    (tmp_path / "checkerboard.yaml").write_text(recipe, encoding="utf-8")
    command = [
        sys.executable,
        "-m",
        "lt_bench",
        "run",
        "digits-lt/checkerboard",
        "--plugin",
        "my_mix.py",
        "--seeds",
        "0",
    ]
    short = ["protocol.epochs=1", "data.n_max=20", "data.factor=4"]
    done = subprocess.run([*command, *short], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (record,) = (tmp_path / "results" / "records").rglob("*.json")
    written = json.loads(record.read_text(encoding="utf-8"))
    assert written["recipe"]["phases"][0]["mix"] == {"name": "checkerboard", "side": 8}
    assert list(written["recipe"]["plugins"]) == ["mix/checkerboard"]


def test_the_table_of_the_readme_is_part_of_the_one_made_from_the_records() -> None:
    whole = _table(TABLE.read_text(encoding="utf-8"))
    excerpt = _table((ROOT / "README.md").read_text(encoding="utf-8"))
    assert len(excerpt) > 6
    columns = [whole[0].index(title) for title in excerpt[0]]
    shown = [[row[column] for column in columns] for row in whole]
    assert [row for row in shown if row in excerpt] == excerpt  # those rows, in their order


def _table(page: str) -> list[list[str]]:
    """The cells of the first table of a page."""
    lines = page[page.index("| Rank |") :].split("\n\n", maxsplit=1)[0].splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_the_readme_names_real_recipes_and_protocols() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    recipes = set(re.findall(r"\b(?:cifar10+|digits|imagenet)-\w+/[\w-]+", readme))
    protocols = set(re.findall(r"protocol=([\w-]+)", readme))
    assert recipes
    assert protocols
    for recipe in recipes:
        load_recipe(recipe)
    assert all((ROOT / "recipes" / "protocols" / f"{name}.yaml").is_file() for name in protocols)
