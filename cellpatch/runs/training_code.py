"""Which code trains: a number that is raised when trained bits change, and a fingerprint of the source files."""

import ast
import hashlib
import io
import tokenize
from collections.abc import Iterable, Iterator
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

from cellpatch.runs.record import TrainingCode

# Raise it whenever trained weights change for equal settings: the golden losses in tests/test_training.py hold it.
# 1: the bits of cellpatch 0.3.0.
TRAINING_CODE = 1
_ROOT = "cellpatch"


def training_code(entry_points: Iterable[type]) -> TrainingCode:
    """The number and fingerprint of the code that trains with these classes (fit, backbone, adaptation, ...).

    The fingerprint covers the modules of the classes and all modules of cellpatch that they import, directly or not.
    """
    return TrainingCode(TRAINING_CODE, _fingerprint(tuple(sorted({each.__module__ for each in entry_points}))))


@lru_cache(maxsize=64)  # the code that is loaded does not change while a grid runs
def _fingerprint(modules: tuple[str, ...]) -> str:
    digest = hashlib.sha256()
    for module, file in sorted(_closure(modules).items()):
        digest.update(f"{module}\n{statements(file.read_text(encoding='utf-8'))}\0".encode())
    return digest.hexdigest()[:16]


def _closure(modules: Iterable[str]) -> dict[str, Path]:
    """The modules and everything of cellpatch that they import, with their files."""
    files: dict[str, Path] = {}
    pending = [module for module in modules if module.partition(".")[0] == _ROOT]
    while pending:
        module = pending.pop()
        if module not in files and (file := _file_of(module)) is not None:
            files[module] = file
            pending += _imported(file)
    return files


def _file_of(module: str) -> Path | None:
    """None for what is no module: the name of a class or function."""
    try:
        spec = find_spec(module)
    except ModuleNotFoundError:
        return None
    return None if spec is None or spec.origin is None else Path(spec.origin)


def _imported(file: Path) -> Iterator[str]:
    """Modules of cellpatch that a file imports, anywhere in it."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        else:
            continue
        yield from (name for name in names if name.startswith(f"{_ROOT}."))


def statements(source: str) -> str:
    """Python source without comments, docstrings and blank lines: what does not change what it does."""
    dropped: set[int] = set()  # lines of docstrings
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and node.body:
            first = node.body[0]
            if (
                isinstance(first, ast.Expr)
                and isinstance(first.value, ast.Constant)
                and isinstance(first.value.value, str)
            ):
                dropped |= set(range(first.lineno, (first.end_lineno or first.lineno) + 1))
    lines = source.splitlines()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            row, column = token.start
            lines[row - 1] = lines[row - 1][:column]
    kept = (line.rstrip() for number, line in enumerate(lines, 1) if number not in dropped)
    return "\n".join(line for line in kept if line)
