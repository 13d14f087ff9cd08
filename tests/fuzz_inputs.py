"""Feed spoilt inputs and hostile settings to commands: python tests/fuzz_inputs.py --runs 600 --seed 0

Every run is a forked process with limits: seconds, memory, and an audit of what it writes and starts. A run holds if
the command ends well, or with one message that names a file, a key or an option.
"""

import argparse
import json
import os
import random
import re
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
import unicodedata
from collections import Counter
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from conftest import run_of_squares
from hostile_inputs import SOURCES, Case, class_folder, spoil
from omegaconf import OmegaConf

from cellpatch.cli.predict import main as predict
from cellpatch.cli.prepare import main as prepare
from cellpatch.cli.train import main as train
from cellpatch.config.schema import compose_config

SECONDS, MEMORY = 40, 3 * 2**30  # of a run; memory beside what the interpreter holds
COMMANDS: dict[str, Any] = {"prepare": prepare, "predict": predict, "train": train}
_NUMBERS = ["0", "-1", "1", "2", "1e9", "1000000000", "1e30", "nan", "inf", "-inf", "1e-300", "0.5", "-0.5", "1e300"]
_OTHERS = ["null", "true", "''", "' '", "[]", "{}", "[1,nan]", "[inf,1]", "[[1]]", "[-1]", "[1e9]", "../../x"]
_OTHERS += ['"${oc.env:HOME}"', '"${data}"', "x" * 300, '"\x1b[31m"', '"a\nb"', "/dev/null", "{a:1}", '"=1"', '"("']
_TRAINED = [
    "trainer.max_steps=2",
    "adapt.updates=2",
    "model=cnn",
    "model.backbone.widths=[4,8]",
    "trainer.accelerator=cpu",
]
_KEY = re.compile(
    r"--[a-z-]+|\b(data|model|adapt|optics|augment|trainer|logger|flag_limit|seed|runs_dir|hydra|weights_dir)\b"
)


_PROBE = re.compile(rf"{tempfile.gettempdir()}/[a-z0-9_]{{8}}")  # by tempfile, whether it can write there


@dataclass(frozen=True)
class Result:
    """How a run ended: `ok`, `refused`, or what is wrong; with the text that it printed last."""

    kind: str
    text: str
    arguments: str


def settings_case(rng: random.Random, folder: Path, leaves: dict[str, Any]) -> Case:
    """A small training, or what it would be, with one to three hostile values."""
    cells = class_folder(rng, folder)
    chosen = rng.sample(sorted(leaves), rng.choice([1, 1, 2, 3]))
    hostile = []
    for key in chosen:
        is_number = type(leaves[key]) in (int, float)
        hostile.append(f"{key}={rng.choice(_NUMBERS if is_number and rng.random() < 0.8 else _NUMBERS + _OTHERS)}")
    verb = rng.choice(["train", "train", "prepare"])
    mode = ["dry_run=true"] if verb == "train" and rng.random() < 0.5 else []
    return Case(verb, [*cells.arguments, *(_TRAINED if verb == "train" else []), *mode, *hostile], [])


def make_case(rng: random.Random, folder: Path, run: Path, leaves: dict[str, Any]) -> Case:
    """A command, its inputs below `folder`."""
    if rng.random() < 0.25:
        case = settings_case(rng, folder, leaves)
    else:
        case = rng.choice(SOURCES)(rng, folder)
        for _ in range(rng.choice([0, 1, 1, 2])):
            files = [file for file in case.files if file.is_file() and not file.is_symlink()]
            if files:
                spoil(rng, rng.choice(files))
    if case.verb == "predict":
        return Case(case.verb, [str(run), *case.arguments, "--out", f"out{rng.choice(['.csv', '.parquet'])}"], [])
    fixed = ["data.loading.store_dir=stores", "data.loading.embeddings_dir=embeddings", "logger=none", "runs_dir=runs"]
    given = {each.partition("=")[0] for each in case.arguments}
    return Case(case.verb, [each for each in fixed if each.partition("=")[0] not in given] + case.arguments, [])


def run_case(case: Case, folder: Path) -> Result:
    """Do a command in a forked process, in `folder`."""
    report = folder.with_suffix(".json")
    child = os.fork()
    if child == 0:
        _limited(case, folder, report)
    _, status = os.waitpid(child, 0)
    shown = f"{case.verb} " + " ".join(map(repr, case.arguments))
    if os.WIFSIGNALED(status):
        name = signal.Signals(os.WTERMSIG(status)).name
        return Result("hang" if name == "SIGALRM" else f"killed by {name}", "", shown)
    if not report.exists():
        return Result(f"no report, status {os.waitstatus_to_exitcode(status)}", "", shown)
    return Result(*json.loads(report.read_text()), shown)


