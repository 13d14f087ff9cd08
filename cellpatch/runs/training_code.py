"""Which code trains: a number that is raised when trained bits change, and a fingerprint of the source files."""

import hashlib
import io
import re
import tokenize
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

from cellpatch.runs.record import Record, TrainingCode

# Raise it whenever trained weights change for equal settings: the golden losses in tests/test_training.py hold it.
# 1: the bits of cellpatch 0.3.0.
TRAINING_CODE = 1
# Trainings by gradients with an augmentation whose own draws changed.
# albumentations 2: a batch's draws depend on its number too. Before, batches of one cell drew the same in every pass.
OF_AUGMENTATION = {"albumentations": 2}
_PACKAGE = Path(__file__).parents[1]


def training_code(own: Iterable[type], shared: Iterable[type]) -> TrainingCode:
    """The number and fingerprints of the code that trains with these classes.

    `own` are of a run (backbone, adaptation, augmentation), `shared` of all runs of its kind (fit, data). A fingerprint
    covers the modules of the classes and all modules of cellpatch that they import, directly or not.
    """
    of_all = {each.__module__ for each in shared}
    of_run = of_all | {each.__module__ for each in own}
    whole, common = (_fingerprint(tuple(sorted(modules))) for modules in (of_run, of_all))
    return TrainingCode(TRAINING_CODE, whole, common)


def is_mixed(records: Iterable[Record]) -> bool:
    """Whether runs are known to be of more than one training code, whatever their models are."""
    codes: dict[tuple[str, ...], set[object]] = {}
    for record in records:
        code, settings = record.training_code, record.settings
        kind = "probe" if settings.is_probe else "gradients"
        augment: Any = settings.config.get("augment") or {}
        drawn_by = str(augment.get("component"))  # augmentations have numbers of their own
        codes.setdefault(("number", drawn_by), set()).add(None if code is None else code.number)
        codes.setdefault(("own", settings.model.name, settings.adapt.name), set()).add(code)
        if code is not None and code.shared is not None:
            codes.setdefault(("shared", kind), set()).add(code.shared)
    return any(len(values) > 1 for values in codes.values())


@lru_cache(maxsize=64)  # the code that is loaded does not change while a grid runs
def _fingerprint(modules: tuple[str, ...]) -> str:
    digest = hashlib.sha256()
    for module, source in sorted(imported_sources(modules).items()):
        digest.update(f"{module}\n{source}\0".encode())
    return digest.hexdigest()[:16]


def imported_sources(modules: Iterable[str]) -> dict[str, str]:
    """These modules and everything of cellpatch that they import, each with its `statements`."""
    sources: dict[str, str] = {}
    pending = list(modules)
    while pending:
        module = pending.pop()
        file = _file_of(module)
        if module not in sources and file is not None:
            sources[module] = statements(file.read_text(encoding="utf-8"))
            pending += _imported(sources[module])
    return sources


def statements(source: str) -> str:
    """Python source without comments, docstrings and blank lines: the same under every version of Python."""
    lines = source.splitlines()
    starts = True  # of a statement: a string there is a docstring
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        row, column = token.start
        if token.type == tokenize.COMMENT:
            lines[row - 1] = lines[row - 1][:column]
        elif token.type == tokenize.STRING and starts:
            lines[row - 1 : token.end[0]] = [""] * (token.end[0] - row + 1)
        if token.type not in (tokenize.COMMENT, tokenize.NL):
            starts = token.type in (tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT)
    return "\n".join(line.rstrip() for line in lines if line.strip())


def _imported(source: str) -> Iterator[str]:
    """Modules of cellpatch that a source imports; names of classes and functions are among them."""
    yield from re.findall(rf"^ *import ({_PACKAGE.name}[\w.]*)", source, re.M)
    for parent, names in re.findall(rf"^ *from ({_PACKAGE.name}[\w.]*) import (\([^)]*\)|.*)", source, re.M):
        yield parent
        yield from (f"{parent}.{name}" for name in re.findall(r"\w+", names))


def _file_of(module: str) -> Path | None:
    """The file of a module of cellpatch; None for anything else."""
    package, *parts = module.split(".")
    if package != _PACKAGE.name:
        return None
    path = _PACKAGE.joinpath(*parts)
    files = (path.with_suffix(".py"), path / "__init__.py")
    return next((file for file in files if file.is_file()), None)
