"""Classify new crops with a stored run.

python -m cellpatch.predict RUN SOURCE [--out predictions.csv] [--weights FILE]

SOURCE is an image, a folder (every image below it) or a CSV or Parquet table whose column `path` lies below the table's
folder. Images are crops as the run was trained on: of its side with its margin, at its scale.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from jaxtyping import UInt8

from cellpatch.data.files import decode
from cellpatch.data.folder import images_below
from cellpatch.data.images import SUFFIXES
from cellpatch.data.problems import Problems
from cellpatch.data.source import inside
from cellpatch.data.store import Geometry
from cellpatch.data.tables import read_table
from cellpatch.memory import cells_at_a_time, keep_freed_blocks
from cellpatch.network import Network, device_of, geometry_of, restore
from cellpatch.publish import replacing
from cellpatch.record import read_record

_TABLES = {".csv", ".tsv", ".parquet"}


def predict(run: Path, source: Path, weights_file: Path | None = None) -> pd.DataFrame:
    """One row an image: `path`, most probable `class`, its `probability`, and `p_CLASS` of every class.

    Raises one ValueError that lists every image that cannot be read or has another side, and for what `restore`
    refuses.
    """
    files = list_images(source)
    network, record = restore(run, weights_file), read_record(run)
    geometry = geometry_of(record)
    device = device_of(record["config"]["trainer"] | {"accelerator": "auto"})
    network.to(device)
    n = cells_at_a_time(record["config"]["model"]["backbone"]["input_px"], device)
    problems, chunk, parts = Problems(), [], []
    for i, rgb in decode(files, None, problems):
        if rgb.shape[0] != geometry.side_px:
            problems.add(f"{files[i][1]}: is {rgb.shape[0]} px wide; {run.name} takes {_told(geometry)}")
        elif not problems.messages:
            chunk.append(rgb)
        if len(chunk) == n:
            parts.append(probabilities_of(network, np.stack(chunk)))
            chunk = []
    problems.raise_if_any()
    if chunk:
        parts.append(probabilities_of(network, np.stack(chunk)))
    found = np.concatenate(parts)
    table = pd.DataFrame({"path": [name for _, name in files]})
    table["class"] = np.array(record["classes"])[found.argmax(axis=1)]
    table["probability"] = found.max(axis=1)
    return table.assign(**{f"p_{name}": found[:, code] for code, name in enumerate(record["classes"])})


@torch.inference_mode()
def probabilities_of(network: Network, crops: UInt8[np.ndarray, "b side side 3"]) -> np.ndarray:
    """Probabilities [b, classes] of stored crops, float32."""
    device = next(network.parameters()).device
    return network(torch.from_numpy(crops).to(device)).softmax(dim=1).cpu().numpy()


def list_images(source: Path) -> list[tuple[Path, str]]:
    """Files with what the output calls them; raises ValueError if there are none or `source` is something else."""
    if source.is_dir():
        files = [(file, file.relative_to(source).as_posix()) for file in images_below(source)]
        if not files:
            raise ValueError(f"{source}: holds no image; known are {', '.join(sorted(SUFFIXES))}")
        return files
    if source.suffix.lower() in _TABLES:
        rows = read_table(source, ["path"])
        return [
            (inside(source.parent, path, where), path) for path, where in zip(rows["path"], rows["where"], strict=True)
        ]
    if source.is_file() and source.suffix.lower() in SUFFIXES:
        return [(source, source.name)]
    raise ValueError(f"{source}: must be an image, a folder of images, or a table ({', '.join(sorted(_TABLES))})")


def _told(geometry: Geometry) -> str:
    margin = f", a margin of {geometry.margin_px} px on each side included" if geometry.margin_px else ""
    scale = f", at {geometry.um_per_px:g} um/px" if geometry.um_per_px else ""
    return f"{geometry.side_px} px{margin}{scale}"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m cellpatch.predict", description="Classify new crops with a run.")
    parser.add_argument("run", type=Path, help="a folder below runs_dir")
    parser.add_argument("source", type=Path, help="an image, a folder of images, or a table with a column `path`")
    parser.add_argument("--out", type=Path, default=Path("predictions.csv"))
    parser.add_argument("--weights", type=Path, help="where the published weights are now, if elsewhere than then")
    options = parser.parse_args(arguments)
    keep_freed_blocks()
    try:
        table = predict(options.run, options.source, options.weights)
    except ValueError as error:
        sys.exit(f"error: {error}")
    with replacing(options.out) as temporary:
        table.to_csv(temporary, index=False)
    print(f"{options.out}: {len(table)} cells, {table['class'].value_counts().to_dict()}")


if __name__ == "__main__":
    main()
