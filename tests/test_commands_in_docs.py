"""Every command that README and docs/ show: settings compose, options parse, targets and files exist."""

import argparse
import re
import shlex
import sys
from collections.abc import Callable
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override

from cellpatch.cli import main
from cellpatch.cli.overrides import prepare_overrides
from cellpatch.config.schema import compose_config
from cellpatch.config.validate import check

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
_BLOCK = re.compile(r"^[ \t]*```\w*\n(.*?)^[ \t]*```", re.S | re.M)
_VARIABLE = re.compile(r"^[A-Z_]+=\S+ ")  # OMP_NUM_THREADS=1 python ...
_PLACES = {"DIR": ".", "FILE": "f.csv", "WEIGHTS": ".", "NAME": "cnn"}  # what a reader fills in


def commands_of(page: Path) -> list[str]:
    """The shell commands of a page's blocks and of its inline code, one a line, without comments."""
    text = page.read_text(encoding="utf-8")
    blocks = [block for block in _BLOCK.findall(text) if "<<'END'" not in block]
    inline = [" ".join(code.split()) for code in re.findall(r"`([^`]+)`", _BLOCK.sub("", text))]
    lines = [line.strip() for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    parts = chain.from_iterable(line.split(" && ") for line in [*lines, *inline])
    commands = [_VARIABLE.sub("", re.sub(r"(^|\s)#.*$", "", part).strip()) for part in parts]
    return [command for command in commands if re.match(r"(python|cellpatch|make|ruff|mypy) \S", command)]


COMMANDS = sorted({command for page in PAGES for command in commands_of(page)})


def _starting_with(*starts: str) -> list[str]:
    return [command for command in COMMANDS if command.startswith(starts)]


def words_of(command: str) -> list[str]:
    """A command's words as a shell splits them, with something in place of what a reader fills in."""
    filled = re.sub(rf"\b({'|'.join(_PLACES)})\b", lambda found: _PLACES[found[1]], command)
    return [word for word in shlex.split(filled) if word != "..."]


def values_of(override: Override) -> list[str]:
    """The values of an axis; of an interval both ends."""
    value: Any = override.value()
    if isinstance(value, IntervalSweep):
        return [str(value.start), str(value.end)]
    return list(override.sweep_string_iterator())


def _single_runs(words: list[str]) -> list[list[str]]:
    """The settings of single runs that together have every value of a grid's axes."""
    parsed = OverridesParser.create().parse_overrides(words)
    values: list[list[Any]] = [values_of(each) if each.is_sweep_override() else [None] for each in parsed]
    count = max(map(len, values), default=1)
    return [
        [
            word if choices == [None] else f"{override.get_key_element()}={choices[i % len(choices)]}"
            for word, override, choices in zip(words, parsed, values, strict=True)
        ]
        for i in range(count)
    ]


_OF_THE_READER = "data=arrays"  # a source that a recipe lets the reader write: tests/test_docs.py trains on it
TRAINING = [
    command
    for command in _starting_with("python train.py", "cellpatch train ", "cellpatch prepare ")
    if _OF_THE_READER not in command and not command.endswith("--help")
]


def test_there_are_commands_to_check() -> None:
    assert len(TRAINING) > 50
    assert "cellpatch train -m model=cnn flag_limit=32,128 optics=blur" in TRAINING, "of a block"
    assert "cellpatch train -m experiment=search data=endonuke data.root=DIR" in TRAINING, "of inline code"
    assert any("data.um_per_px=0.5" in command and "runs_dir=runs/blur" in command for command in TRAINING), "of lines"


@pytest.mark.parametrize("command", TRAINING)
def test_its_settings_compose_and_are_of_the_right_types(command: str) -> None:
    words = words_of(command)
    start = next(i for i, word in enumerate(words) if word in ("train.py", "train", "prepare"))
    settings = [word for word in prepare_overrides(words[start + 1 :]) if word not in ("-m", "--multirun")]
    if any(word.startswith("hydra/launcher=") for word in settings):  # a plugin that need not be installed here
        [launcher] = [word.partition("=")[2] for word in settings if word.startswith("hydra/launcher=")]
        assert (ROOT / "conf" / "hydra" / "launcher" / f"{launcher}.yaml").exists()
        settings = [word for word in settings if not word.startswith(("hydra/launcher", "hydra.launcher"))]
    for single in _single_runs(settings):
        check(compose_config(single))


class _ParsedError(Exception):
    """The arguments of a command were parsed; nothing is done with them."""


VERBS = [command for command in _starting_with("cellpatch ") if command not in TRAINING]


def _only(parse: Callable[..., object]) -> Callable[..., None]:
    """A parser's method after which the command ends."""

    def parse_alone(parser: argparse.ArgumentParser, *given: Any, **named: Any) -> None:
        parse(parser, *given, **named)
        raise _ParsedError

    return parse_alone


@pytest.mark.parametrize("command", VERBS)
def test_its_verb_exists_and_takes_its_arguments(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    verb, *arguments = words_of(command)[1:]
    if verb in ("VERB", "--version", "--help") or _OF_THE_READER in command:
        return
    assert verb in main.VERBS
    if not arguments or "--help" in arguments:
        return  # the text names the command
    for name in ("parse_args", "parse_intermixed_args"):
        monkeypatch.setattr(argparse.ArgumentParser, name, _only(getattr(argparse.ArgumentParser, name)))
    monkeypatch.setattr(sys, "path", list(sys.path))
    with pytest.raises(_ParsedError):
        main.main([verb, *arguments])


@pytest.mark.parametrize("command", _starting_with("make "))
def test_its_targets_exist(command: str) -> None:
    text = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^([\w-]+)(?: [\w-]+)*:", text, re.M)) | {"tables"}
    targets |= {file.stem for kind in ("figures", "tables") for file in (ROOT / "experiments" / kind).glob("*.py")}
    assert {word for word in command.split()[1:] if "=" not in word} - {"NAME"} <= targets


@pytest.mark.parametrize("command", _starting_with("python experiments", "python benchmarks", "python -m pytest"))
def test_its_files_exist(command: str) -> None:
    files = [word for word in words_of(command) if word.endswith(".py")]
    assert files
    assert [name for name in files if not (ROOT / name).exists()] == []
    [chosen] = re.findall(r'-k "?(\w+)', command) or [None]
    assert chosen is None or re.search(rf"def test_\w*{chosen}", (ROOT / files[0]).read_text())
