"""The field's usual training loop for CIFAR-LT, written plainly: the peer that lt-bench is measured against.

A torchvision-style data set of PIL images, cropped, flipped, converted and normalised one by one in DataLoader workers;
eager float32 in the default memory format; the loss read with `.item()` in every step. Network and losses are those of
plain.py.

    python benchmarks/reference_loop.py --data-root DATA --workers 0 1 2 4
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import plain
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from lt_bench.data.arrays import ArrayPart
from lt_bench.data.opening import open_split
from lt_bench.data.split import Split
from lt_bench.recipe import load_recipe

NORMALIZE = transforms.Normalize((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010))


class PilImages(Dataset[tuple[Tensor, int]]):
    """Training images as torchvision's CIFAR classes give them: a PIL image through a chain of transforms."""

    def __init__(self, images: np.ndarray, labels: np.ndarray, transform: Any) -> None:
        self.images, self.labels, self.transform = np.ascontiguousarray(images), labels.tolist(), transform

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(Image.fromarray(self.images[index])), self.labels[index]


class ReferenceLoop:
    """CIFAR-LT, ResNet-32, batch 128, SGD with momentum, one of the losses of plain.py."""

    def __init__(self, split: Split, workers: int, device: str = "cpu", loss: Any = plain.ce, seed: int = 0) -> None:
        torch.manual_seed(seed)
        self.device = torch.device(device)
        transform = transforms.Compose(
            [
                transforms.RandomCrop(32, padding=4),
                transforms.RandomHorizontalFlip(),
                transforms.ToTensor(),
                NORMALIZE,
            ]
        )
        assert isinstance(split.train, ArrayPart), "small images lie in arrays"
        dataset = PilImages(split.train.images, split.train.labels, transform)
        cuda = self.device.type == "cuda"
        self.loader = DataLoader(
            dataset, 128, shuffle=True, num_workers=workers, pin_memory=cuda, persistent_workers=workers > 0
        )
        classes = len(split.counts)
        self.network = plain.ResNet(5, classes, cosine=loss is plain.ldam_drw).to(self.device)
        self.optimizer = torch.optim.SGD(self.network.parameters(), lr=0.1, momentum=0.9, weight_decay=2e-4)
        self.counts = torch.from_numpy(split.counts).double().to(self.device)
        self.loss, self.epoch = loss, 0
        self.running_loss = 0.0
        self._batches = self._forever()

    def steps(self, count: int) -> float:
        """Train `count` steps. Returns images per second, data included."""
        images, start = 0, time.perf_counter()
        for _ in range(count):
            images += self._step(*next(self._batches))
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        return images / (time.perf_counter() - start)

    def train_epoch(self, epoch: int) -> float:
        """One pass over the data. Returns the mean loss."""
        self.epoch, self.running_loss = epoch, 0.0
        for group in self.optimizer.param_groups:
            group["lr"] = plain.rate(epoch)
        self.network.train()
        for images, labels in self.loader:
            self._step(images, labels)
        return self.running_loss / len(self.loader)

    def _step(self, images: Tensor, labels: Tensor) -> int:
        images, labels = images.to(self.device, non_blocking=True), labels.to(self.device, non_blocking=True)
        loss = self.loss(self.network(images), labels, self.counts.float(), self.epoch)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.running_loss += loss.item()
        return len(labels)

    def _forever(self) -> Iterator[tuple[Tensor, Tensor]]:
        self.network.train()
        while True:
            yield from self.loader


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-root", type=Path)
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    split = open_split(load_recipe("cifar10-lt/ce").data, arguments.data_root)
    for workers in arguments.workers:
        loop = ReferenceLoop(split, workers, arguments.device)
        loop.steps(5)
        print(f"{workers} workers: {loop.steps(arguments.steps):.0f} images/s")


if __name__ == "__main__":
    main()
