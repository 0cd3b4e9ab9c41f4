"""A first version of a user's own component: one Python file and one recipe that run as they are."""

from __future__ import annotations

import ast
import keyword
import re
import sys
from importlib.metadata import packages_distributions
from pathlib import Path
from string import Template

from lt_bench.errors import UserError, unknown
from lt_bench.files import in_words, write_together
from lt_bench.registry import members
from lt_bench.yaml_files import parse_yaml

LONGEST = 60
NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")

MIX = '''
"""$title: say here what it does, and which paper it is from."""

from __future__ import annotations

import torch
from pydantic import Field

from lt_bench.data.types import Batch, Step
from lt_bench.mixing import Mix, Mixed, permuted
from lt_bench.registry import Info


class $class_name(Mix):
    """Images and labels in fixed shares with a random partner of the batch."""

    name = "$name"
    info = Info("images and labels in fixed shares", paper="", year=None)

    class Config(Mix.Config):
        """How much of the first image is kept."""

        share: float = Field(default=0.8, ge=0, le=1)

    config: Config

    def forward(self, batch: Batch, partner: Batch | None, step: Step) -> Mixed:
        # Randomness from `step.rng` alone: a resumed run then equals an uninterrupted one.
        other = partner or permuted(batch, step.rng)
        share = self.config.share
        images = torch.lerp(other.images, batch.images, share)  # [B, 3, H, W]
        return Mixed(images, ((batch.labels, share), (other.labels, 1 - share)))
'''

LOSS = '''
"""$title: say here what it does, and which paper it is from."""

from __future__ import annotations

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from lt_bench.data.types import ClassStats
from lt_bench.losses import Loss
from lt_bench.registry import Info


class $class_name(Loss):
    """Cross entropy of the logits plus tau times the log prior of their class."""

    name = "$name"
    info = Info("cross entropy on logits shifted by the log prior", paper="", year=None)

    class Config(Loss.Config):
        """How far the logits are shifted."""

        tau: float = Field(default=1.0, ge=0)

    config: Config
    shift: Tensor

    def prepare(self, stats: ClassStats) -> None:
        prior = stats.counts.double() / stats.counts.sum()
        # A buffer goes to the device with the loss.
        self.register_buffer("shift", (self.config.tau * prior.log()).float(), persistent=False)  # [C]

    def per_sample(self, logits: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(logits + self.shift, labels, reduction="none")  # [B]
'''

SAMPLER = '''
"""$title: say here what it does, and which paper it is from."""

from __future__ import annotations

import numpy as np
from pydantic import Field

from lt_bench.data.samplers import Sampler
from lt_bench.data.types import Epoch, IntArray
from lt_bench.registry import Info


class $class_name(Sampler):
    """Draws a class in proportion to a power of its size, then one of its images."""

    name = "$name"
    info = Info("classes in proportion to a power of their size", paper="", year=None)

    class Config(Sampler.Config):
        """How far the classes are balanced."""

        power: float = Field(default=0.5, ge=0, le=1)
        """1 keeps the long tail, 0 draws every class equally often."""

    config: Config

    def order(self, epoch: Epoch, rng: np.random.Generator) -> IntArray:
        weights = self.counts**self.config.power  # [C]
        return self.draw_by_class(weights / weights.sum(), rng)  # [N]
'''

METHOD = '''
"""$title: say here what it does, and which paper it is from."""

from __future__ import annotations

from collections.abc import Mapping

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from lt_bench.data.samplers import ClassBalanced, Instance
from lt_bench.data.types import Batch, Epoch, IntArray, Step
from lt_bench.methods import Method, Task
from lt_bench.models.network import Network
from lt_bench.registry import Info


class $class_name(Method):
    """Cross entropy on the natural stream and on a class-balanced one, which gains weight over the epochs."""

    name = "$name"
    info = Info("a natural and a class-balanced stream", paper="", year=None, cost="2x")

    class Config(Method.Config):
        """How much the class-balanced stream counts in the end."""

        balanced: float = Field(default=0.5, ge=0, le=1)

    config: Config

    def prepare(self, task: Task) -> None:
        num_classes = task.stats.num_classes
        self.natural = Instance(task.labels, num_classes)
        self.balanced = ClassBalanced(task.labels, num_classes)

    def streams(self, epoch: Epoch) -> Mapping[str, IntArray]:
        # Each stream draws from a generator of its own: a resumed run then equals an uninterrupted one.
        return {
            "natural": self.natural.order(epoch, epoch.rng("natural")),
            "balanced": self.balanced.order(epoch, epoch.rng("balanced")),
        }

    def loss(self, network: Network, batches: Mapping[str, Batch], step: Step) -> Tensor:
        share = self.config.balanced * step.epoch.index / step.epoch.total
        natural, balanced = (cross_entropy(network, batches[stream]) for stream in ("natural", "balanced"))
        return (1 - share) * natural + share * balanced


def cross_entropy(network: Network, batch: Batch) -> Tensor:
    """Of the logits [B, C] in float32, as losses are computed here under autocast too."""
    return F.cross_entropy(network(batch.images).float(), batch.labels)
'''

