"""Commands about data sets and their splits."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from lt_bench.cli.app import data_app
from lt_bench.cli.options import AsJson, CardName, DataRoot, path_option
from lt_bench.errors import MissingDataError, UserError
from lt_bench.terminal import print_rows, short


@data_app.command("new")
def new_data(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The word that recipes will use, such as my-birds.")],
    images: Annotated[
        Path | None, path_option("--images", help="Folder of the class folders, or of the images that the lists name.")
    ] = None,
    train: Annotated[Path | None, path_option("--train", help="List of `relative/path label` lines.")] = None,
    test: Annotated[Path | None, path_option("--test", help="List of the test images.")] = None,
    test_per_class: Annotated[
        int | None, typer.Option(min=1, help="Test images to draw of each class. Default: half of the smallest, 50.")
    ] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, max=2**32 - 1, help="Chooses the test images that are drawn. Default: 0.")
    ] = None,
    out: Annotated[Path, path_option("--out", help="Folder to make the folder NAME in.")] = Path(),
) -> None:
    """Make a data set of images of your own: the folder NAME with a card and a setting, for NAME/METHOD to be run."""
    from lt_bench.data.new_set import new_from_folder, new_from_lists

    if train is not None and test is not None:
        for option, given in {"--test-per-class": test_per_class, "--seed": seed}.items():
            if given is not None:
                raise UserError(f"{option}: the test part is that of --test, and none is drawn")
        made = new_from_lists(name, train, test, images, out)
    elif train is None and test is None and images is not None:
        made = new_from_folder(name, images, out, test_per_class, seed)
    else:
        raise UserError("give --images FOLDER with a folder for each class, or --train LIST and --test LIST")
    print("\n".join(made.lines()))
    print(f"lt-bench run {made.folder}/balanced-softmax")


@data_app.command()
def prepare(
    card: CardName,
    settings: Annotated[list[str] | None, typer.Argument()] = None,
    data_root: DataRoot = None,
    fetch: Annotated[bool, typer.Option("--download", help="Fetch the archive first, as torchvision does.")] = False,
    pack: Annotated[
        bool, typer.Option("--pack", help="Keep the image files as one in the cache, where every run finds them.")
    ] = False,
) -> None:
    """Read a data set once, check it, and keep the decoded images for later runs."""
    if pack:
        _check_packable(card)
    if fetch:
        from lt_bench.data.cards import load_card, named_card
        from lt_bench.data.opening import data_folder
        from lt_bench.data.sources import download

        download(load_card(named_card(card)), data_folder(data_root))
    split = _split(card, settings, data_root)
    print(f"{card}: {int(split.counts.sum())} training images ready, index sha256 {split.index_sha256[:12]}")
    if pack:
        from lt_bench.data.packed import pack_split

        print(pack_split(split))


@data_app.command()
def verify(
    card: CardName, settings: Annotated[list[str] | None, typer.Argument()] = None, data_root: DataRoot = None
) -> None:
    """Compare a split with what its card expects: counts, indices, pixels. Of image files every one is decoded."""
    from lt_bench.data import verify as verify_split

    _check_images(card, data_root)
    split = _split(card, settings, data_root)
    compared = ", ".join(verify_split(split))
    state = f" agree with the card in {compared}" if compared else "; the card says nothing of this split to compare"
    print(f"{card}: {int(split.counts.sum())} training images{state}")


@data_app.command()
def describe(
    card: CardName,
    settings: Annotated[list[str] | None, typer.Argument(help="Such as factor=50 profile=step.")] = None,
    data_root: DataRoot = None,
    as_json: AsJson = False,
    plot: Annotated[Path | None, path_option("--plot", help="Draw the class sizes: a .png, .pdf or .svg.")] = None,
) -> None:
    """Print counts, groups and digests of a split, or what is missing of its files and where they come from."""
    from lt_bench.data import describe as describe_split
    from lt_bench.data import draw_class_sizes

    try:
        split = _split(card, settings, data_root)
    except MissingDataError:
        if as_json or plot is not None:
            raise
        print("\n".join(_expected(card, data_root)))
        return
    facts = describe_split(split)
    if plot is not None:
        draw_class_sizes(split, plot)
    if as_json:
        print(json.dumps(facts))
    else:
        print_rows([{"": key, " ": short(value)} for key, value in facts.items()])


@data_app.command()
def export(
    card: CardName,
    output: Annotated[Path, path_option("--output", "-o", help="The parquet file to write, or a .csv.")],
    settings: Annotated[list[str] | None, typer.Argument()] = None,
    data_root: DataRoot = None,
) -> None:
    """Write a split as one parquet file that --data-root can read back, on this or another machine.

    As a .csv: part, original position and label of each training and validation image, for other code.
    """
    from lt_bench.data.export import export_split

    split = _split(card, settings, data_root)
    export_split(split, output)
    print(f"{output}: {int(split.counts.sum())} training images, content sha256 {split.content_sha256[:12]}")


MOST_NAMED = 10
"""Images that `verify` names of those that it cannot read."""


def _check_images(card: str, data_root: Path | None) -> None:
    """Raise MissingDataError where an image file of any part is missing or unreadable, the first of them printed."""
    from lt_bench.data.arrays import cache_folder
    from lt_bench.data.cards import FolderSource, load_card, named_card
    from lt_bench.data.expected import damaged
    from lt_bench.data.folder import images_folder
    from lt_bench.data.opening import advised, data_folder

    known, root = load_card(named_card(card)), data_folder(data_root)
    if not isinstance(known.source, FolderSource):
        return
    with advised(known, known.source, root):
        folder = images_folder(known, known.source, root, cache_folder(None))
        if faults := damaged(known, known.source, folder):
            print("\n".join(faults[:MOST_NAMED]))
            named = "named above" if len(faults) <= MOST_NAMED else f"of which the first {MOST_NAMED} are named above"
            images = sum(part.images for part in known.source.parts.values())
            told = f"{folder}: {len(faults):,} of {images:,} images are missing or unreadable, {named}"
            raise MissingDataError(told, faults[0].partition(": ")[0])


def _check_packable(card: str) -> None:
    from lt_bench.data.cards import FolderSource, load_card, named_card

    if not isinstance(load_card(named_card(card)).source, FolderSource):
        raise UserError(f"--pack: {card} has no image files to pack; its images are kept decoded already")


def _expected(card: str, data_root: Path | None) -> Iterator[str]:
    from lt_bench.data.arrays import cache_folder
    from lt_bench.data.cards import FolderSource, load_card, named_card
    from lt_bench.data.expected import expected
    from lt_bench.data.opening import data_folder

    known = load_card(named_card(card))
    assert isinstance(known.source, FolderSource)
    return expected(known, known.source, data_folder(data_root), cache_folder(None))


def _split(card: str, settings: list[str] | None, data_root: Path | None) -> Any:
    from lt_bench.data import open_split
    from lt_bench.data.cards import named_card
    from lt_bench.recipe import data_spec

    return open_split(data_spec(named_card(card), settings or []), data_root)
