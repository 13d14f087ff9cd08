"""Mutated runs through the real readers: python tests/fuzz_records.py [--runs 600] [--seed 0].

Each case is a copy of two stored runs of 0.3.0 and of one of today, one of which is damaged in one or two ways: any
key of its record (removed, replaced, nested, renamed; components by import paths too), its predictions, its weights,
its files, or a packed file. Checksums are right again afterwards, as those of somebody who means it. Every command that
reads runs must then end by itself with a status, without a stack trace; nothing may be run or written outside the
folder of the case. A stack trace, a case that takes longer than LIMIT_S, and a file elsewhere are failures.
"""

import argparse
import contextlib
import copy
import io
import json
import logging
import os
import shutil
import signal
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from safetensors.numpy import load_file, save_file

ROOT = Path(__file__).parents[1]
WRITTEN = ROOT / "tests" / "fixtures" / "runs_0_3_0"
LIMIT_S = 180
TARGETS = (
    "os.system",
    "subprocess.call",
    "pathlib.Path.touch",
    "builtins.exec",
    "antigravity.x",
    "tests.fuzz_evil.Evil",
)
TEXTS = ("", "../../evil", "/etc/passwd", "a\x1b[31m", "\ud800", "x" * 5000, "nan", "1e999", "none", "train", "\u202e")
NUMBERS = (0, -1, 1, 10**9, 10**25, 2**63, 1e308, -0.0, float("nan"), float("inf"))


def _values(random: np.random.Generator) -> Any:
    """A value of any kind, most of them wrong anywhere."""
    kind = random.integers(0, 7)
    if kind == 0:
        return TEXTS[random.integers(len(TEXTS))]
    if kind == 1:
        return NUMBERS[random.integers(len(NUMBERS))]
    if kind == 2:
        return None
    if kind == 3:
        return [_values(random) for _ in range(random.integers(0, 3))]
    if kind == 4:
        return {"_target_": TARGETS[random.integers(len(TARGETS))], "_args_": ["touch evil"], "component": "evil"}
    if kind == 5:
        return bool(random.integers(2))
    deep: Any = "deep"
    for _ in range(int(random.choice([3, 60, 400, 3000]))):
        deep = {"a": deep} if random.integers(2) else [deep]
    return deep


def places(record: Any) -> Iterator[tuple[Any, Any]]:
    """Every key of every object and list, with what holds it; an earlier damage may have nested them deeply."""
    left = [record]
    while left:
        node = left.pop()
        for key in list(node) if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ():
            yield node, key
            left.append(node[key])


def _shown(value: object) -> str:
    """A value in a line; one that is nested deeper than Python can print, by its type."""
    try:
        return ascii(str(value)[:40])
    except RecursionError:
        return f"a deep {type(value).__name__}"


def mutate_json(record: dict[str, Any], random: np.random.Generator) -> str:
    """Damage one key of a record in place; what was done, in words. A place of the first levels is as likely as any."""
    found = list(places(record))
    if random.integers(2):
        found = [
            (holder, key) for holder, key in found if holder is record or any(holder is v for v in record.values())
        ]
    holder, key = found[random.integers(len(found))]
    way = random.integers(0, 5)
    if way == 0:
        del holder[key]
        return f"without {key}"
    if way == 1 and isinstance(holder, dict):
        holder[f"{key} "] = holder.pop(key)
        return f"renamed {key}"
    if way == 2 and isinstance(holder[key], list | dict | str | int | float):
        old = holder[key]
        scaled = old[:1] + old if isinstance(old, list) else old
        holder[key] = old * 1000 if isinstance(old, int | float) else scaled if isinstance(old, list) else [old]
        return f"changed {key}"
    if way == 3 and isinstance(holder, dict):
        holder["_target_"] = TARGETS[random.integers(len(TARGETS))]
        return f"_target_ beside {key}"
    holder[key] = _values(random)
    return f"replaced {key} by {_shown(holder[key])}"


def _seal(run: Path, record: dict[str, Any], restate: bool) -> None:
    """Write a record with its checksum; `restate` gives its files their present checksums."""
    from cellpatch.runs.record import seal
    from cellpatch.runtime.atomic_io import sha256_of

    if restate and isinstance(record.get("files"), dict):
        record["files"] |= {name: sha256_of(run / name) for name in record["files"] if (run / name).is_file()}
    try:
        text = seal(record)
        (run / "record.json").write_text(text, encoding="utf-8")
    except (RecursionError, UnicodeEncodeError):  # what Python itself cannot write: without a checksum then
        (run / "record.json").write_text(_deep_text(record), encoding="utf-8", errors="surrogatepass")


