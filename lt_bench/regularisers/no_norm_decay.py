"""No weight decay on normalisations and biases (He et al., CVPR 2019)."""

from __future__ import annotations

from lt_bench.protocol import Protocol
from lt_bench.registry import Info
from lt_bench.regularisers import Regulariser


class NoNormDecay(Regulariser):
    """Weight decay acts on what multiplies, and not on normalisations and biases.

    A protocol that asks for it by `optimizer.decay_norms_and_biases: false` has it already, and this is refused.
    """

    name = "no-norm-decay"
    info = Info("no weight decay on norms and biases", "He et al., CVPR 2019", 2019)

    def trained_under(self, protocol: Protocol) -> Protocol:
        if not protocol.optimizer.decay_norms_and_biases:
            raise self.refused(f"the protocol {protocol.name} has it already")
        optimizer = protocol.optimizer.model_copy(update={"decay_norms_and_biases": False})
        return protocol.model_copy(update={"optimizer": optimizer})
