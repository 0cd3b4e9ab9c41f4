"""Weights that a backbone starts from: a file that a recipe names, known by its sha256, or torchvision's."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lt_bench.data.reading import reason
from lt_bench.errors import UserError
from lt_bench.files import in_words, sha256_of

if TYPE_CHECKING:
    from torch import Tensor, nn

State = Mapping[str, "Tensor"]

FIELD = "model.backbone.weights"


def weights_sha256(file: str) -> str:
    """The sha256 of a file of weights. Raises UserError where it cannot be read."""
    try:
        return sha256_of(Path(file))
    except OSError as error:
        raise UserError(f"{FIELD}: {file}: {in_words(error)}") from None


def with_digest(config: Any) -> Any:
    """Settings of a backbone with the sha256 of the file of weights that they name, if any. Raises UserError."""
    if config.weights is None or config.weights_sha256 is not None:
        return config
    return config.model_copy(update={"weights_sha256": weights_sha256(config.weights)})


def check_unchanged(file: str, sha256: str | None) -> None:
    """Raise UserError where a file of weights is not the one that the recipe was read with."""
    if weights_sha256(file) != sha256:
        raise UserError(f"{FIELD}: {file} is another file than the recipe was read with")


def read_state(file: str) -> State:
    """The tensors in a .safetensors file, or in one of torch's, of which nothing is executed. Raises UserError."""
    import torch  # noqa: PLC0415
    from safetensors.torch import load_file  # noqa: PLC0415

    try:
        state = load_file(file) if file.endswith(".safetensors") else torch.load(file, "cpu", weights_only=True)
    except Exception as error:  # Damaged files raise a dozen classes.
        raise UserError(f"{FIELD}: {file}: not a readable file of weights: {reason(error)[:200]}") from None
    if not isinstance(state, Mapping):
        raise UserError(f"{FIELD}: {file}: expected tensors by name, found a {type(state).__name__}")
    return state


def wait_once(error: BaseException | None) -> None:
    """After the hub could not be reached, let its library look into its cache alone, as long as this process lives.

    Else each further recipe of a sweep would wait for the same half minute of retries.
    """
    from huggingface_hub import constants  # noqa: PLC0415
    from huggingface_hub.errors import LocalEntryNotFoundError  # noqa: PLC0415

    while error is not None:
        if isinstance(error, LocalEntryNotFoundError):
            constants.HF_HUB_OFFLINE = True
        error = error.__cause__ or error.__context__


def downloaded_state(builder: str, weights: str) -> State:
    """The weights that torchvision has for the network of a builder, from its cache or its server. Raises UserError."""
    from torchvision.models import get_model_weights  # noqa: PLC0415 (as slow to import as torch itself)

    known = {found.name: found for found in get_model_weights(builder)}
    try:
        state: State = known[weights].get_state_dict(progress=False, check_hash=True)
    except Exception as error:  # Whatever a download raises.
        hint = f"a file of them comes in by {FIELD}"
        raise UserError(f"model.backbone.pretrained: {weights} cannot be had: {reason(error)[:200]}; {hint}") from None
    return state


def downloaded_file(builder: str, weights: str) -> Path:
    """Where torchvision keeps the weights that it has downloaded for the network of a builder."""
    import torch  # noqa: PLC0415
    from torchvision.models import get_model_weights  # noqa: PLC0415

    (url,) = (found.url for found in get_model_weights(builder) if found.name == weights)
    return Path(torch.hub.get_dir(), "checkpoints", Path(url).name)


def published_as(builder: str, sha256: str) -> str | None:
    """The name of torchvision's weights that a file is, which carry the begin of their hash in their own."""
    from torchvision.models import get_model_weights  # noqa: PLC0415

    known = get_model_weights(builder) if builder else ()
    return next((found.name for found in known if sha256.startswith(Path(found.url).stem.rpartition("-")[2])), None)


def load_without_classifier(net: nn.Module, state: State, classifier: str, what: str) -> None:
    """Load all of a network but its classifier. Raises UserError, which calls the state `what`."""
    mine = {name for name in net.state_dict() if not name.startswith(f"{classifier}.")}
    if missing := sorted(mine - set(state)):
        raise UserError(f"{what}: {len(missing)} of the network's {len(mine)} tensors are not in it, as {missing[0]}")
    try:
        net.load_state_dict({name: state[name] for name in mine}, strict=False)
    except (RuntimeError, TypeError, AttributeError) as error:
        raise UserError(f"{what}: of another network: {reason(error)[:200]}") from None