def _limited(case: Case, folder: Path, report: Path) -> None:
    """The forked process: limits, the command, what became of it."""
    os.chdir(folder)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**30, 2**30))
    seen: list[str] = []
    allowed = (str(folder), str(report), "/dev/null", "/dev/shm")  # noqa: S108 (what is watched)
    with Path("screen.txt").open("w", encoding="utf-8", errors="surrogateescape") as screen:
        sys.addaudithook(lambda event, values: _audit(event, values, allowed, seen))
        signal.alarm(SECONDS)
        with redirect_stdout(screen), redirect_stderr(screen):
            kind, text = _outcome(case)
    shown = Path("screen.txt").read_text(encoding="utf-8", errors="surrogateescape") + text
    control = {c for c in shown if unicodedata.category(c) == "Cc" and c not in "\n\t\r"}
    if kind in ("ok", "refused") and seen:
        kind, text = "forbidden", "\n".join(seen)
    elif kind in ("ok", "refused") and control:
        kind = f"control characters {sorted(control)!r} on the screen"
    report.write_text(json.dumps([kind, text]))
    os._exit(0)


def _outcome(case: Case) -> tuple[str, str]:
    try:
        COMMANDS[case.verb](case.arguments)
    except SystemExit as end:
        text = str(end.code)
        if end.code in (0, None):
            return "ok", ""
        if end.code == 2:
            return "refused", "usage"
        names = {part for each in case.arguments for part in re.split(r"[=/]", each) if len(part) > 2}
        names |= {os.fsdecode(each.name) for each in Path().rglob("*")} - {"screen.txt"}
        named = bool(_KEY.search(text)) or any(name in text for name in names)
        return ("refused" if text.startswith("error: ") and named else "a message that names nothing"), text
    except BaseException:
        return "stack trace", traceback.format_exc()
    return "ok", ""


def _audit(event: str, values: tuple[Any, ...], allowed: tuple[str, ...], seen: list[str]) -> None:
    """Note what a command writes outside its folder, and whatever it starts."""
    if event in ("os.system", "os.exec", "subprocess.Popen", "os.posix_spawn", "pickle.find_class", "os.spawn"):
        text = " ".join(map(str, values))
        if not text.startswith(("git", "['git", "lscpu")) and "git" not in text[:20]:
            seen.append(f"{event} {text[:200]}")
    if event == "open" and isinstance(values[0], str | bytes) and isinstance(values[2], int):
        path = os.path.abspath(os.fsdecode(values[0]))  # noqa: PTH100 (links are kept)
        if (
            values[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
            and not path.startswith(allowed)
            and not _PROBE.fullmatch(path)
        ):
            seen.append(f"writes {path}")


def leaves_of(config: Any, path: str = "") -> dict[str, Any]:
    """The values of a config by their dotted keys."""
    found: dict[str, Any] = {}
    for key, value in config.items():
        at = f"{path}.{key}" if path else str(key)
        if isinstance(value, dict):
            found |= leaves_of(value, at)
        elif key != "_target_":
            found[at] = value
    return found


def fuzz(runs: int, seed: int, folder: Path) -> list[Result]:
    """The results of seeded runs, in order; each run's inputs follow from the seed and its number."""
    torch.set_num_threads(1)
    run = run_of_squares(folder / "model", "model=cnn", "model.backbone.widths=[4,8]", "trainer.max_steps=2")
    leaves: dict[str, Any] = {}
    for data in ("folder", "folder augment=none optics=blur"):
        config = compose_config([f"data={data.split()[0]}", "data.root=.", "model=cnn", *data.split()[1:]])
        leaves |= leaves_of(OmegaConf.to_container(config))
    results = []
    for number in range(runs):
        rng = random.Random(f"{seed}-{number}")  # noqa: S311 (no secret)
        own = folder / f"run{number}" / "work"
        own.mkdir(parents=True)
        case = make_case(rng, own, run, leaves)
        started = time.perf_counter()
        result = run_case(case, own)
        if result.kind not in ("ok", "refused"):
            print(
                f"--- run {number}: {result.kind} ({time.perf_counter() - started:.1f} s)\n{result.arguments}\n{result.text}"
            )
        results.append(result)
        if result.kind in ("ok", "refused"):
            shutil.rmtree(own.parent, ignore_errors=True)
    return results


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=600)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="folder that keeps the inputs of runs that do not hold")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        results = fuzz(options.runs, options.seed, options.keep or Path(folder))
    counts = Counter(result.kind for result in results)
    print(", ".join(f"{count} {kind}" for kind, count in counts.most_common()))
    sys.exit(int(set(counts) - {"ok", "refused"} != set()))


if __name__ == "__main__":
    main()
