"""The command `cellpatch`, its help, and the Python interface."""

import ast
import re
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from conftest import ROOT, config_of, start_python

from cellpatch import __version__
from cellpatch.cli import keys as keys_module
from cellpatch.cli.keys import GROUPS, keys
from cellpatch.cli.main import VERBS, main, verb_function
from cellpatch.cli.usage import usage
from cellpatch.config.schema import CONF
from cellpatch.runs import preview
from cellpatch.runtime.progress import format_seconds
from cellpatch.sweeps.train import train

CLI = ROOT / "cellpatch" / "cli"


def test_each_file_of_a_verb_is_among_the_verbs() -> None:
    with_main = {
        file.stem
        for file in CLI.glob("*.py")
        if any(isinstance(node, ast.FunctionDef) and node.name == "main" for node in ast.parse(file.read_text()).body)
    }
    assert with_main - {"main", "program"} == {source.partition(":")[0] for source, _ in VERBS.values()} - {
        "experiments"
    }


@pytest.mark.parametrize("verb", VERBS)
def test_help_of_a_verb_names_it(
    verb: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["cellpatch"])
    monkeypatch.setattr(sys, "path", list(sys.path))
    with suppress(SystemExit):  # argparse's
        main([verb, "--help"])
    shown = capsys.readouterr().out
    assert re.search(rf"usage: cellpatch (figures\|)?{verb}", shown.replace("figures|tables", f"{verb}"))
    assert len(shown.splitlines()) > 5


def test_every_figure_and_table_explains_itself() -> None:
    for file in [*(ROOT / "experiments/figures").glob("*.py"), *(ROOT / "experiments/tables").glob("*.py")]:
        text = ast.get_docstring(ast.parse(file.read_text())) or ""
        verb = file.parent.name
        assert f"cellpatch {verb} runs {file.stem}" in text, file
    figure = start_python(str(ROOT / "experiments" / "figures" / "figure3.py"), "--help")
    assert "Does macro-F1 grow with annotations" in figure.communicate()[0]


