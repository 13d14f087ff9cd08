"""The README.txt of a project to practise on, and the command that trains on it."""

import shlex
from collections.abc import Mapping

_README = """\
SYNTHETIC cells to practise on
==============================

No photograph is in this folder: every image was rendered by cellpatch. A result on these cells is no
result about patients. They look like tissue stained for two membrane markers, one red and one green,
with a blue counterstain. Seed: {seed}.

Files
-----

patientN/                     one folder a patient; all its images go to one part of a split
patientN/patientN-a.png       an image, 512 x 512 px at 0.25 um/px (a 40x objective)
patientN/patientN-a.geojson   its annotations, as QuPath exports them (File > Export objects as GeoJSON)

An annotation file has three kinds of objects:

- cells: "objectType": "detection" with a class. They are trained on.
- cells without a class: nobody has classified them. cellpatch leaves them out and counts them.
- a region: "objectType": "annotation". It marks where cells were annotated. cellpatch leaves it out
  and counts it.

Cells by class:

{cells}

Train a small network (a minute or two on a laptop's CPU)
---------------------------------------------------------

{train}

What the settings mean:

data.points             which files hold the annotations, below data.root
data.specimen_pattern   where the patient stands in an image's path: here the first folder
data.image_um_per_px    the scale of the images, which a PNG file does not state
data.synthetic          marks every figure and table as SYNTHETIC
flag_limit              at most so many training cells of a class
adapt.updates           length of the training; the default is 3000

With your own images, change data.root and the scale, and leave data.synthetic out.
"""


def train_command(folder: str, *settings: str) -> str:
    """The command that trains a small network on the project in `folder`, as it is typed in a shell."""
    words = [
        "cellpatch",
        "train",
        "data=points",
        f"data.root={folder}",
        "data.points=*/*.geojson",
        'data.specimen_pattern="^([^/]+)/"',
        "data.image_um_per_px=0.25",
        "data.synthetic=true",
        "data.name=example",
        "model=cnn",
        "flag_limit=32",
        "adapt.updates=100",
        *settings,
    ]
    return shlex.join(words)


def readme(folder: str, seed: int, cells: Mapping[str, int]) -> str:
    """The text of README.txt."""
    table = "\n".join(f"{name:18} {count:5}" for name, count in cells.items())
    return _README.format(seed=seed, cells=table, train=train_command(folder))
