"""What a finished run leaves behind: record.json, predictions.parquet, validation.parquet, weights.safetensors."""

import hashlib
import json
import os
import platform
import subprocess
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Float, Int

from cellpatch.conditions import Condition
from cellpatch.publish import replacing, sha256_of

_LIBRARIES = [
    "torch",
    "torchvision",
    "pytorch-lightning",
    "timm",
    "kornia",
    "hydra-core",
    "torchmetrics",
    "scikit-learn",
    "numpy",
    "pandas",
]


PREDICTIONS, VALIDATION = "predictions.parquet", "validation.parquet"  # of test and of clean validation cells


def write_predictions(
    file: Path,
    cells: pd.DataFrame,
    labels: Int[np.ndarray, " n"],
    predicted: Mapping[Condition, Float[np.ndarray, "n classes"]],
    classes: Sequence[str],
) -> None:
    """One row a condition and cell; `probabilities` is a list in the order of the record's classes."""
    n = len(cells)
    tables = []
    for condition, probabilities in predicted.items():
        columns = {
            "cell_id": pa.array(cells["cell_id"], pa.string()),
            "specimen": pa.array(cells["specimen"].astype(str), pa.string()),
            "label": pa.DictionaryArray.from_arrays(pa.array(labels, pa.int32()), pa.array(classes, pa.string())),
            "kind": pa.array([condition.kind] * n, pa.string()),
            "sigma": pa.array([condition.sigma] * n, pa.float64()),
            "probabilities": pa.FixedSizeListArray.from_arrays(
                pa.array(probabilities.astype(np.float32).ravel()), len(classes)
            ),
        }
        tables.append(pa.table(columns))
    pq.write_table(pa.concat_tables(tables), file)


def read_predictions(run: Path, file: str = PREDICTIONS) -> tuple[pd.DataFrame, Float[np.ndarray, "n classes"]]:
    """The rows of a run less their probabilities, and those as one float32 array.

    `file` is PREDICTIONS, with all that later evaluations added, or VALIDATION. Reads the files that the record names:
    another may be what an evaluation left that was cut off. Raises ValueError if one of them is missing or altered.
    """
    files = read_record(run)["files"]
    names = [name for name in files if name.startswith(file.removesuffix(".parquet"))]
    check_files(run, {name: files[name] for name in names})
    few = ["specimen", "kind"]  # few values: read as such, they are compared and counted ten times as fast
    stored = pa.concat_tables([pq.read_table(run / name, read_dictionary=few) for name in names]).unify_dictionaries()
    column = stored["probabilities"].combine_chunks()
    probabilities = column.flatten().to_numpy().reshape(len(column), column.type.list_size)
    return stored.drop_columns(["probabilities"]).to_pandas(), probabilities


def predictions_by_condition(
    run: Path, file: str = PREDICTIONS
) -> dict[Condition, tuple[pd.DataFrame, Int[np.ndarray, " n"], Float[np.ndarray, "n classes"]]]:
    """The rows of each condition, their labels as places among the record's classes, and their probabilities."""
    code = {name: i for i, name in enumerate(read_record(run)["classes"])}
    rows, probabilities = read_predictions(run, file)
    labels = np.array([code[name] for name in rows["label"].cat.categories])[rows["label"].cat.codes]
    found = {}
    for kind, sigma in rows[["kind", "sigma"]].drop_duplicates().itertuples(index=False, name=None):
        here = ((rows["kind"] == kind) & (rows["sigma"] == sigma)).to_numpy()
        found[Condition(kind, sigma)] = (rows[here], labels[here], probabilities[here])
    return found


def add_evaluation(run: Path, write: Callable[[Path], None], metrics: Sequence[dict[str, Any]], seconds: float) -> None:
    """Add conditions to a finished run: first their predictions as a file of its own, then the record, each whole.

    What is cut off between the two leaves the record as it was; the file is written again next time.
    """
    record = read_record(run)
    number = sum(name.startswith("predictions") for name in record["files"])
    file = run / f"predictions-{number}.parquet"
    with replacing(file) as temporary:
        write(temporary)
    record["files"][file.name] = sha256_of(file)
    record["metrics"] += metrics
    record["seconds"]["evaluate"] += seconds
    replace_record(run, record)


