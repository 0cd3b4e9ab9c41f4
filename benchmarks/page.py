"""How quick the board's page is in a browser: 2,000 rows of the committed records, in a headless Chromium.

    python benchmarks/page.py [--rows 2000] [--times 5]

Milliseconds until the page has drawn what was asked for, medians over windows. Needs what the tests of the page need.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from itertools import cycle, islice
from pathlib import Path
from statistics import median
from typing import Any

from playwright.sync_api import sync_playwright

from lt_bench.leaderboard.naming import Shown
from lt_bench.leaderboard.page import assembled
from lt_bench.leaderboard.page.data import page_data
from lt_bench.leaderboard.sources import read_board

SHIPPED = Path(__file__).parents[1] / "leaderboard" / "v1" / "records"
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
ASKED = {
    "sort": "change({ sort: 'few' })",
    "search": "change({ q: '77' })",
    "open a row": "change({ q: '', open: [ROWS[1500].id], sort: '-top1' })",
    "pin": "change({ open: [], pin: [ROWS[3].id] })",
    "all rows in the table": "{ most = Infinity; show(); }",
    "classes, all rows": "change({ view: 'classes' })",
    "plot": "change({ view: 'plot' })",
}
TIMED = """(step) => new Promise((done) => {
    const start = performance.now();
    step();
    requestAnimationFrame(() => setTimeout(() => done(performance.now() - start)));
})"""
LOADED = "() => performance.getEntriesByType('navigation')[0].domComplete"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--times", type=int, default=5)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as driver:
        path = Path(folder, "index.html")
        path.write_text(assembled(many(arguments.rows)), encoding="utf-8")
        browser = driver.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
        found = [timed(browser, path) for _ in range(arguments.times)]
        print(f"{arguments.rows} rows, {path.stat().st_size / 1e6:.2f} MB")
    for what in found[0]:
        print(f"{what}: {median(one[what] for one in found):.0f} ms")


def many(number: int) -> dict[str, Any]:
    """The data of so many rows: those of the board's largest table of CIFAR-100-LT, again and again."""
    board = read_board(SHIPPED)
    table = max(board.tables, key=lambda one: (one.key.dataset == "cifar100-lt", len(one.rows)))
    data = page_data([Shown("table", "A table", "", table)], board, None)
    data["tables"][0]["squares"] = ""
    rows = islice(enumerate(cycle(data["rows"])), number)
    return {**data, "rows": [{**row, "id": f"row{k}", "method": f"{row['method']} {k}"} for k, row in rows]}


def timed(browser: Any, path: Path) -> dict[str, float]:
    """Of one window."""
    page = browser.new_page(viewport={"width": 1440, "height": 900})
    page.goto(path.as_uri())
    times = {"open the page": page.evaluate(LOADED)}
    for what, step in ASKED.items():
        times[what] = page.evaluate(TIMED.replace("step();", step))
    page.close()
    return times


if __name__ == "__main__":
    main()
