"""LDAM-DRW with CMO on CIFAR-10-LT, ResNet-32, in a plain PyTorch loop: python ldam_drw_cmo.py [EPOCHS [STEPS]]."""

import itertools
import sys

import torch
from torch.utils.data import DataLoader
from torchvision.transforms import v2

from lt_bench.data import long_tailed
from lt_bench.data.samplers import Instance, Weighted
from lt_bench.evaluation import evaluate_predictions
from lt_bench.losses import LDAM, mixed_loss
from lt_bench.mixing import CMO, Batch, Step
from lt_bench.models import build_network

epochs, steps = (int(word) for word in (sys.argv[1:] + ["200", "1000000"][len(sys.argv) - 1 :]))
device = "cuda" if torch.cuda.is_available() else "cpu"
train, test = (long_tailed("cifar10-lt", part, factor=100) for part in ("train", "test"))
test.transform = v2.Compose([v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(train.mean, train.std)])
train.transform = v2.Compose([v2.RandomCrop(32, padding=4), v2.RandomHorizontalFlip(), test.transform])
samplers = [Instance(train.labels, seed=0), Weighted(train.labels, seed=1, exponent=1.0)]  # natural, favouring the rare
streams = [DataLoader(train, 128, sampler=s, num_workers=2, persistent_workers=True) for s in samplers]
network, mix = build_network("resnet32", "cosine", num_classes=10, seed=0).to(device), CMO(train.counts)
plain, deferred = LDAM(train.counts).to(device), LDAM(train.counts, weights="effective-number").to(device)
optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9, weight_decay=2e-4)
for epoch in range(epochs):
    for sampler in samplers:
        sampler.set_epoch(epoch)
    late, last = epoch >= 0.8 * epochs, epoch >= 0.9 * epochs
    optimizer.param_groups[0]["lr"] = 0.1 * min(1, (epoch + 1) / 5) * 0.01 ** (late + last)
    for index, batches in enumerate(itertools.islice(zip(*streams, strict=True), steps)):
        step = Step.at(index, len(streams[0]), epoch=epoch, epochs=epochs, seed=0)
        mixed = mix(*(Batch(*pair).to(device) for pair in batches), step)
        loss = mixed_loss(deferred if late else plain, network(mixed.images), mixed, step)
        optimizer.zero_grad(), loss.backward(), optimizer.step()
network.eval().requires_grad_(False)
scores = [plain.scores(network(x.to(device))) for x, _ in itertools.islice(DataLoader(test, batch_size=500), steps)]
confidence, predicted = torch.cat(scores).softmax(1).max(1)
print(evaluate_predictions(test.labels[: len(predicted)], predicted.cpu(), confidence.cpu(), train.counts))
