"""Options that several commands share, and what becomes of them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lt_bench.cli import completion
from lt_bench.errors import UserError
from lt_bench.paths import parse_file, parse_path
from lt_bench.resources import RECORDS
from lt_bench.terminal import short

if TYPE_CHECKING:
    from lt_bench.training.options import Options

LARGEST_SEED = 2**53 - 1
"""What a table can still hold as a number."""


def path_option(*names: str, help: str) -> Any:
    """An option that is a path."""
    return typer.Option(*names, help=help, parser=parse_path, metavar="PATH")


def path_argument(help: str, metavar: str | None = None) -> Any:
    """An argument that is a path."""
    return typer.Argument(help=help, parser=parse_path, metavar=metavar)


def file_argument(help: str) -> Any:
    """An argument that is a file. One that is not there is refused before anything is imported to read it."""
    return typer.Argument(help=help, parser=parse_file, metavar="FILE")


DataRoot = Annotated[
    Path | None, path_option("--data-root", help="Folder of the data sets. Default: $LT_BENCH_DATA, else ./data.")
]
Records = Annotated[Path, path_option("--records", help="Folder of the records.")]
ReadRecords = Annotated[
    Path | None,
    path_option(
        "--records", help=f"One folder of records alone. Default: yours, {RECORDS}, beside the shipped board's."
    ),
]
Out = Annotated[Path, path_option("--out", help="Folder of the tables.")]
RankExternal = Annotated[
    bool, typer.Option("--rank-external", help="Rank external rows too; they are shown in any case.")
]
Work = Annotated[Path, path_option("--work", help="Folder of checkpoints, logs and weights.")]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
PrecisionName = Annotated[str, typer.Option("--precision", help="auto, float32 or bf16.")]
CompileName = Annotated[str, typer.Option("--compile", help="auto, on or off: code compiled for this machine.")]
Workers = Annotated[int, typer.Option(min=0, help="Decoding processes per stream of image files or resized crops.")]
Recipes = Annotated[
    list[str],
    typer.Argument(
        metavar="RECIPE... [KEY=VALUE...]", help="Recipes, then overrides.", autocompletion=completion.recipes
    ),
]
CardName = Annotated[
    str, typer.Argument(metavar="CARD", help="A data set, such as cifar100-lt.", autocompletion=completion.data_sets)
]
Seeds = Annotated[
    str | None, typer.Option(help="Training seeds, such as 0,1,2. Default: run 0, sweep 0,1,2; a record's own.")
]
Grid = Annotated[
    list[str] | None,
    typer.Option(metavar="KEY=V1,V2", help="Each of these values of a setting; several: each with each of the others."),
]
Plugins = Annotated[list[Path] | None, path_option("--plugin", help="Python file with components of your own.")]
Track = Annotated[
    str | None,
    typer.Option(help="Also follow the curves with tensorboard, wandb or trackio.", autocompletion=completion.trackers),
]
On = Annotated[
    str,
    typer.Option(
        metavar="ENGINE",
        help="local, slurm (slurm:local tries its jobs here), ray:ADDRESS, ray://HOST:PORT; ray alone: a cluster of "
        "this machine.",
        autocompletion=completion.engines,
    ),
]
Resources = Annotated[
    str | None,
    typer.Option(
        metavar="NAME=VALUE,...",
        help="Of each run --on slurm or ray: gpus, cpus, memory (GB); for slurm also partition, account, qos, "
        "constraint, time.",
    ),
]
Budget = Annotated[str | None, typer.Option(help="Stop cleanly after this time: 90s, 40m, 2h.")]
Force = Annotated[
    bool, typer.Option(help="Do it anew although a record exists; the old one is kept beside the new one.")
]
Jobs = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Runs at once, which share the cores or the GPU. Default: 1, elsewhere as many as there is room for.",
    ),
]
TryOut = Annotated[
    bool,
    typer.Option("--try", help="Take a few steps of each phase and stage, say if it would train, keep nothing."),
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Print the resolved recipes and how long they would take; train nothing.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]


def run_options(
    data_root: Path | None,
    records: Path,
    work: Path,
    device: str,
    precision: str,
    compile: str,
    workers: int,
    force: bool = False,
    resume: bool = True,
    track: str | None = None,
    elsewhere: bool = False,
) -> Options:
    """What a run is told; `elsewhere` the machine that asks is not the one that computes."""
    from lt_bench.training.options import Options, compile_named, device_named, precision_named
    from lt_bench.training.tracking import check_tracker

    return Options(
        data_root=data_root,
        work=work,
        records=records,
        device=device_named(device, elsewhere=elsewhere),
        precision=precision_named(precision),
        compile=compile_named(compile),
        workers=workers,
        force=force,
        restart=not resume,
        track=None if track is None else check_tracker(track),
    )


def load_plugins(paths: list[Path] | None) -> None:
    if paths:
        from lt_bench.plugins import load_plugin

        for path in paths:
            load_plugin(path)


def parse_seeds(text: str | None) -> tuple[int, ...] | None:
    if text is None:
        return None
    parts = [part.strip() for part in text.split(",")]
    digits = len(str(LARGEST_SEED))  # counted first, because Python reads no number of thousands of them
    if not all(part.isdecimal() and len(part) <= digits and int(part) <= LARGEST_SEED for part in parts):
        raise UserError(f"--seeds {short(text)}: expected whole numbers from 0 to 2^53 - 1, such as 0,1,2")
    return tuple(dict.fromkeys(int(part) for part in parts))
