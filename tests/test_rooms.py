"""Rooms, from the ground up: each imports only those below it."""

import ast
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "plainvision"
ROOMS = (
    *("fields", "files", "showing", "seeds", "processes", "genotype", "intervals", "confidences"),
    *("layers", "inspection", "models", "surgery", "cards", "data", "bench", "figures", "explain", "deploy"),
    *("dynamic", "training", "tasks", "hub", "study", "search", "recipes", "quickstart", "commands", "__main__"),
)


def room(module: str) -> str:
    """Return the room of a module's name: `plainvision.data.images` is in `data`."""
    return module.split(".")[1] if "." in module else ""


def imports(tree: ast.Module) -> list[str]:
    """Return the modules of plainvision that run-time code imports; those for types alone load nothing."""
    found: list[str] = []
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING":
            continue
        if isinstance(node, ast.ImportFrom) and node.module == "plainvision":
            found += [f"plainvision.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("plainvision."):
            found.append(node.module or "")
        waiting += ast.iter_child_nodes(node)
    return found


FILES = sorted(path for path in SOURCE.rglob("*.py") if path != SOURCE / "__init__.py")


def test_every_room_has_its_place():
    names = {path.relative_to(SOURCE).parts[0].removesuffix(".py") for path in FILES}
    assert names == set(ROOMS)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(SOURCE).as_posix())
def test_a_room_imports_only_rooms_below_it(path):
    own = ROOMS.index(path.relative_to(SOURCE).parts[0].removesuffix(".py"))
    above = [name for name in imports(ast.parse(path.read_text())) if room(name) in ROOMS[own + 1 :]]
    assert above == []
