"""What the structural tests look at: the modules of the package, and every file of the project."""

from __future__ import annotations

import ast
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
PACKAGE = REPOSITORY / "src" / "teeverify"
NOT_OURS = ("__pycache__", "build", "node_modules", "dist", "_build")


@dataclass(frozen=True)
class Module:
    """One Python file: ``name`` is its path below the package, such as ``tdx/quote.py``."""

    path: Path
    name: str

    @property
    def room(self) -> str:
        """The folder, or the file name of a module directly in the package."""
        return self.name.partition("/")[0]

    @cached_property
    def lines(self) -> int:
        return len(self.path.read_text(encoding="utf-8").splitlines())

    @cached_property
    def nodes(self) -> list[ast.AST]:
        return list(ast.walk(ast.parse(self.path.read_text(encoding="utf-8"))))

    def imports(self) -> set[str]:
        """Every module named by an import anywhere in the file, also within functions."""
        found: set[str] = set()
        for node in self.nodes:
            if isinstance(node, ast.Import):
                found.update(alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module:
                found.add(node.module)
                found.update(f"{node.module}.{alias.name}" for alias in node.names)
        return found

    def attributes(self) -> list[tuple[str, int]]:
        """Every ``owner.name`` in the file, called or not, with its line."""
        return [
            (f"{ast.unparse(node.value)}.{node.attr}", node.lineno)
            for node in self.nodes
            if isinstance(node, ast.Attribute)
        ]


@pytest.fixture(scope="session")
def repository() -> Path:
    return REPOSITORY


@pytest.fixture(scope="session")
def modules() -> list[Module]:
    return [
        Module(path, path.relative_to(PACKAGE).as_posix()) for path in sorted(PACKAGE.rglob("*.py"))
    ]


@pytest.fixture(scope="session")
def project_files() -> list[Path]:
    """All files of the project, without what tools put beside them."""
    found: list[Path] = []
    for folder, folders, names in os.walk(REPOSITORY):
        folders[:] = [
            name
            for name in folders
            if name not in NOT_OURS
            and (name == ".ci" or not name.startswith("."))
            and not name.endswith(".egg-info")
        ]
        found.extend(Path(folder, name) for name in names)
    return sorted(found)
