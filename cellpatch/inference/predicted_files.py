"""Predictions as files: tables, QuPath's GeoJSON, AnnData."""

import gzip
import importlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cellpatch.data.annotations.features import Features
from cellpatch.data.annotations.geojson import class_of, features_of
from cellpatch.inference.predict import Prediction
from cellpatch.runtime.atomic_io import atomic_write
from cellpatch.runtime.json_types import Json
from cellpatch.runtime.spreadsheet import csv_text


def write_prediction(prediction: Prediction, file: Path) -> None:
    """Write a prediction in the format that the file's name asks for; raises ValueError if there is none."""
    check_format(file)
    with atomic_write(file) as temporary:
        _WRITERS[format_of(file)](prediction, temporary)


def check_format(file: Path) -> None:
    """Raise ValueError if predictions are not written in the format of a file's name."""
    if format_of(file) not in FORMATS:
        raise ValueError(f"--out must end with {', '.join(FORMATS)}, but got {file.name}")


def format_of(file: Path) -> str:
    """The end of a file's name that states its format, such as .csv or .geojson.gz."""
    suffixes = [suffix.lower() for suffix in file.suffixes]
    return "".join(suffixes[-2:]) if suffixes[-1:] == [".gz"] else "".join(suffixes[-1:])


def _write_csv(prediction: Prediction, file: Path) -> None:
    file.write_text(csv_text(prediction.table()), encoding="utf-8")


def _write_tsv(prediction: Prediction, file: Path) -> None:
    file.write_text(csv_text(prediction.table(), "\t"), encoding="utf-8")


def _write_parquet(prediction: Prediction, file: Path) -> None:
    table, index = prediction.table(), prediction.cells.index
    if index is not None and index.names != [None]:
        table = table.set_index(list(index.names))
    elif index is not None:
        table.index = index
    table.to_parquet(file)


def _write_geojson(prediction: Prediction, file: Path) -> None:
    with file.open("w", encoding="utf-8") as stream:
        stream.writelines(_geojson_text(prediction))


def _write_geojson_gz(prediction: Prediction, file: Path) -> None:
    with file.open("wb") as raw, gzip.GzipFile("", "wb", fileobj=raw, mtime=0) as stream:
        stream.writelines(text.encode() for text in _geojson_text(prediction))


def _geojson_text(prediction: Prediction) -> Iterator[str]:
    """JSON feature by feature: the text of a million is half a gigabyte."""
    dump = partial(json.dumps, ensure_ascii=False, allow_nan=False)
    source = prediction.cells.document
    features = predicted_features(prediction)
    if isinstance(source, dict):  # one feature, not a collection
        yield dump(next(features))
        return
    members = source.members if isinstance(source, Features) else {"type": "FeatureCollection"}
    begin, end = ("[", "]") if members is None else (dump(members | {"features": []})[:-2], "]}")
    yield begin
    for number, feature in enumerate(features):
        yield f"{',' if number else ''}\n{dump(feature)}"
    yield f"\n{end}"


