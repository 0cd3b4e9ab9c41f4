"""`lt-bench cite`: the papers of what is named, as a .bib file."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from test_bibliography import parsed

from lt_bench import __version__
from lt_bench.recipe import load_recipe
from lt_bench.yaml_files import read_yaml

LtBench = Callable[..., Any]
ROOT = Path(__file__).parents[1]
RECORDS = ROOT / "leaderboard" / "v1" / "records"

pytestmark = pytest.mark.usefixtures("working_folder")

CIFAR = ["krizhevsky-2009-cifar", "cao-2019-ldam"]
RECIPE = "extends: protocols/digits-demo\ndata: {name: digits-lt, factor: 20}\nmodel: {backbone: resnet8}\n"
OWN = "papers: [zhang-2018-mixup, {title: My Tails, authors: ['Doe, Jane'], venue: CVPR, year: 2026}]\n"


def keys(cited: Any) -> list[str]:
    assert cited.code == 0, cited.err
    return list(parsed(cited.out))


def test_a_method_with_and_without_its_data_set(lt_bench: LtBench) -> None:
    assert keys(lt_bench("cite", "cmo")) == ["park-2022-cmo"]
    assert keys(lt_bench("cite", "cifar100-lt/cmo")) == ["park-2022-cmo", *CIFAR]
    both = lt_bench("cite", "cifar100-lt/cmo", "cifar10-lt/remix", "imagenet-lt/ce")
    assert keys(both) == ["park-2022-cmo", *CIFAR, "chou-2020-remix", "liu-2019-oltr", "russakovsky-2015-imagenet"]


def test_a_record(lt_bench: LtBench) -> None:
    record = next((RECORDS / "digits-lt-if20" / "digits-demo" / "crt").glob("seed0-*.json"))
    assert keys(lt_bench("cite", record)) == ["kang-2020-decoupling", "alpaydin-1998-digits"]


def test_what_has_no_paper_says_so_beside_the_file(lt_bench: LtBench) -> None:
    cited = lt_bench("cite", "ce")
    assert (cited.code, cited.out, cited.err) == (0, "", "ce: names no paper\n")
    assert keys(lt_bench("cite", "digits-lt/ce")) == ["alpaydin-1998-digits"]


def test_for_machines(lt_bench: LtBench) -> None:
    (paper,) = json.loads(lt_bench("cite", "ride", "--json").out)
    assert (paper["key"], paper["citation"]) == ("wang-2021-ride", "Wang et al., ICLR 2021")
    assert paper["link"] == "https://arxiv.org/abs/2010.01809"
    assert paper["bibtex"] + "\n" == lt_bench("cite", "ride").out


def test_the_suite_itself(lt_bench: LtBench) -> None:
    facts = read_yaml(ROOT / "CITATION.cff")
    assert facts["version"] == __version__
    assert (facts["license"], facts["authors"]) == ("MIT", [{"name": "The lt-bench developers"}])
    kind, fields = parsed(lt_bench("cite").out)["lt-bench"]
    assert kind == "misc"
    assert fields["author"] == "{The lt-bench developers}"
    assert __version__ in fields["note"]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("cifar100-lt/cmoo", "did you mean cifar100-lt/cmo?"),
        ("cmoo", "did you mean cifar100-lt/cmo?"),
        ("cifar-lt/cmo", "did you mean cifar10-lt?"),
        ("nothing.json", "there is no such file"),
    ],
)
def test_bad_names(lt_bench: LtBench, name: str, said: str) -> None:
    cited = lt_bench("cite", "cmo", name)
    assert (cited.code, cited.out) == (2, "")
    assert said in cited.err
    assert cited.err.count("\n") == 1


def test_a_recipe_of_one_s_own(lt_bench: LtBench, working_folder: Path) -> None:
    (working_folder / "mine.yaml").write_text(RECIPE + OWN)
    assert keys(lt_bench("cite", "mine.yaml")) == ["zhang-2018-mixup", "doe-2026-my", "alpaydin-1998-digits"]
    (working_folder / "method.yaml").write_text("extends: cmo\n")
    assert keys(lt_bench("cite", "digits-lt/method")) == ["park-2022-cmo", "alpaydin-1998-digits"]
    (working_folder / "wrong.yaml").write_text(RECIPE + "papers: [zhang-2018-mixpu]\n")
    for command in ("cite", "validate"):
        refused = lt_bench(command, "wrong.yaml")
        assert refused.code == 2
        assert "wrong.yaml: papers.0: 'zhang-2018-mixpu' is not a known paper" in refused.err
        assert "did you mean zhang-2018-mixup?" in refused.err


def test_papers_are_no_part_of_what_is_run(working_folder: Path) -> None:
    (working_folder / "with").mkdir()
    (working_folder / "plain.yaml").write_text(RECIPE)
    (working_folder / "with" / "plain.yaml").write_text(RECIPE + OWN)
    assert load_recipe("with/plain.yaml") == load_recipe("plain.yaml")


def test_the_example_of_a_new_component_can_be_used(lt_bench: LtBench, working_folder: Path) -> None:
    assert lt_bench("new", "mix", "tail-mix").code == 0
    recipe = working_folder / "tail-mix.yaml"
    text = recipe.read_text(encoding="utf-8")
    assert lt_bench("cite", "digits-lt/tail-mix").out.count("@") == 1  # its data set's
    recipe.write_text(text.replace("# papers:", "papers:"), encoding="utf-8")
    assert keys(lt_bench("cite", "digits-lt/tail-mix"))[0] == "doe-2026-my"


def test_no_torch_is_imported() -> None:
    code = "import sys; from lt_bench.citing import cited, suite; cited('cifar100-lt/cmo'); suite(); "
    code += "print(sorted({'torch', 'scipy', 'pandas'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
