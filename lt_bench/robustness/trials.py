"""Under what test images are looked at, by name: attacks within a radius, libraries, corruptions. Needs no torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

from lt_bench.adversary import Attack
from lt_bench.errors import UserError, unknown
from lt_bench.settings import Settings

Norm = Literal["linf", "l2"]

CORRUPTIONS = (
    *("gaussian-noise", "impulse-noise", "gaussian-blur", "pixelate"),
    *("brightness", "contrast", "saturation", "jpeg", "posterize"),
)
SEVERITIES = (1, 2, 3, 4, 5)


class Trial(Settings):
    """One way of looking at test images, with all that decides what it finds."""

    name: str
    kind: Literal["attack", "library", "corruption"]
    attack: Attack | None = None
    """That of `attack`; a library chooses its own steps."""
    objective: Literal["cross-entropy", "margin"] = "cross-entropy"
    scale: float = 1.0
    """Factor on the logits before the objective, against gradients that vanish behind large or small ones."""
    norm: Norm = "linf"
    radius: float = 0.0
    """Of the ball, in 255ths. A corruption has none."""
    parts: tuple[str, ...] = ()
    """The attacks of a library, in their order: each on the images that those before have left."""
    severity: int = 0
    """Of a corruption, from 1 to 5."""

    @property
    def harms(self) -> bool:
        """Whether it searches for the worst: then it counts in the worst case."""
        return self.kind != "corruption"


def _steps(norm: Norm, radius: float, **settings: Any) -> Attack:
    return Attack(**{"norm": norm, "radius": radius, "step": max(radius, 1e-9) / 4, "steps": 20} | settings)


def _fgsm(norm: Norm, radius: float) -> dict[str, Any]:
    return {"attack": _steps(norm, radius, step=max(radius, 1e-9), steps=1, start="image")}


def _pgd_40(norm: Norm, radius: float) -> dict[str, Any]:
    later = ((20, 2.55), (30, 0.0255))
    attack = Attack(norm=norm, radius=radius, step=25.5, later_steps=later, steps=40, ascent="adam")
    return {"attack": attack, "objective": "margin"}


ATTACKS: dict[str, Callable[[Norm, float], dict[str, Any]]] = {
    "fgsm": _fgsm,
    "pgd-20": lambda norm, radius: {"attack": _steps(norm, radius)},
    "cw-20": lambda norm, radius: {"attack": _steps(norm, radius), "objective": "margin"},
    "lsa-20": lambda norm, radius: {"attack": _steps(norm, radius), "scale": 10.0},
    "pgd-40": _pgd_40,
}
"""Our own. The steps of 20 are a quarter of the radius, 2/255 at the usual one; 40 are Adam's, on the margin, as in
Rebuffi et al. `lsa-20` is `pgd-20` on ten times the logits, against false robustness of small ones (AT-BSL)."""
LIBRARY = {"apgd": ("apgd-ce", "apgd-t"), "autoattack": ("apgd-ce", "apgd-t", "fab-t", "square")}
"""AutoAttack (Croce and Hein, ICML 2020), and the two of its parts that RoBal's authors test with."""
NAMES = (*ATTACKS, *LIBRARY, *CORRUPTIONS, "corruptions")
USUAL = ("pgd-20", "pgd-40")


def trials(names: Sequence[str], norm: Norm, radius: float) -> tuple[Trial, ...]:
    """The trials of these names, once each, in this order; a corruption has five, and `corruptions` are all of them.

    Raises UserError for another name.
    """
    found: dict[str, Trial] = {}
    for name in names:
        if name not in NAMES:
            raise UserError(f"--with: {unknown('trial', name, NAMES)}")
        for trial in _of(name, norm, radius):
            found[trial.name] = trial
    return tuple(found.values())


def _of(name: str, norm: Norm, radius: float) -> list[Trial]:
    if name in ATTACKS:
        return [Trial(name=name, kind="attack", norm=norm, radius=radius, **ATTACKS[name](norm, radius))]
    if name in LIBRARY:
        return [Trial(name=name, kind="library", norm=norm, radius=radius, parts=LIBRARY[name])]
    kinds = CORRUPTIONS if name == "corruptions" else (name,)
    return [
        Trial(name=f"{one}-{severity}", kind="corruption", severity=severity)
        for one in kinds
        for severity in SEVERITIES
    ]
