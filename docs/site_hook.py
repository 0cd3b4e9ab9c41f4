"""MkDocs hook: the site has the repository's own layout, so that every relative link is true in both."""

from __future__ import annotations

from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
SHOWN = (
    "*.md",
    "CITATION.cff",
    "docs/*.md",
    "docs/*.png",
    "docs/mixes/*.png",
    "benchmarks/*.md",
    "leaderboard/*.md",
    "leaderboard/robustness/*.md",
    "leaderboard/v1/*.md",
    "leaderboard/v1/tables/*",
    "recipes/**/*.yaml",
    "examples/*.py",
    "notebooks/*.ipynb",
    "lt_bench/**/*.py",
)
"""What pages may link to. A link to anything else fails the build."""
READ_AS_TEXT = {".py", ".yaml", ".ipynb", ".csv", ".cff"}
"""Endings that a browser would save instead of show."""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """The theme's files, and instead of those in `docs/` the repository's, by their paths in it."""
    theme = [file for file in files if file.src_dir != config.docs_dir]
    return Files([*theme, *(_shown(path, config) for pattern in SHOWN for path in sorted(ROOT.glob(pattern)))])


def _shown(path: Path, config: MkDocsConfig) -> File:
    file = File(path.relative_to(ROOT).as_posix(), str(ROOT), config.site_dir, config.use_directory_urls)
    if path.suffix in READ_AS_TEXT:
        file.dest_uri += ".txt"
    return file
