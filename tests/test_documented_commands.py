"""Every command of README and docs/ in a real shell, in the order of its page, with small data in the reader's place.

A training command gets settings that shorten it, a grid of more than FEW runs lists them. `make test-commands` runs it.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from math import prod
from pathlib import Path

import pytest
import readers_data
from conftest import ROOT, SHARED
from hydra.core.override_parser.overrides_parser import OverridesParser
from test_commands_in_docs import PAGES, commands_of, values_of, words_of

from cellpatch.cli.overrides import prepare_overrides

pytestmark = pytest.mark.commands

FEW = 4
ENDONUKE, CHULA, WEIGHTS = SHARED / "data/endonuke_ihc", SHARED / "data/chula_rbc12", SHARED / "weights"
NOT_RUN = {  # and why
    r"^make (test|test-long|test-wheel|test-cluster)$": "a target of CI",
    r"test-commands$": "these tests",
    r"^cellpatch dashboard (?!--spec)": "needs an account at W&B; tests/test_dashboard.py",
    r"submitit_slurm|launcher=ray": "needs a cluster; make test-cluster",
    r"data=arrays": "the reader writes its source; tests/test_docs.py",
    r"tests/fuzz_records\.py": "takes long; tests/test_bad_runs.py does a part of it",
    r"next .*--earlier": "needs rounds of labelling; tests/test_next.py",
    r"studies/next_rounds\.py": "takes half an hour; tests/test_next.py has a part of it",
    r"studies/search\.py": "reads the runs of experiment=search; tests/test_search.py",
    r"^(cellpatch|python -m cellpatch\.)\s?(predict|latency|pack|diff|VERB)$": "a name in a sentence, without arguments",
    r"^make (data|NAME)$": "a name in a sentence",
}
# What stands for the reader's DIR and FILE; the first pattern that a command matches counts.
PLACES = {
    r"experiment=paper data=points data\.layout=viewer": ("viewer", ""),
    r"data\.layout=viewer": ("viewer", ""),
    r"weights_dir=DIR": (str(WEIGHTS), ""),
    r"model\.weights\.file=FILE": ("", str(WEIGHTS / "dinov2_vits14.safetensors")),
    r"data=endonuke": (str(ENDONUKE), ""),
    r"data=chula": (str(CHULA), ""),
    r"data\.points=FILE": ("points", "points.csv"),
    r"instances\.json": ("coco", ""),
    r"\*\.json": ("labelme", ""),
    r"\*\.xml": ("asap", ""),
    r"data\.specimens=patients": ("geojson", ""),
    r"\*\.geojson.*\(patient": ("by_patient", ""),
    r"\*\*/\*\.geojson": ("practice", ""),
    r"\*\.geojson": ("geojson", ""),
    r"data=folder": ("classes", ""),
    r"data=table": ("", "crop_table/cells.csv"),
    r"data=npz": ("", "arrays/cells.npz"),
}
# Each where it is read first: the pages use what the README made.
COMMANDS: dict[str, str] = {}
for _page in PAGES:
    for _command in commands_of(_page):
        COMMANDS.setdefault(_command, _page.stem)


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the checkout with the reader's data, and the run of the quickstart in `runs` and `runs/paper`."""
    folder = tmp_path_factory.mktemp("reader") / "checkout"
    listed = subprocess.run(
        ["git", "ls-files", "-coz", "--exclude-standard"], cwd=ROOT, capture_output=True, check=True
    )
    for name in listed.stdout.decode().split("\0"):
        if name and (ROOT / name).exists():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    (folder / ".venv").mkdir()
    for path in Path(sys.prefix).iterdir():
        if path.name != "installed":
            (folder / ".venv" / path.name).symlink_to(path)
    (folder / ".venv" / "installed").touch()  # else make would install the copy into the environment
    readers_data.write_all(folder)
    [train] = [command for command in commands_of(ROOT / "README.md") if "data.root=practice" in command]
    _in_shell(folder, train)
    [run] = (folder / "runs").glob("cnn-*")
    shutil.copytree(run, folder / "runs" / "paper" / run.name)
    return folder