def update_record(run: Path, **facts: Any) -> None:
    """Set top-level facts of a finished run's record; `runs.locked` keeps other processes from doing so meanwhile."""
    replace_record(run, read_record(run) | facts)


def replace_record(run: Path, record: dict[str, Any]) -> None:
    """Write the whole record of a finished run, with its checksum."""
    with replacing(run / "record.json") as temporary:
        temporary.write_text(seal(record), encoding="utf-8")


def read_record(run: Path) -> dict[str, Any]:
    """The record of a run; raises ValueError if it is missing, unreadable, or not as it was written."""
    try:
        text = (run / "record.json").read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise ValueError(f"{run}: record.json cannot be read ({error})") from error
    return unseal(text, f"{run}: record.json")


def seal(record: Mapping[str, Any]) -> str:
    """A record as JSON with its checksum."""
    return json.dumps({**record, "sha256": _digest(record)}, indent=1, ensure_ascii=False)


def unseal(text: str, where: str) -> dict[str, Any]:
    """The record of a sealed text; raises ValueError with `where` if it is not as it was written."""
    try:
        record = json.loads(text)
    except ValueError as error:
        raise ValueError(f"{where} cannot be read ({error})") from error
    if not isinstance(record, dict) or record.pop("sha256", None) != _digest(record):
        raise ValueError(f"{where} is not as this version wrote it: it was altered, or is of an older one")
    return record


def check_files(run: Path, files: Mapping[str, str] | None = None) -> None:
    """Raise ValueError if one of the record's files is missing or altered, or of some of them with their checksums."""
    for name, checksum in (read_record(run)["files"] if files is None else files).items():
        if not (run / name).is_file() or sha256_of(run / name) != checksum:
            raise ValueError(f"{run}: {name} is missing or not as the record says; the run cannot be used")


def write_record(folder: Path, facts: dict[str, Any]) -> None:
    """record.json with the given facts, checksums of the run's other files, and where it was made."""
    files = {file.name: sha256_of(file) for file in sorted(folder.iterdir()) if file.is_file()}
    record = facts | {"files": files, "hardware": hardware(), "versions": versions(), "git": git_state()}
    (folder / "record.json").write_text(seal(record), encoding="utf-8")


def _digest(record: Mapping[str, Any]) -> str:
    """Of the record's content, whatever the order of its keys: a slip of an editor is seen, a forger is not stopped."""
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()


def hardware() -> dict[str, Any]:
    """Processor, cores, threads, and the GPU if there is one."""
    import torch  # seconds and half a gigabyte, which who only reads runs does without

    names = [line.split(":", 1)[1].strip() for line in _cpuinfo() if line.startswith("model name")]
    return {
        "processor": names[0] if names else platform.processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }


def _cpuinfo() -> list[str]:
    file = Path("/proc/cpuinfo")
    return file.read_text(encoding="utf-8").splitlines() if file.exists() else []


def versions() -> dict[str, str | None]:
    """Of Python and the libraries that numbers depend on; None of one that is not installed, and so was not used."""
    return {"python": platform.python_version()} | {name: _version(name) for name in _LIBRARIES}


def _version(library: str) -> str | None:
    try:
        return metadata.version(library)
    except metadata.PackageNotFoundError:
        return None


@cache
def git_state() -> dict[str, Any] | None:
    """Commit of the checkout that holds this code and whether it was changed, when first asked; None outside git."""
    here = Path(__file__).parent

    def git(*arguments: str) -> str | None:
        command = ["git", "--no-optional-locks", "-C", str(here), *arguments]  # a kill would leave the index locked
        try:
            done = subprocess.run(command, capture_output=True, text=True)  # noqa: S603
        except FileNotFoundError:
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    commit = git("rev-parse", "HEAD")
    return None if commit is None else {"commit": commit, "dirty": bool(git("status", "--porcelain"))}
