r"""The tables for a paper: one `booktabs` table each, and a .bib file of the methods' papers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from lt_bench.bibliography import Papers, joined, latex
from lt_bench.errors import UserError
from lt_bench.files import in_words, write_together
from lt_bench.leaderboard.aggregate import Row, Table
from lt_bench.leaderboard.naming import Shown, shown
from lt_bench.leaderboard.repeating import papers
from lt_bench.leaderboard.sources import Board

FOLDER = "latex"
BIBLIOGRAPHY = "papers.bib"
HEAD = r"""% Generated from the records by lt-bench leaderboard build --latex.
% In the preamble: \usepackage{booktabs}; for the citations: \bibliography{papers}."""

Cell = Callable[[Row], str]


def write_latex(board: Board, out_dir: Path) -> list[Path]:
    """Write `latex/<table>.tex` for each table of a board and `latex/papers.bib`; the same records, the same bytes.

    Raises UserError where a file cannot be written.
    """
    files = {f"{one.name}.tex": latex_table(one) for one in shown(board.shown, board.tables)}
    files[BIBLIOGRAPHY] = bibliography([row for table in board.shown for row in table.rows])
    folder = out_dir / FOLDER
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_together({folder / name: text.encode() for name, text in files.items()})
    except OSError as error:
        raise UserError(f"{folder}: the tables could not be written: {in_words(error)}") from None
    return [folder / name for name in files]


def latex_table(one: Shown) -> str:
    """A table environment. Bold is each top-1 whose rank range begins at 1: no row is surely above it."""
    columns = _columns(one.table)
    body = [_row([cell(row) for cell in columns.values()]) for row in one.table.rows]
    lines = [
        HEAD,
        r"\begin{table}",
        r"  \centering",
        rf"  \caption{{{_caption(one)}}}",
        rf"  \label{{tab:{one.name}}}",
        rf"  \begin{{tabular}}{{@{{}}l{'r' * (len(columns) - 1)}@{{}}}}",
        r"    \toprule",
        f"    {_row(list(columns))}",
        r"    \midrule",
        *(f"    {line}" for line in body),
        r"    \bottomrule",
        r"  \end{tabular}",
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def bibliography(rows: list[Row]) -> str:
    """The papers of all rows, each once, in the order of their keys."""
    found: Papers = joined(papers(row) for row in rows)
    return "\n\n".join(paper.bibtex(key) for key, paper in sorted(found.items())) + "\n"


def _columns(table: Table) -> dict[str, Cell]:
    """Head and cell of each column that has something to show."""

    def score(name: str) -> Cell:
        return lambda row: _number(row.means[name])

    columns: dict[str, Cell] = {
        "Method": _method,
        "Rank": lambda row: "--" if row.rank is None else "--".join(map(str, dict.fromkeys(row.rank))),
        "$n$": lambda row: str(row.n),
        "Top-1": _top1,
        "Many": score("many"),
        "Medium": score("medium"),
        "Few": score("few"),
        "ECE": score("ece"),
        "Paper": lambda row: _number(row.paper_top1),
    }
    return {title: cell for title, cell in columns.items() if any(cell(row) for row in table.rows)}


def _method(row: Row) -> str:
    key = next(iter(papers(row)), None)
    return latex(row.method) + (rf"~\cite{{{key}}}" if key else "")


def _top1(row: Row) -> str:
    mean = f"{row.top1:.2f}"
    bold = rf"\textbf{{{mean}}}" if row.rank is not None and row.rank[0] == 1 else mean
    return bold + ("" if row.interval is None else rf" {{\small$\pm$\,{row.interval:.2f}}}")


def _caption(one: Shown) -> str:
    table = one.table
    note = (
        r"Accuracy in percent after the last epoch, mean over $n$ seeds; $\pm$ is half the width of its 95\,\% "
        "interval (Student's $t$). Rank: all places that the differences allow, taken seed by seed, not corrected for "
        "the number of pairs; bold where the first is among them."
    )
    if any(row.paper_top1 is not None for row in table.rows):
        note += " Paper: the figure that was published for this protocol."
    if any(row.external for row in table.rows):
        note += " External: predictions of another program."
    if faulty := [row.method for row in table.rows if row.superseded]:
        note += f" Not ranked, for a fault that was found since: {latex(', '.join(faulty))}."
    return f"{latex(one.title)}. {note}"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _row(cells: list[str]) -> str:
    return rf"{' & '.join(cells)} \\"
