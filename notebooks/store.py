"""Run the notebooks on the records that ship, and keep in them what they show: python notebooks/store.py

Kept are texts, tables and pictures of at most 64 colours; not the time, nor anything of the machine that they ran on.
"""

from __future__ import annotations

import base64
import hashlib
import io
import os
import re
from pathlib import Path
from tempfile import TemporaryDirectory

import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode
from PIL import Image

NOTEBOOKS = sorted(Path(__file__).parent.glob("*.ipynb"))
COLOURS = 64
LEFT_OUT = ("LT_BENCH_DATA", "LT_BENCH_FIGURES", "LT_BENCH_RECORDS", "LT_BENCH_SEEDS")
"""What the environment may say of a machine that is not the next one."""


def main() -> None:
    for path in NOTEBOOKS:
        with TemporaryDirectory() as nothing_of_ones_own:
            notebook = executed(path, Path(nothing_of_ones_own))
        nbformat.write(kept(notebook, nbformat.read(path, as_version=4)), path)
        print(f"{path}: {path.stat().st_size / 1000:.0f} kB")


def executed(path: Path, folder: Path, **environment: object) -> NotebookNode:
    """A notebook run from top to bottom in a folder, with these variables; the file stays as it is."""
    notebook = nbformat.read(path, as_version=4)
    plain = {name: value for name, value in os.environ.items() if name not in LEFT_OUT}
    variables = plain | {"OMP_NUM_THREADS": "1"} | {name: str(value) for name, value in environment.items()}
    client = NotebookClient(
        notebook, timeout=180, kernel_name="python3", record_timing=False, resources={"metadata": {"path": str(folder)}}
    )
    client.coalesce_streams = True
    client.execute(env=variables)
    return notebook


def kept(notebook: NotebookNode, before: NotebookNode) -> NotebookNode:
    """An executed notebook as it is stored, with the metadata that the file had before; no warnings."""
    notebook.metadata = before.metadata | {"code_sha256": code_sha256(notebook)}
    for cell in code_cells(notebook):
        cell.execution_count = None
        for output in cell.outputs:
            if output.get("name") == "stderr":
                raise SystemExit(f"the cell {cell.id} warns: {output.text}")
            if "data" in output:
                output.data = _small(output.data)
    return notebook


def code_cells(notebook: NotebookNode) -> list[NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def code_sha256(notebook: NotebookNode) -> str:
    """Of all code: what draws a picture may change while no text does."""
    return hashlib.sha256("\n".join(cell.source for cell in code_cells(notebook)).encode()).hexdigest()


def told(notebook: NotebookNode) -> dict[str, list[object]]:
    """What each cell's outputs say, on any version of the libraries: texts, cells of tables, the places of pictures."""
    return {cell.id: [_said(output) for output in cell.outputs] for cell in code_cells(notebook)}


def _said(output: NotebookNode) -> object:
    if "text" in output:
        return output.text
    return "picture" if "image/png" in output.data else re.findall(r"<t[dh][^>]*>([^<]*)", output.data["text/html"])


def _small(data: NotebookNode) -> dict[str, str]:
    """Of several forms of one output the one that is looked at."""
    if "image/png" in data:
        return {"image/png": _with_few_colours(data["image/png"])}
    return {"text/html": re.sub(r"\n\s*(?=<t[dh])|\n\s*(?=</tr)", "", data["text/html"])}


def _with_few_colours(png: str) -> str:
    """A picture in base64, a third as large and hardly told from the one that it was."""
    picture, small = Image.open(io.BytesIO(base64.b64decode(png))).convert("RGB"), io.BytesIO()
    few = picture.quantize(COLOURS, Image.Quantize.MAXCOVERAGE, kmeans=3, dither=Image.Dither.NONE)
    few.save(small, "PNG", optimize=True)
    return base64.b64encode(small.getvalue()).decode()


if __name__ == "__main__":
    main()
