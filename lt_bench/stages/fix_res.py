"""FixRes: classifier and last normalisation trained on at the resolution of the test (Touvron et al., NeurIPS 2019)."""

from __future__ import annotations

import re
from collections.abc import Sequence

from pydantic import Field, FiniteFloat
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from lt_bench.data.augment import Augmentation
from lt_bench.errors import UserError
from lt_bench.registry import Info
from lt_bench.stages import Stage


class FixRes(Stage):
    """Images are larger from here on, in the test too, and not varied; the trained classifier learns on.

    It does by the loss of before, where a recipe does not say another. With it learns the last batch normalisation
    before the pooling, whose statistics follow the larger maps. Image files are read at the larger size. Small images
    are enlarged, which shows nothing new, and random crops that pad do not make objects look larger than the test
    does, which is what the paper mends: there it is the procedure, no more.
    """

    name = "fix-res"
    info = Info(
        "classifier and last norm trained on, at larger images", "Touvron et al., NeurIPS 2019", 2019, cost="0.5x"
    )
    plain_images = True
    goes_on_with = frozenset({"loss"})

    class Config(Stage.Config):
        """How much larger, and how it learns; the paper's rate and epochs could not be read."""

        scale: FiniteFloat = Field(default=1.25, gt=0, le=16)
        """Side of an image over that of the first stage: 32 becomes 40. The paper goes from 224 to 384."""
        lr: FiniteFloat = Field(default=0.01, gt=0)
        """A tenth of that of other stages: this is a fine-tuning."""

    config: Config

    @classmethod
    def sees(cls, config: Config, augmentation: Augmentation, side: int) -> Augmentation:
        side = round(config.scale * side)
        if augmentation.kind == "crop-flip":
            return augmentation.model_copy(update={"enlarge": side})
        resize = augmentation.test_resize and max(side, round(config.scale * augmentation.test_resize))
        return augmentation.model_copy(update={"size": side, "test_resize": resize})

    def prepare(self, trained: nn.Linear) -> None:
        self.linear = trained

    def forward(self, features: Tensor) -> Tensor:
        logits: Tensor = self.linear(features)
        return logits

    @classmethod
    def adapted(cls, last_stage: nn.Module) -> Sequence[nn.Module]:
        # A projection is registered behind the path beside it, and ends in a norm too.
        named = ((name, part) for name, part in last_stage.named_modules() if isinstance(part, _BatchNorm))
        norms = [part for name, part in named if not re.search("downsample|shortcut", name)]
        if not norms:
            raise UserError("second_stage: fix-res adapts the last batch normalisation, and this network has none")
        return norms[-1:]