def _deep_text(record: dict[str, Any]) -> str:
    try:
        return json.dumps(record)
    except RecursionError:
        return '{"config":' * 5000


def mutate_record(run: Path, random: np.random.Generator) -> str:
    record = json.loads((run / "record.json").read_text(encoding="utf-8"))
    record.pop("sha256")
    done = [mutate_json(record, random) for _ in range(random.integers(1, 3))]
    _seal(run, record, restate=False)
    return ", ".join(done)


def mutate_bytes(file: Path, random: np.random.Generator) -> str:
    """Flip, cut or replace bytes of a file."""
    data = bytearray(file.read_bytes())
    way = random.integers(0, 4)
    if way == 0:
        del data[int(random.integers(0, len(data))) :]
    elif way == 1:
        data[:8] = int(random.choice([0, 1, 2**40, 2**62])).to_bytes(8, "little")
    elif way == 2:
        data = bytearray(random.bytes(int(random.integers(0, 300))))
    else:
        for place in random.integers(0, len(data), int(random.integers(1, 20))):
            data[place] = int(random.integers(256))
    file.write_bytes(data)
    return f"bytes of {file.name} ({way})"


def mutate_predictions(run: Path, random: np.random.Generator) -> str:
    """Other rows, columns, labels, classes or values in a file of predictions."""
    file = run / ("validation.parquet" if random.integers(4) == 0 else "predictions.parquet")
    if not file.exists():
        file = run / "predictions.parquet"
    table = pq.read_table(file)
    name = table.column_names[random.integers(len(table.column_names))]
    at, n = table.column_names.index(name), len(table)
    probabilities = np.stack(table["probabilities"].to_pylist()).astype(np.float32)
    ways: list[tuple[str, Callable[[], pa.Table]]] = [
        ("no rows", lambda: table.slice(0, 0)),
        (f"no {name}", lambda: table.drop_columns([name])),
        (f"null in {name}", lambda: table.set_column(at, name, pa.nulls(n, table.schema.field(name).type))),
        (f"numbers in {name}", lambda: table.set_column(at, name, pa.array(range(n)))),
        (f"texts in {name}", lambda: table.set_column(at, name, pa.array(["x"] * n))),
        ("a column more", lambda: table.append_column("more", pa.array(range(n)))),
        (f"renamed {name}", lambda: table.rename_columns([c if c != name else "other" for c in table.column_names])),
        ("half of the rows", lambda: table.slice(0, n // 2)),
        ("twice the rows", lambda: pa.concat_tables([table, table])),
    ]
    for words, other in (
        ("NaN", np.full_like(probabilities, np.nan)),
        ("infinite", np.full_like(probabilities, np.inf)),
        ("negative", -probabilities),
        ("no probabilities", probabilities * 7),
        ("a class fewer", probabilities[:, :-1]),
        ("no class", probabilities[:, :0]),
        ("a class more", np.pad(probabilities, ((0, 0), (0, 1)))),
    ):
        column = pa.FixedSizeListArray.from_arrays(pa.array(other.ravel()), other.shape[1]) if other.size else None
        column = pa.array([[]] * n, pa.list_(pa.float32())) if column is None else column
        index = table.column_names.index("probabilities")
        ways.append((words, lambda column=column, index=index: table.set_column(index, "probabilities", column)))
    words, make = ways[random.integers(len(ways))]
    pq.write_table(make(), file)
    return f"{file.name}: {words}"


def mutate_weights(run: Path, random: np.random.Generator) -> str:
    file = run / "weights.safetensors"
    if random.integers(2):
        return mutate_bytes(file, random)
    tensors = load_file(file)
    name = sorted(tensors)[random.integers(len(tensors))]
    way = random.integers(0, 5)
    if way == 0:
        del tensors[name]
    elif way == 1:
        tensors[name] = tensors[name].astype(np.int64)
    elif way == 2:
        tensors[name] = np.full_like(tensors[name], np.nan)
    elif way == 3:
        tensors[name] = np.zeros((3, 7), np.float32)
    else:
        tensors["more"] = np.zeros(4, np.float32)
    save_file(tensors, file)
    return f"tensor {name} ({way})"


def mutate_files(run: Path, random: np.random.Generator) -> str:
    """A file that is missing, a folder, a pipe, or a link to itself."""
    names = sorted(file.name for file in run.iterdir())
    file = run / names[random.integers(len(names))]
    file.unlink()
    way = random.integers(0, 4)
    if way == 1:
        file.mkdir()
    elif way == 2:
        os.mkfifo(file)
    elif way == 3:
        file.symlink_to(file.name)
    return f"{file.name} ({('gone', 'a folder', 'a pipe', 'a link to itself')[way]})"


def mutate_packed(file: Path, random: np.random.Generator) -> str:
    """Damage a packed file: its bytes, a record in it, or its columns."""
    from cellpatch.runs.record import seal

    if random.integers(4) == 0:
        return mutate_bytes(file, random)
    table = pq.read_table(file)
    rows = table.to_pylist()
    row = rows[random.integers(len(rows))]
    if random.integers(2):
        record = json.loads(row["record"])
        record.pop("sha256")
        words = mutate_json(record, random)
        with contextlib.suppress(RecursionError, UnicodeEncodeError):
            row["record"] = seal(record)
            row["record"].encode()
            pq.write_table(pa.Table.from_pylist(rows, table.schema), file)
        return f"packed record: {words}"
    count = row["counts"][random.integers(len(row["counts"]))]
    key = list(count)[random.integers(len(count))]
    if key in ("kind",):
        count[key] = [None, "evil", "none"][random.integers(3)]
    else:
        count[key] = [None, -1, 0, 30000, 1][random.integers(5)]
    if random.integers(3) == 0:
        name = list(row)[random.integers(len(row))]
        row[name] = None
    if random.integers(3) == 0:
        row["specimens"] = [["a", "a"], [], ["a", None], None][random.integers(4)]
    pq.write_table(pa.Table.from_pylist(rows, table.schema), file)
    return f"packed {key}"


def damage(place: Path, random: np.random.Generator) -> tuple[Path, str]:
    """Damage one run, or the packed file, of a case; the run, and what was done."""
    runs = sorted(each for each in (place / "runs").iterdir() if each.is_dir())
    run = runs[random.integers(len(runs))]
    way = random.choice(["record", "predictions", "weights", "files", "packed"], p=[0.5, 0.2, 0.12, 0.06, 0.12])
    if way == "packed":
        return run, mutate_packed(place / "packed.parquet", random)
    if way == "record":
        return run, f"{run.name}: {mutate_record(run, random)}"
    if way == "files":
        return run, f"{run.name}: {mutate_files(run, random)}"
    words = (mutate_predictions if way == "predictions" else mutate_weights)(run, random)
    record = json.loads((run / "record.json").read_text(encoding="utf-8"))
    record.pop("sha256")
    _seal(run, record, restate=True)
    return run, f"{run.name}: {words}"


def commands(place: Path, run: Path, random: np.random.Generator) -> list[tuple[str, Callable[[], object]]]:
    """What reads the runs of a case: its name and a call, as of the command line. Slow ones come in some cases only."""
    from cellpatch.analysis.results import read_results
    from cellpatch.api import load_run
    from cellpatch.cli import diff, pack, runs, verify, watch
    from cellpatch.inference.restore import restore

    folder, packed = str(place / "runs"), str(place / "packed.parquet")
    other = next(str(each) for each in sorted((place / "runs").iterdir()) if each != run)

    def packing() -> None:
        sys.argv = ["cellpatch pack", folder, str(place / "again.parquet")]
        pack.main()

    def network() -> None:
        with contextlib.suppress(ValueError):
            _ = load_run(run).metrics
            restore(run)

    found: list[tuple[str, Callable[[], object]]] = [
        ("verify", lambda: verify.main([folder])),
        ("runs", lambda: runs.main([folder, "--csv", str(place / "table.csv")])),
        ("runs of a packed file", lambda: runs.main([packed])),
        ("watch", lambda: watch.main([folder])),
        ("diff", lambda: diff.main([str(run), other])),
        ("pack", packing),
        ("results of a packed file", lambda: read_results(Path(packed))),
        ("restore", network),
    ]
    if random.integers(20) == 0:
        found += [(verb, lambda verb=verb: _script(place, verb)) for verb in ("figures", "tables", "report")]
    if random.integers(20) == 0:
        found += [
            (verb, lambda verb=verb: _deploy(place, run, verb)) for verb in ("features", "export", "latency", "predict")
        ]
    return found


def _script(place: Path, verb: str) -> None:
    from cellpatch.cli import experiments

    names = {"figures": ["figure_classes"], "tables": ["models_table"], "report": []}[verb]
    sys.argv = [f"cellpatch {verb}", str(place / "runs"), *names]
    getattr(experiments, verb)()


def _deploy(place: Path, run: Path, verb: str) -> None:
    from cellpatch.cli import export, features, predict
    from cellpatch.inference.latency import measure_run

    if verb == "features":
        features.main([str(run)])
    elif verb == "export":
        export.main([str(run)])
    elif verb == "latency":
        with contextlib.suppress(ValueError):  # the command does this in a process of its own
            measure_run(run, ["eager"], None, 0.01)
    else:
        predict.main([str(run), str(place)])


class TimeUpError(Exception):
    """A command took longer than LIMIT_S."""


def check(name: str, call: Callable[[], object]) -> str | None:
    """Do a command; why it failed the fuzz, None if it ended as a command ends."""

    def stop(*_: object) -> None:
        raise TimeUpError

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(LIMIT_S)
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()) as errors:
            call()
        words = errors.getvalue()
    except SystemExit as end:
        words = errors.getvalue() + str(end.code)
    except ValueError as error:  # of a Python function: a message for its caller
        words = str(error)
        if not words or name != "results of a packed file":
            return f"{name}: ValueError escaped: {traceback.format_exc()}"
    except BaseException:
        return f"{name}: {traceback.format_exc()}"
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
    return f"{name}: {words}" if "Traceback" in words else None


def snapshot(*folders: Path) -> set[Path]:
    """All paths below some folders."""
    return {path for folder in folders for path in folder.rglob("*")}


def make_world(folder: Path) -> Path:
    """The runs that are damaged, and their packed file."""
    from cellpatch.analysis.packed_results import pack
    from cellpatch.analysis.results import read_results

    world = folder / "world"
    for name in ("cnn-scratch-folder-4-s0", "efficientnet_lite0-linear_probe"):
        [run] = WRITTEN.glob(f"{name}-*")
        shutil.copytree(run, world / "runs" / run.name)
    today = make_run_of_today(folder)
    shutil.copytree(today, world / "runs" / today.name)
    pack(read_results(world / "runs"), world / "packed.parquet")
    return world


def make_run_of_today(folder: Path) -> Path:
    """A run with blur, another fault, an external cohort and test-time augmentation."""
    from conftest import config_of, run_of_squares, square_crop
    from PIL import Image

    from cellpatch.config.assemble_data import assemble_data
    from cellpatch.config.validate import check
    from cellpatch.data.dataset import open_store
    from cellpatch.inference.evaluate import CohortTask, evaluate_cohort
    from cellpatch.inference.turned import evaluate_turned
    from cellpatch.optics.conditions import CLEAN

    root, rng = folder / "today", np.random.default_rng(1)
    small = ("model=cnn", "model.backbone.input_px=16", "model.backbone.widths=[4]", "trainer.max_epochs=1")
    run = run_of_squares(root, *small, "optics.kind=post", "optics.sigma=1.6", "optics.faults.noise=[5]")
    for code, name in enumerate(("red", "green", "mud")):
        for i in range(6):
            file = root / "other" / name / f"o{i % 3}" / f"{i}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(square_crop(rng, code)).save(file)
    store = open_store(assemble_data(config_of(root, root / "other", "data.name=other", "data.um_per_px=0.5")))
    evaluate_cohort(run, CohortTask("other", store, {}, [CLEAN]), "cpu")
    evaluate_turned(run, check(config_of(root, root / "other"), "optics").build("optics"), "cpu")
    return run


def show(text: str) -> None:
    """Print at once, also into a file."""
    print(text, flush=True)


def fuzz(folder: Path, runs: int, seed: int, report: Callable[[str], None] = show) -> list[str]:
    """Do `runs` cases below a folder; the failures, each with its case."""
    world = make_world(folder)
    outside = folder / "outside"
    outside.mkdir()
    failures, ended = [], Counter[str]()
    home = Path.cwd()
    for number in range(runs):
        random = np.random.default_rng([seed, number])
        place = folder / "case"
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(world, place)
        run, words = damage(place, random)
        os.chdir(outside)
        argv, path, handlers = copy.copy(sys.argv), copy.copy(sys.path), logging.root.handlers[:]
        try:
            for name, call in commands(place, run, random):
                os.chdir(place if name in ("figures", "tables", "report", "export", "predict") else outside)
                found = check(name, call)
                ended["failed" if found else "ended"] += 1
                if found:
                    failures.append(f"case {number} ({words}): {found}")
                    report(failures[-1])
        finally:
            sys.argv, sys.path[:], logging.root.handlers[:] = argv, path, handlers
            os.chdir(home)
        written = [*snapshot(outside), *(each for each in folder.iterdir() if each.name not in KNOWN)]
        if written:
            failures.append(f"case {number} ({words}): wrote {written[:5]}")
            report(failures[-1])
    report(f"{runs} damaged cases, {ended.total()} commands: {len(failures)} failures")
    return failures


KNOWN = {"world", "today", "outside", "case"}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Damage stored runs and read them.")
    parser.add_argument("--runs", type=int, default=600)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    import torch

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        failures = fuzz(Path(folder).resolve(), options.runs, options.seed)
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
    main()