RECIPE = """
# $title on digits-LT, factor 20, ResNet-8, 15 epochs.
# Run: lt-bench run $recipe --plugin $module --seeds 0,1,2
extends: protocols/digits-demo
data: {name: digits-lt, factor: 20}
model: {backbone: resnet8, head: linear}
$choice
# What `lt-bench cite $recipe` prints: a key such as cao-2019-ldam, or the facts of a paper of your own.
# papers: [{title: My Paper, authors: ["Doe, Jane"], venue: CVPR, year: 2026, url: https://example.org}]
"""

TEMPLATES = {"mix": MIX, "loss": LOSS, "sampler": SAMPLER, "method": METHOD}


def scaffold(family: str, name: str, folder: Path) -> tuple[Path, Path]:
    """Write `<name>.py`, a component of a family, and `<name>.yaml`, a recipe that uses it, into a folder.

    Returns the paths of the two. Raises UserError, and writes nothing, for an unknown family, a malformed or taken
    name, a file that exists and a folder that cannot be written.
    """
    if family not in TEMPLATES:
        raise UserError(unknown("family with a template", family, TEMPLATES))
    _check_name(family, name)
    module, recipe = folder / f"{_module(name)}.py", folder / f"{name}.yaml"
    values = {
        "name": name,
        "title": name.replace("-", " ").capitalize(),
        "class_name": _class(name),
        "module": module.name,
        "recipe": recipe.name,
        "choice": f"{family}: {{name: {name}}}",
    }
    texts = {module: TEMPLATES[family], recipe: RECIPE}
    try:
        for path in texts:
            if path.exists():
                raise UserError(f"{path}: exists already; nothing was written")
        write_together({path: Template(text.lstrip()).substitute(values).encode() for path, text in texts.items()})
    except OSError as error:
        raise UserError(f"--out {folder}: cannot be written: {in_words(error)}") from None
    return module, recipe


def _check_name(family: str, name: str) -> None:
    """Raise UserError for a name that a recipe, Python or another component already uses for something else."""
    if not NAME.fullmatch(name) or len(name) > LONGEST:
        raise UserError(
            f"{name[:LONGEST]!r} is no name of a {family}: lower-case words joined by hyphens, such as tail-mix, "
            f"of at most {LONGEST} letters"
        )
    if name in (known := members(family)):
        raise UserError(f"the {family} {name!r} already exists in {known[name].__module__}")
    if parse_yaml(name, "name") != name:
        raise UserError(f"{name!r} is no name of a {family}: a recipe would read it as {parse_yaml(name, 'name')!r}")
    module, class_name = _module(name), _class(name)
    modules, names = _imported(TEMPLATES[family])
    if keyword.iskeyword(module) or keyword.iskeyword(class_name) or class_name in names:
        raise UserError(f"{name!r} is no name of a {family}: Python needs {class_name} or {module} for something else")
    if module in sys.stdlib_module_names or module in modules or module in packages_distributions():
        raise UserError(f"{name!r} is no name of a {family}: its file, {module}.py, would hide Python's {module}")


def _module(name: str) -> str:
    return name.replace("-", "_")


def _class(name: str) -> str:
    return "".join(word.capitalize() for word in name.split("-"))


def _imported(template: str) -> tuple[set[str], set[str]]:
    """The libraries that a template imports, and the names that it takes from them."""
    tree = ast.parse(Template(template.lstrip()).safe_substitute(class_name="Component"))
    found = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
    names = {alias.asname or alias.name for node in found for alias in node.names}
    libraries = [node.module or "" for node in found if isinstance(node, ast.ImportFrom)]
    libraries += [alias.name for node in found if isinstance(node, ast.Import) for alias in node.names]
    return {library.split(".")[0] for library in libraries}, names
