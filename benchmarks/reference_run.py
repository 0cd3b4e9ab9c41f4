"""Train by the field's usual loop to the end of its 200 epochs: what the suite's figures should be, without the suite.

Only the split is the suite's, which is the published one. float32, nowhere TF32. The last epoch counts.

    python benchmarks/reference_run.py --data-root DATA --loss ldam_drw --seed 0 [--device cuda] [--workers 3]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from plain import LOSSES
from reference_loop import NORMALIZE, ReferenceLoop
from torchvision.transforms.functional import to_tensor

from lt_bench.data.arrays import ArrayPart
from lt_bench.data.opening import open_split
from lt_bench.data.split import Split
from lt_bench.evaluation.metrics import accuracy_by_class, group_accuracy, per_class_counts, top1
from lt_bench.recipe import load_recipe

EPOCHS = 200


@torch.no_grad()
def accuracy(loop: ReferenceLoop, images: torch.Tensor, split: Split) -> str:
    """In percent, of all test images and by groups of classes."""
    loop.network.eval()
    predicted = torch.cat([loop.network(part.to(loop.device)).argmax(1).cpu() for part in images.split(500)])  # type: ignore[no-untyped-call]
    correct, total = per_class_counts(split.test.labels, predicted.numpy(), len(split.counts))
    groups = group_accuracy(accuracy_by_class(correct, total), split.counts)
    return (
        f"{100 * top1(correct, total):.2f} % (" + ", ".join(f"{k} {100 * v:.1f}" for k, v in groups.items() if v) + ")"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-root", type=Path)
    parser.add_argument("--data", default="cifar100-lt")
    parser.add_argument("--loss", choices=list(LOSSES), default="ce")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=EPOCHS, help=f"fewer than {EPOCHS}: only the first of them")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    torch.backends.cudnn.allow_tf32 = False
    split = open_split(load_recipe(f"{arguments.data}/ce").data, arguments.data_root)
    assert isinstance(split.test, ArrayPart), "small images lie in arrays"
    test = torch.stack([NORMALIZE(to_tensor(image)) for image in np.array(split.test.images)])
    loop = ReferenceLoop(split, arguments.workers, arguments.device, LOSSES[arguments.loss], arguments.seed)
    for epoch in range(arguments.epochs):
        loss = loop.train_epoch(epoch)
        line = f"epoch {epoch + 1}/{EPOCHS} loss {loss:.4f}"
        if (epoch + 1) % 5 == 0 or epoch + 1 == arguments.epochs:
            line += f" test top-1 {accuracy(loop, test, split)}"
        print(line, flush=True)


if __name__ == "__main__":
    main()
