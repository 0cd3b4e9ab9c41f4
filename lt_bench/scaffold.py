"""A first version of a user's own component: one Python file, and one recipe that runs on any setting."""

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
from lt_bench.recipe.files import shipped
from lt_bench.registry import NETWORK, members
from lt_bench.templates import ABOUT, COMPONENTS, RECIPE
from lt_bench.yaml_files import parse_yaml

LONGEST = 60
NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")


def scaffold(family: str, name: str, folder: Path) -> tuple[Path, Path]:
    """Write `<name>.py`, a component of a family, and `<name>.yaml`, a method that uses it, into a folder.

    Returns the paths of the two. Raises UserError, and writes nothing, for an unknown family, a malformed or taken
    name, a file that exists and a folder that cannot be written.
    """
    if family not in COMPONENTS:
        raise UserError(unknown("family with a template", family, COMPONENTS))
    _check_name(family, name)
    module, recipe = folder / f"{_module(name)}.py", folder / f"{name}.yaml"
    values = {
        "name": name,
        "title": name.replace("-", " ").capitalize(),
        "class_name": _class(name),
        "module": module.name,
    }
    texts = {module: COMPONENTS[family], recipe: _recipe(family, name)}
    try:
        for path in texts:
            if path.exists():
                raise UserError(f"{path}: exists already; nothing was written")
        write_together({path: Template(text.lstrip()).substitute(values).encode() for path, text in texts.items()})
    except OSError as error:
        raise UserError(f"--out {folder}: cannot be written: {in_words(error)}") from None
    return module, recipe


def _recipe(family: str, name: str) -> str:
    """The template of a recipe that uses the component."""
    choice = {
        "stage": f"extends: ce\nsecond_stage: {{name: {name}}}\n",
        "regularise": f"regularise: {{{name}: {{}}}}\n",
        **{part: f"model: {{{part}: {name}}}\n" for part in NETWORK},
    }.get(family, f"{family}: {{name: {name}}}\n")
    return RECIPE + choice + ABOUT.lstrip()


def _check_name(family: str, name: str) -> None:
    """Raise UserError for a name that a recipe, Python or another component already uses for something else."""
    if not NAME.fullmatch(name) or len(name) > LONGEST:
        raise UserError(
            f"{name[:LONGEST]!r} is no name of a {family}: lower-case words joined by hyphens, such as tail-mix, "
            f"of at most {LONGEST} letters"
        )
    if name in (known := members(family)):
        raise UserError(f"the {family} {name!r} already exists in {known[name].__module__}")
    if name in shipped():
        raise UserError(f"{name!r} is no name of a {family}: its recipe, {name}.yaml, would have that of a shipped one")
    if parse_yaml(name, "name") != name:
        raise UserError(f"{name!r} is no name of a {family}: a recipe would read it as {parse_yaml(name, 'name')!r}")
    module, class_name = _module(name), _class(name)
    modules, names = _imported(COMPONENTS[family])
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