def test_verbs_are_explained(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--help"])
    shown = capsys.readouterr().out
    assert all(f"  {verb} " in shown for verb in VERBS)
    main(["--version"])
    assert capsys.readouterr().out == f"cellpatch {__version__}\n"


def test_an_unknown_verb_names_a_close_one() -> None:
    with pytest.raises(SystemExit, match="error: unknown verb prediction; did you mean cellpatch predict"):
        main(["prediction"])
    with pytest.raises(SystemExit, match="cellpatch --help lists the verbs"):
        main(["xyz"])


def test_help_of_training_explains_each_key() -> None:
    text = usage(CONF)
    shown = set(re.findall(r"^  ([\w.]+(?:=\w+)?)(?: |$)", text, re.M))
    for group in GROUPS:
        explained = keys(CONF, group)
        assert explained, group
        assert {key.name for key in explained} <= shown
        assert all(key.comment for key in explained)
        assert {f"{group}={file.stem}" for file in (CONF / group).glob("*.yaml")} <= shown
    assert max(map(len, text.splitlines())) <= 100


def test_a_key_without_explanation_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "adapt"
    folder.mkdir()
    (folder / "one.yaml").write_text("lr: 1 # the highest\ndepth:\n  blocks: 2 # how many\n")
    (folder / "two.yaml").write_text("lr: 2\n")
    (folder / "three.yaml").write_text("defaults:\n  - one\nlr: 3 # ours\n")
    assert keys(tmp_path, "adapt") == [
        keys_module.Key("adapt.lr", "the highest", []),
        keys_module.Key("adapt.depth.blocks", "how many", ["one", "three"]),
    ]
    (folder / "four.yaml").write_text("rank: 4\n")
    with pytest.raises(ValueError, match="adapt.rank of four: needs a comment; others have none"):
        keys(tmp_path, "adapt")


def test_importing_cellpatch_costs_nothing() -> None:
    program = "import sys, time; start = time.perf_counter(); import cellpatch; print(time.perf_counter() - start)"
    program += "; print({'torch', 'pandas', 'numpy', 'hydra'} & set(sys.modules))"
    seconds, heavy = start_python("-c", program).communicate()[0].splitlines()
    assert heavy == "set()"
    assert float(seconds) < 0.3


def test_the_installed_command_is_this_one() -> None:
    command = Path(sys.executable).with_name("cellpatch")
    result = subprocess.run([command, "--version"], capture_output=True, text=True, check=True)
    assert result.stdout == f"cellpatch {__version__}\n"


def test_verbs_are_functions() -> None:
    assert all(callable(verb_function(verb)) for verb in VERBS)


def test_a_training_begins_with_one_screen(
    tmp_path: Path,
    folder_of_squares: Callable[..., Path],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    small = ["model=cnn", "model.backbone.input_px=16", "model.backbone.widths=[8,16]", "optics.via_px=null"]
    small += ["adapt.updates=4", "adapt.min_epochs=0", "adapt.batch_size=8", "adapt.validations=2", "flag_limit=4"]
    train(config_of(tmp_path, folder_of_squares(20, 5), *small))
    shown = re.sub(r"[│┃]", "|", capsys.readouterr().out)
    rows = re.findall(r"^\| ([\w ]+?) +\| +(\w+) \| +(\w+) \| +(\w+) \|$", shown, re.M)
    first = ("class", "train", "validation", "test")
    each = [(name, "4", "4", "4") for name in ("blue", "green", "red")]
    assert rows[:6] == [first, *each, ("all cells", "12", "12", "12"), ("specimens", "3", "1", "1")]
    [run] = (tmp_path / "runs").glob("cnn-*")
    assert f"cells: 60 of 3 classes, in {next((tmp_path / 'stores').glob('folder-*[!k]'))}" in shown
    assert "model: cnn by scratch, 0.00434 M parameters, input 16 px" in shown
    assert "training: 4 updates of 8 cells (2 passes), validated 2 times; ends after 15 validations" in shown
    assert f"will be stored in {run}" in shown
    assert "12 test cells of 1 specimen are few, so models may differ by chance" in shown.replace("\n", " ")
    assert "flag_limit: no class" not in shown
    train(config_of(tmp_path, tmp_path / "cells", *small[:-1], "flag_limit=500", "adapt.updates=2"))
    shown = capsys.readouterr().out
    words = "flag_limit: no class has 500 training cells, so every limit from 12 on trains on the same cells"
    assert words in shown
    assert "precision:" not in shown
    for fast in (True, False):
        monkeypatch.setattr(preview, "has_fast_bfloat16", lambda fast=fast: fast)
        bf16 = ["trainer.precision=bf16-mixed", "adapt.updates=1", f"seed={int(fast)}"]
        train(config_of(tmp_path, tmp_path / "cells", *small, *bf16))
        assert ("precision: this CPU has no fast bf16" in capsys.readouterr().out) is not fast


def test_the_time_left_is_in_words() -> None:
    assert [format_seconds(s) for s in (0, 89.4, 91, 5399, 5401, 36000)] == [
        *("0 s", "89 s", "2 min", "90 min", "1.5 h", "10.0 h")
    ]


COMPLETED = {
    "cellpatch pre": "prepare predict",
    "cellpatch train model=cust": "model=customvit model=customvit_s",
    "cellpatch train -m flag": "flag_limit=",
    "cellpatch prepare data=end": "data=endonuke",
    "cellpatch figures ru": "",
}


@pytest.mark.long
def test_a_shell_completes_verbs_and_settings(tmp_path: Path) -> None:
    """A real bash, with the line of docs/grids.md."""
    [line] = re.findall(r"^eval .*", (ROOT / "docs" / "grids.md").read_text(), re.M)
    script = [f'export PATH="{Path(sys.executable).parent}:$PATH"', line]
    for typed in COMPLETED:
        script += [f'COMP_LINE="{typed}"; COMP_POINT={len(typed)}; read -ra COMP_WORDS <<< "$COMP_LINE"']
        script += ["COMP_CWORD=$(( ${#COMP_WORDS[@]} - 1 )); COMPREPLY=(); hydra_bash_completion"]
        script += ['echo "${COMPREPLY[*]}"']
    result = subprocess.run(
        ["bash", "-c", "\n".join(script)], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert result.stdout.splitlines() == list(COMPLETED.values()), result.stderr