def predicted_features(prediction: Prediction) -> Iterator[Any]:
    """The source's features with `classification` and measurements `p_CLASS`; points where the source has none.

    Ids, geometries and other properties stay. A feature of several cells gets the mean of their probabilities. What was
    not classified keeps its classification, and its reason stands in `metadata`. Raises ValueError if the cells are of
    several images, or are crops: QuPath shows one image.
    """
    cells = prediction.cells
    if cells.xy is None or len(set(cells.files)) > 1:
        raise ValueError("GeoJSON is for the points of one image; write .csv or .parquet")
    features: Iterable[Any] = (_point(x, y) for x, y in cells.xy.tolist())
    feature_of: Sequence[int] = range(len(cells))
    colours: dict[str, Any] = {}
    if cells.feature is not None:
        colours = _colours(features_of(cells.document, "the source"))
        features, feature_of = features_of(cells.document, "the source"), cells.feature
    predicted = np.array(feature_of)[prediction.rows]  # features of rows rise
    reasons = {feature_of[row]: reason for row, reason in prediction.left_out.items()}
    for number, feature in enumerate(features):
        properties = dict(feature.get("properties") or {})
        first, last = np.searchsorted(predicted, [number, number + 1])
        if first < last:
            mean = prediction.probabilities[first:last].mean(axis=0, dtype=np.float64)
            name = prediction.classes[int(mean.argmax())]
            properties["classification"] = {"name": name} | ({"color": colours[name]} if name in colours else {})
            add_measurements(
                properties, {f"p_{name}": float(p) for name, p in zip(prediction.classes, mean, strict=True)}
            )
        elif number in reasons:
            metadata = properties.get("metadata")
            properties["metadata"] = (metadata if isinstance(metadata, dict) else {}) | {"left_out": reasons[number]}
        yield feature | {"properties": properties}


def _point(x: float, y: float) -> Json:
    geometry: Json = {"type": "Point", "coordinates": [x, y]}
    return {"type": "Feature", "geometry": geometry, "properties": {"objectType": "detection"}}


def _colours(features: Iterable[Any]) -> dict[str, Any]:
    """The colours that the source gives to classes."""
    colours = {}
    for feature in features:
        properties = feature.get("properties") or {}
        classification = properties.get("classification")
        name = class_of(properties, "")
        if name and isinstance(classification, dict) and "color" in classification:
            colours[name] = classification["color"]
    return colours


def add_measurements(properties: dict[str, Any], values: dict[str, float]) -> None:
    """Add measurements in the way that the feature has its own: QuPath wrote a list before 0.4, an object since."""
    measurements = properties.get("measurements")
    if isinstance(measurements, list):
        kept = [each for each in measurements if not (isinstance(each, dict) and each.get("name") in values)]
        properties["measurements"] = [*kept, *({"name": name, "value": value} for name, value in values.items())]
    else:
        properties["measurements"] = (measurements if isinstance(measurements, dict) else {}) | values


def _write_h5ad(prediction: Prediction, file: Path) -> None:
    """Probabilities in X, the user's columns and ours in obs, coordinates in obsm: what scanpy and squidpy read."""
    try:
        anndata: Any = importlib.import_module("anndata")  # not among the packages that we are checked with
    except ImportError as error:
        raise ValueError("--out .h5ad needs anndata: pip install 'cellpatch[anndata]'") from error
    table = prediction.table()
    names = [f"p_{name}" for name in prediction.classes]
    obs = table.drop(columns=names)
    for column in obs.columns:
        if not pd.api.types.is_numeric_dtype(obs[column]):  # other versions of anndata read categories of str only
            texts = ["" if pd.isna(value) else str(value) for value in obs[column]]
            obs[column] = pd.Categorical(texts, pd.Index(sorted(set(texts)), dtype=object))
    ids = next((table[name] for name in ("cell_id", "id") if name in table), pd.Series(range(len(table))))
    obs.index = pd.Index([str(value) for value in ids], dtype=object)
    classes = pd.Index(prediction.classes, dtype=object)
    cells = anndata.AnnData(table[names].to_numpy(np.float32), obs=obs, var=pd.DataFrame(index=classes))
    cells.uns["x"] = "probability of each class"
    if prediction.cells.xy is not None:
        cells.obsm["spatial"] = prediction.cells.xy
    cells.write_h5ad(file)


_WRITERS: dict[str, Callable[[Prediction, Path], None]] = {
    ".csv": _write_csv,
    ".tsv": _write_tsv,
    ".parquet": _write_parquet,
    ".geojson": _write_geojson,
    ".geojson.gz": _write_geojson_gz,
    ".h5ad": _write_h5ad,
}
FORMATS = list(_WRITERS)
WRITER_VERSION = 1  # goes up when the same prediction is written otherwise: outputs of before are then done anew