@pytest.fixture
def tidied(workspace: Path) -> Iterator[Path]:
    """The workspace, whose `runs` loses the runs that a command trained there."""
    before = set((workspace / "runs").iterdir())
    yield workspace
    for path in set((workspace / "runs").iterdir()) - before:
        if (path / "record.json").exists():
            shutil.rmtree(path)


@pytest.mark.parametrize(("page", "command"), [(page, command) for command, page in COMMANDS.items()])
def test_it_runs(tidied: Path, page: str, command: str) -> None:
    reasons = [reason for pattern, reason in NOT_RUN.items() if re.search(pattern, command)]
    if reasons:
        pytest.skip(reasons[0])
    if "launcher=joblib" in command or "--launcher joblib" in command:
        pytest.importorskip("hydra_plugins.hydra_joblib_launcher", reason="needs cellpatch[joblib]; make test-cluster")
    if any(folder in command for folder in ("shared", "endonuke", "chula", "dinov2")) and not SHARED.exists():
        pytest.skip("needs ../shared")
    _in_shell(tidied, _filled(command, tidied) + _shortened(command))


def _in_shell(folder: Path, command: str) -> str:
    environment = {key: value for key, value in os.environ.items() if key != "VIRTUAL_ENV"} | {
        "PATH": f"{folder / '.venv' / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(folder),  # its files, not those of the editable install
        "OMP_NUM_THREADS": "1",
        "WANDB_MODE": "offline",
    }
    result = subprocess.run(
        ["bash", "-c", command], cwd=folder, env=environment, capture_output=True, text=True, timeout=1800, check=False
    )
    assert result.returncode == 0, f"{command}\n{result.stdout[-3000:]}\n{result.stderr[-3000:]}"
    return result.stdout


def _filled(command: str, folder: Path) -> str:
    """The command with what a reader writes in place of DIR, FILE, RUN and so on."""
    directory, file = next((place for pattern, place in PLACES.items() if re.search(pattern, command)), ("", "packed"))
    runs = [path for path in sorted((folder / "runs").glob("*")) if (path / "record.json").exists()]
    command = command.replace("RUN RUN", f"{runs[0]} {folder}/runs/paper/{runs[0].name}").replace("RUN ...", "RUN")
    values = {"DIR": directory, "FILE": file, "RUN": str(runs[0]), "RUNS": "runs", "RUNS_DIR": "runs"}
    values |= {"WEIGHTS": str(WEIGHTS), "NAME": "cnn"}
    command = re.sub(r"\b(RUNS_DIR|RUNS|RUN|DIR|FILE|WEIGHTS|NAME)\b(?!=)", lambda found: values[found[1]], command)
    if command == "cellpatch example practice":
        shutil.rmtree(folder / "practice")
    if re.fullmatch(r"make \w*(table|figure)\w*", command):
        command += " RUNS=experiments/results/endonuke.parquet"  # a name in a sentence of that page
    if "figure2" in command:  # needs the card of latency that the page on cost gave to the run of the quickstart
        command = command.replace("--limit 4096", "--limit 32")
    elif re.search(r"--(models|limit|sigma|adapt) ", command):
        command = command.replace(" runs ", " experiments/results/endonuke.parquet ")
        command = command.replace("--limit 4096", "--limit 1024")  # those runs are blurred at 1024 alone
    command = re.sub(r"(--where adapt\.lr)=\S+", r"\1=0.003", command)  # that of the quickstart
    return command.replace(" ...", " model=cnn flag_limit=8")


def _shortened(command: str) -> str:
    """Settings that make a training short; none for other commands."""
    words = words_of(command)
    starts = [i for i, word in enumerate(words[:2]) if word in ("train.py", "train")]
    if not starts or "--help" in words:
        return ""
    settings = prepare_overrides(words[starts[0] + 1 :])
    parsed = OverridesParser.create().parse_overrides([word for word in settings if word != "-m"])
    count = prod(len(values_of(each)) for each in parsed if each.is_sweep_override())
    if count > FEW or ("experiment=" in command and "experiment=quick" not in command):
        return " dry_run=true"
    shorter = " trainer.max_steps=2 trainer.accelerator=cpu"
    if "adapt=mim" in command or "adapt=distil" in command:
        shorter += " adapt.pretrain_updates=2"
    return shorter + (" data.cells=1500 data.specimens=12" if "data=" not in command else "")
