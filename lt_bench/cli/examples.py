"""Command lines that the help of a command shows, each under the command that it begins with."""

from __future__ import annotations

EXAMPLES = """\
lt-bench run digits-lt/balanced-softmax --seeds 0,1,2
lt-bench run cifar100-lt/cmo data.factor=50 mix.probability=0.25 --data-root DATA
lt-bench run cifar10-lt/mislas protocol=cifar-30ep --dry-run
lt-bench run digits-lt/ce --track tensorboard
lt-bench sweep digits-lt/ce digits-lt/cmo --seeds 0,1,2 --jobs 2
lt-bench sweep cifar100-lt/ldam-drw --grid loss.max_margin=0.3,0.5 --grid data.factor=10,100 --seeds 0
lt-bench sweep 'cifar100-lt/*' protocol=cifar-30ep --budget 40m
lt-bench sweep 'cifar100-lt/*' --on slurm --resources partition=gpu,time=4h,gpus=1,cpus=8 --jobs 16
lt-bench sweep 'cifar100-lt/*' --on ray:HOST:6379 --resources gpus=0.5
lt-bench list methods
lt-bench list protocols
lt-bench docs
lt-bench new mix tail-mix
lt-bench validate cifar100-lt/ldam-drw mine.yaml --plugin tail_mix.py
lt-bench show cifar10-lt/mislas data.factor=50
lt-bench cite cifar100-lt/cmo
lt-bench cp cifar100-lt/cmo mine.yaml
lt-bench evaluate runs/FOLDER/weights.safetensors --json
lt-bench predict runs/FOLDER/weights.safetensors photos --out classes.csv
lt-bench attack runs/FOLDER/weights.safetensors --images 1000 --budget 20m
lt-bench attack runs/FOLDER/weights.safetensors --with autoattack
lt-bench gallery cifar100-lt/cutmix
lt-bench gallery digits-lt/decouple-mix mix.generator=fmix --images 6 --out fmix.png
lt-bench curves runs/FOLDER
lt-bench curves runs/FOLDER RECORD.json --out curves.csv
lt-bench diagnostics runs/FOLDER --epoch 10
lt-bench report digits-lt/ce digits-lt/mislas --format pdf
lt-bench report runs/FOLDER
lt-bench per-class cifar10-lt/ce cifar10-lt/mixup --table cifar10-lt-if100-cifar-30ep
lt-bench compare ce balanced-softmax
lt-bench compare ce balanced-softmax mislas
lt-bench data new my-birds --images photos
lt-bench data new my-birds --train train.txt --test test.txt
lt-bench data prepare cifar100-lt --download --data-root DATA
lt-bench data verify cifar100-lt factor=50
lt-bench data describe cifar10-lt factor=100 --plot sizes.png
lt-bench data describe imagenet-lt
lt-bench data export cifar10-lt factor=100 -o split.parquet
lt-bench leaderboard build
lt-bench leaderboard build --latex --records leaderboard/v1/records --out paper
lt-bench leaderboard check
lt-bench leaderboard diff OLD_RECORDS
lt-bench leaderboard diff OLD_RECORDS --records leaderboard/v1/records --changelog leaderboard/CHANGELOG.md --title 1.1
lt-bench leaderboard freeze --records leaderboard/v1/records --out leaderboard/v1
lt-bench leaderboard add ANOTHER_FOLDER/results/records
lt-bench leaderboard add ours.npz --method ours --by 'A. Group' --on cifar100-lt --protocol cifar-200ep
lt-bench leaderboard show
lt-bench leaderboard robust
lt-bench leaderboard tuning
"""

_AS_THEY_ARE = "\b\n"
"""Begins a paragraph whose lines the help does not fill."""

FIRST = f"""{_AS_THEY_ARE}Examples:
  lt-bench run digits-lt/ce digits-lt/balanced-softmax
  lt-bench leaderboard show
  lt-bench list recipes
"""


def examples(command: str) -> str | None:
    """The example lines of a command such as `lt-bench data new`, as the end of its help."""
    lines = [line for line in EXAMPLES.splitlines() if line.startswith(f"{command} ") or line == command]
    return "\n  ".join([f"{_AS_THEY_ARE}Examples:", *lines]) if lines else None
