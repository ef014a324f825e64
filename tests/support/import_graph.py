"""The product's modules, and which of them import which, read from the source without running it."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = ("anabranch", "consumers", "models", "producers")
COMPOSITION_ROOTS = ("anabranch.cli", "anabranch.harness", "anabranch.__main__")
"""They put everything together, so what they import makes no circle."""

Graph = Mapping[str, frozenset[str]]


@cache
def sources() -> dict[str, ast.Module]:
    """Module name → its syntax tree; a package goes by its own name, without `__init__`."""
    files = (file for package in PACKAGES for file in sorted((ROOT / package).rglob("*.py")))
    return {module_name(file): ast.parse(file.read_text("utf-8")) for file in files}


def module_name(file: Path) -> str:
    return ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def imported_names(module: str) -> Iterator[str]:
    """Every name a module imports, those inside functions and for types only included; a submodule by its full name."""
    for node in ast.walk(sources()[module]):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} has a relative import"
            for alias in node.names:
                submodule = f"{node.module}.{alias.name}"
                yield submodule if submodule in sources() else str(node.module)


@cache
def imports() -> Graph:
    """Module → the modules of the product it imports."""
    return {name: frozenset(set(imported_names(name)) & sources().keys() - {name}) for name in sources()}


def folder_imports() -> Graph:
    """Folder → the folders it imports, the composition roots left out."""
    folders: dict[str, set[str]] = {}
    for module, imported in imports().items():
        if not within(module, COMPOSITION_ROOTS):
            folders.setdefault(_folder(module), set()).update(map(_folder, imported))
    return {name: frozenset(imported - {name}) for name, imported in folders.items()}


def _folder(module: str) -> str:
    is_package = any(name.startswith(f"{module}.") for name in sources())
    return module if is_package else module.rpartition(".")[0]


def classes() -> dict[str, set[str]]:
    """Class name → the modules that define it."""
    modules: dict[str, set[str]] = {}
    for module, tree in sources().items():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                modules.setdefault(node.name, set()).add(module)
    return modules


def within(name: str, rooms: Iterable[str]) -> bool:
    """Whether a module is one of the rooms, or in one of them."""
    return any(name == room or name.startswith(f"{room}.") for room in rooms)


def reachable(modules: Iterable[str]) -> set[str]:
    """The modules and everything they import, directly or not."""
    reached, waiting = set(modules), list(modules)
    while waiting:
        new = imports()[waiting.pop()] - reached
        reached |= new
        waiting.extend(new)
    return reached


def strongly_connected(graph: Graph) -> list[list[str]]:
    """Strongly connected components of more than one node (Tarjan, 1972)."""
    order: dict[str, int] = {}
    lowest: dict[str, int] = {}
    stack: list[str] = []
    components: list[list[str]] = []

    def visit(node: str) -> None:
        order[node] = lowest[node] = len(order)
        stack.append(node)
        for successor in graph.get(node, ()):
            if successor not in order:
                visit(successor)
                lowest[node] = min(lowest[node], lowest[successor])
            elif successor in stack:
                lowest[node] = min(lowest[node], order[successor])
        if lowest[node] == order[node]:
            first = stack.index(node)
            components.append(sorted(stack[first:]))
            del stack[first:]

    for node in graph:
        if node not in order:
            visit(node)
    return [component for component in components if len(component) > 1]
