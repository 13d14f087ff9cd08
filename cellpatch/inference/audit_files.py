"""An audit as a folder: audit.csv, audit.html, and for QuPath a GeoJSON file per image."""

import json
from collections import Counter
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pydantic import JsonValue

from cellpatch.data.paths import resolve_inside
from cellpatch.figures.audit_page import AuditPage, CellCard, Flow, Section, render
from cellpatch.figures.captions import sample_size_caption
from cellpatch.figures.gallery import png_base64
from cellpatch.inference.audit import COPY, ERROR, OTHER_CLASS, OUTLIER, Audit
from cellpatch.runtime.json_types import Json
from cellpatch.runtime.output_folder import output_folder
from cellpatch.runtime.spreadsheet import csv_text
from cellpatch.runtime.version import __version__

TABLE, PAGE, GEOJSON = FILES = "audit.csv", "audit.html", "geojson"
SHOWN = 300  # cells of a reason on the page: about 1 MB at 40 px
_EXPLANATIONS = {
    ERROR: "A network that was not trained on the cell finds another class more likely (confident learning). The worst "
    "label quality first. Some of these labels are right: look before you change one.",
    OTHER_CLASS: "Nearly the same crop has another label in another specimen (the small picture). One label is wrong.",
    COPY: "Nearly the same crop is in another specimen (the small picture), with the same label. Exported twice?",
    OUTLIER: "The network's features lie far from those of all other cells: an artefact, or a rare look.",
}
_COLOURS: dict[str, list[JsonValue]] = {
    ERROR: [213, 94, 0],
    OTHER_CLASS: [204, 121, 167],
    COPY: [86, 180, 233],
    OUTLIER: [240, 228, 66],
}


def write_audit(audit: Audit, out: Path) -> pd.DataFrame:
    """Write the folder, whole or not at all, in place of an earlier audit; gives the table of findings."""
    findings = audit.findings()
    with output_folder(out) as folder:
        (folder / TABLE).write_text(csv_text(findings), encoding="utf-8")
        (folder / PAGE).write_text(render(_page(audit, findings)), encoding="utf-8")
        _write_geojson(findings, folder / GEOJSON)
    return findings


def _write_geojson(findings: pd.DataFrame, folder: Path) -> None:
    """One file an image, at the image's path: QuPath shows one image at a time."""
    placed = findings[(findings["image"] != "") & findings["x"].notna()]
    for image, rows in placed.groupby("image", sort=True):
        file = resolve_inside(folder, f"{image}.geojson", "cells.parquet")
        file.parent.mkdir(parents=True, exist_ok=True)
        document = {"type": "FeatureCollection", "features": [_feature(row) for row in rows.to_dict("records")]}
        file.write_text(json.dumps(document, ensure_ascii=False, allow_nan=False, indent=1), encoding="utf-8")


def _feature(row: dict[Any, Any]) -> Json:
    """An annotation of QuPath: a point whose class is the reason, and whose name is the doubt."""
    reason = row["reasons"].partition("; ")[0]
    suggested = f", suggested {row['suggested']}" if row["suggested"] else ""
    measured = {name: value for name, value in row.items() if name == "label_quality" or name.startswith("p_")}
    return {
        "type": "Feature",
        "geometry": {"type": "Point", "coordinates": [row["x"], row["y"]]},
        "properties": {
            "objectType": "annotation",
            "name": f"{row['label']}{suggested}: {row['cell_id']}",
            "classification": {"name": reason, "color": _COLOURS[reason]},
            "measurements": {str(name): float(value) for name, value in measured.items()},
        },
    }


def _page(audit: Audit, findings: pd.DataFrame) -> AuditPage:
    tested, group = audit.tested, audit.tested.group
    sections = []
    for number, (reason, found) in enumerate(audit.reasons().items()):
        rows = findings[found[findings.index]]
        if reason == OUTLIER:
            rows = rows.sort_values("outlier_distance", ascending=False, kind="stable")
        if len(rows):
            cards = _cards(audit, rows.iloc[:SHOWN])
            sections.append(Section(f"reason{number}", reason, _EXPLANATIONS[reason], len(rows), cards))
    suggested = findings[findings["suggested"] != ""]
    pairs = Counter(zip(suggested["label"].tolist(), suggested["suggested"].tolist(), strict=True))
    flows = [Flow(*pair, cells) for pair, cells in pairs.most_common()]
    data = group.coordinates.data
    synthetic = " (SYNTHETIC cells)" if group.runs[0].record.data.source.synthetic else ""
    notes = [
        f"{len(findings)} of {len(tested.labels)} cells are listed. Their probabilities are from "
        f"{group.coordinates.model}, {group.coordinates.adapt}, flag_limit {group.coordinates.flag_limit}: "
        f"{sample_size_caption([group], intervals='')}",
        *([] if group.folds else [ONLY_TEST]),
        *audit.warnings(),
        "A crop is shown with its margin: the cell in question is in its middle.",
    ]
    made = f"Made {date.today().isoformat()} with cellpatch {__version__}."
    return AuditPage(
        title=f"Labels to look at: {data}{synthetic}", notes=notes, flows=flows, sections=sections, made=made
    )


ONLY_TEST = "These runs have no folds, so only their test cells are audited: data.split=kfold audits every cell."


def _cards(audit: Audit, rows: pd.DataFrame) -> list[CellCard]:
    cells = rows.index.to_numpy()
    partners = audit.partners[cells]
    crops, copies = audit.store.crops(audit.rows[cells]), audit.store.crops(np.maximum(partners, 0))
    cards = []
    for row, crop, partner, copy in zip(rows.to_dict("records"), crops, partners, copies, strict=True):
        words = [f"quality {row['label_quality']:.3f}"]
        words += [f"distance {row['outlier_distance']:.1f}"] if OUTLIER in row["reasons"] else []
        words += [f"copy of {row['copy_of']}"] if row["copy_of"] else []
        at = f"{row['image'] or row['source']}" + ("" if pd.isna(row["x"]) else f" at {row['x']:.0f}, {row['y']:.0f}")
        card = CellCard(
            png=png_base64(crop),
            label=row["label"],
            suggested=row["suggested"],
            words=", ".join(words),
            where=at,
            partner=png_base64(copy) if partner >= 0 else "",
        )
        cards.append(card)
    return cards
