"""Draw what every mix makes of the embedded digits: python docs/draw_mixes.py writes docs/mixes.md and its pictures."""

from __future__ import annotations

import io
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from PIL import Image

from lt_bench.gallery import draw, mixture
from lt_bench.recipe import load_recipe
from lt_bench.registry import members
from lt_bench.training.options import Options
from lt_bench.training.run import run

HERE = Path(__file__).parent
COLOURS = 48
LEFT_OUT = {"none": "it mixes nothing", "class-distance-mix-ours": "it only chooses partners"}
"""Mixes without a picture of their own, and why."""
OVERRIDES = {
    "tokenmix": ["mix.labels=area"],
    "attentive-cutmix": ["mix.teacher={teacher}"],
    "transmix": ["model.backbone=vit-tiny"],
    "pixmix": ["mix.pictures={pictures}"],
    "co-mixup": ["mix.beta=0.1"],
}
"""What a mix is drawn with beside its name: TokenMix by area, which needs no teacher; Co-Mixup as the page says."""
JULIA = (-0.8 + 0.156j, 0.285 + 0.01j, -0.4 + 0.6j, -0.70176 - 0.3842j, -0.835 - 0.2321j, 0.355 + 0.355j)
"""The constants c of fractals that PixMix is drawn with."""
EPOCHS = 5
"""Of the teacher's training."""
HEAD = """# What mixes do

Six digits of the embedded set, from the largest class to the smallest; below each what the network is given, and
below that the labels it is trained on, with their shares. The networks are fresh, so masks that are learnt say
nothing yet, and where features are mixed the images stay as they are. PixMix mixes with fractals that are drawn for
it. For Co-Mixup a border costs 0.1: to a fresh network all of an image is about as salient, and at its 0.32 images stay
whole. `lt-bench gallery cifar100-lt/cutmix` draws the like of any recipe on any data. `make mixes` makes this page.
"""

NOT_HERE = {
    "GridMix (Baek et al., Pattern Recognition 2021)": "neither paper nor code could be read; `gridmixup` is another",
    "StyleMix": "it needs the weights of a network that transfers styles, which do not ship",
    "MixPro, SMMix, TL-Align, MergeMix": "they need the attention or the tokens of a vision transformer",
}
"""Mixes that the suite has not, and why."""


def main() -> None:
    """Write the page and its pictures."""
    parts = [HEAD]
    (HERE / "mixes").mkdir(exist_ok=True)
    for name, mix in sorted(members("mix").items()):
        if name in LEFT_OUT:
            continue
        picture(name).save(HERE / "mixes" / f"{name}.png", optimize=True)
        info = mix.info
        parts.append(f"## {name}\n\n{info.summary}. {info.paper}.\n\n![{name}](mixes/{name}.png)\n")
        print(name, flush=True)
    rows = "\n".join(f"| {name} | {why} |" for name, why in NOT_HERE.items())
    parts.append(f"## Not here\n\n| mix | why |\n| :-- | :-- |\n{rows}\n")
    (HERE / "mixes.md").write_text("\n".join(parts), encoding="utf-8")


def picture(name: str) -> Image.Image:
    """A mix on the digits, with its default settings but for OVERRIDES; in few colours, which is small."""
    with TemporaryDirectory() as temporary:
        folder, overrides = Path(temporary), OVERRIDES.get(name, [])
        for mark, make in {"{teacher}": teacher, "{pictures}": fractals}.items():
            overrides = [text.replace(mark, str(make(folder))) if mark in text else text for text in overrides]
        recipe = load_recipe("digits-lt/ce", [f"mix.name={name}", "protocol.epochs=20", *overrides])
        draw(mixture(recipe, 6, 0, None, folder), name, folder / "mix.png")
        whole = Image.open(io.BytesIO((folder / "mix.png").read_bytes())).convert("RGB")
    return whole.resize((whole.width * 2 // 3, whole.height * 2 // 3)).quantize(COLOURS)


def teacher(folder: Path) -> Path:
    """The weights of a short training on the digits."""
    run(load_recipe("digits-lt/ce", [f"protocol.epochs={EPOCHS}"]), 0, Options(work=folder, records=folder))
    return next(folder.rglob("weights.safetensors"))


def fractals(folder: Path) -> Path:
    """Julia sets: how soon z <- z^2 + c leaves a circle, as colours."""
    pictures = folder / "pictures"
    pictures.mkdir()
    y, x = np.mgrid[-1.2:1.2:96j, -1.6:1.6:128j]  # type: ignore[misc]
    for index, c in enumerate(JULIA):
        z, steps = x + 1j * y, np.zeros(x.shape)
        for _ in range(60):
            z = np.where(abs(z) < 4, z * z + c, z)
            steps += abs(z) < 4
        colours = np.stack([np.sin(steps / scale + index) for scale in (4, 7, 11)], -1)
        Image.fromarray(((colours + 1) * 127.5).astype(np.uint8)).save(pictures / f"{index}.png")
    return pictures


if __name__ == "__main__":
    main()
