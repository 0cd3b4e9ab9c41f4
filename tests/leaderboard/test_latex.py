r"""Tables for a paper: what a TeX would say of them, as far as it can be told without one."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from records_factory import add_record, noisy

from lt_bench.leaderboard.latex import write_latex
from lt_bench.leaderboard.sources import read_board, shipped_records

LtBench = Callable[..., Any]
DOCUMENT = r"""\documentclass{article}\usepackage[T1]{fontenc}\usepackage{booktabs}\begin{document}
%s\bibliographystyle{plain}\bibliography{papers}\end{document}
"""


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """Two that share the first place, one that is surely behind, one of a single seed."""
    for seed in range(3):
        add_record(tmp_path / "records", recipe_name="cmo", seed=seed, correct=(9, 9, 9, 9, 9, 6 + seed))
        add_record(tmp_path / "records", recipe_name="mixup", seed=seed, correct=(9, 9, 9, 9, 9, 8 - seed))
        add_record(tmp_path / "records", recipe_name="ce_50%&{x}", seed=seed, correct=(9, 8, 7, 6, 5, 1 + seed))
    reported = {"protocol": "cifar-30ep", "top1": 65.5, "paper": "P"}
    add_record(tmp_path / "records", recipe_name="ce", reported=[reported])
    return tmp_path / "records"


def rows(text: str) -> list[list[str]]:
    return [line.strip().removesuffix(r" \\").split(" & ") for line in text.splitlines() if line.endswith(r"\\")]


def test_bold_is_what_may_be_first(made: Path, tmp_path: Path) -> None:
    table, papers = write_latex(read_board(made), tmp_path)
    head, *body = rows(table.read_text())
    assert head == ["Method", "Rank", "$n$", "Top-1", "Many", "Medium", "Few", "ECE", "Paper"]
    assert [row[1:3] for row in body] == [["1--2", "3"], ["1--2", "3"], ["--", "1"], ["3", "3"]]
    assert [r"\textbf" in row[3] for row in body] == [True, True, False, False]
    assert body[0][0].startswith(r"cmo~\cite{park-2022")
    assert body[3][0] == r"ce\_50\%\&\textbraceleft{}x\textbraceright{}"
    assert [row[-1] for row in body] == ["", "", "65.50", ""]
    keys = re.findall(r"^@\w+\{([^,]+),", papers.read_text(), re.M)
    assert sorted(re.findall(r"cite\{([^}]+)", table.read_text())) == [key for key in keys if "ren-2020" not in key]


def test_a_caption_says_what_its_table_is_of(tmp_path: Path) -> None:
    add_record(tmp_path / "records")
    add_record(tmp_path / "records", **noisy())
    tables = [path.read_text() for path in write_latex(read_board(tmp_path / "records"), tmp_path)[:-1]]
    captions = [re.search(r"caption\{(.*?)\. Accuracy", text)[1] for text in tables]  # type: ignore[index]
    assert len(set(captions)) == 2
    assert any("label noise symmetric 0.4" in caption for caption in captions)


def test_every_shipped_table_is_sound(tmp_path: Path) -> None:
    *tables, papers = write_latex(read_board(shipped_records()), tmp_path)
    known = set(re.findall(r"^@\w+\{([^,]+),", papers.read_text(), re.M))
    for path in tables:
        text = path.read_text()
        assert text.count(r"\begin{") == text.count(r"\end{") == 2
        bare = re.sub(r"\\[\\{}%&_#$]", "", "\n".join(line for line in text.splitlines() if not line.startswith("%")))
        assert bare.count("{") == bare.count("}")
        assert bare.count("$") % 2 == 0
        assert not re.search(r"[%#~](?!\\cite)", bare)
        (columns,) = re.findall(r"@\{\}(l?r+)@\{\}", text)
        assert {len(row) for row in rows(text)} == {len(columns)}
        assert set(re.findall(r"cite\{([^}]+)", text)) <= known


def test_the_command_writes_the_same_bytes_twice(lt_bench: LtBench, made: Path) -> None:
    done = lt_bench("leaderboard", "build", "--records", made, "--out", "paper", "--latex")
    assert (done.code, done.out.splitlines()[-1]) == (0, "paper/latex: 1 table for a paper, and papers.bib")
    first = {path.name: path.read_bytes() for path in Path("paper/latex").iterdir()}
    lt_bench("leaderboard", "build", "--records", made, "--out", "paper", "--latex")
    assert {path.name: path.read_bytes() for path in Path("paper/latex").iterdir()} == first
    assert lt_bench("leaderboard", "check", "--records", made, "--out", "paper").code == 0


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no pdflatex on this machine")
def test_it_compiles(tmp_path: Path) -> None:
    *tables, _ = write_latex(read_board(shipped_records()), tmp_path)
    (tmp_path / "latex" / "all.tex").write_text(DOCUMENT % "".join(rf"\input{{{path.name}}}" for path in tables))
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "all.tex"]
    subprocess.run(command, cwd=tmp_path / "latex", check=True, capture_output=True, timeout=60)
