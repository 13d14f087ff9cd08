"""What README and the pages state about models, files and results is true."""

import re
import shlex
from typing import Any

import pytest
import torch
from conftest import ROOT
from hydra.core.override_parser.overrides_parser import OverridesParser

from cellpatch.analysis.groups import SeedGroup, group_by_seed
from cellpatch.analysis.results import read_results
from cellpatch.config.assemble import assemble
from cellpatch.config.schema import compose_config, models
from cellpatch.figures.tables import format_ci
from cellpatch.metrics.scores import macro_f1
from cellpatch.models.backbone import count_macs, count_parameters
from cellpatch.models.customvit import CustomViT
from cellpatch.optics.conditions import CLEAN
from cellpatch.runs.coordinates import GroupCoordinates

README = (ROOT / "README.md").read_text()
DOCS = ROOT / "docs"


def test_the_readme_is_short() -> None:
    lines = README.splitlines()
    assert len(lines) <= 200
    assert [line for line in lines if len(line) > 100] == [], "tables and code too"


def test_the_table_of_contents_leads_to_every_heading() -> None:
    [contents] = re.findall(r"^\*\*Contents\*\*.*?(?=\n\n)", README, re.M | re.S)
    contents = " ".join(contents.split())
    without_code = re.sub(r"^```.*?^```", "", README, flags=re.M | re.S)
    headings = re.findall(r"^## (.+)$", without_code, re.M)
    assert re.findall(r"\[([^]]+)\]\(#[\w-]+\)", contents) == headings
    assert re.findall(r"\(#([\w-]+)\)", contents) == [_anchor(heading) for heading in headings]
    pages = {page.name: page.read_text() for page in DOCS.glob("*.md")}
    linked = re.findall(r"\(docs/(\w+\.md)#([\w-]+)\)", README)
    for page, anchor in linked:
        assert anchor in map(_anchor, re.findall(r"^#+ (.+)$", pages[page], re.M)), (page, anchor)
    targets = [target for target in re.findall(r"\]\(([^)#]+)", README) if "://" not in target]
    assert [target for target in targets if not (ROOT / target).exists()] == []


def _anchor(heading: str) -> str:
    """The anchor that GitHub gives to a heading."""
    return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")


@pytest.mark.long
def test_every_model_has_its_row() -> None:
    rows = re.findall(
        r"^\| (\w+) \| (.*) \| ([\d.]+) M \| (\d+) M \| (\d+)x\d+ \|$", (DOCS / "models.md").read_text(), re.M
    )
    stated = {name: (float(parameters), int(macs), int(side)) for name, _, parameters, macs, side in rows}
    sources = {name: source for name, source, *_ in rows}
    counted = {}
    for name in models():
        model = assemble(compose_config([f"model={name}"])).model
        backbone = model.on_meta()  # a billion parameters need no memory to be counted
        macs = round(count_macs(backbone) / 1e6)
        counted[name] = (round(count_parameters(backbone) / 1e6, 2), macs, backbone.input_px)
        assert model.weights is None or model.weights.licence in sources[name]
        of_timm = re.search(r"timm `(\w+)`", sources[name])
        assert of_timm is None or of_timm[1] == model.arguments["architecture"]
    assert stated == counted
    assert {name for name, source in sources.items() if "our choice" in source} == {"densenet", "convnext"}


@pytest.mark.long
def test_published_models_are_compared_by_what_they_are() -> None:
    head = "| model | input (px) | field of view (um) | tokens | parameters | MACs | licence | trained on | TCGA |"
    rows = _rows((DOCS / "foundation_models.md").read_text(), head)
    specs = {name: assemble(compose_config([f"model={name}"])).model for name in models()}
    published = {name: spec.weights.licence for name, spec in specs.items() if spec.weights is not None}
    assert rows.keys() == published.keys()
    for name, licence in published.items():
        side, _, tokens, parameters, macs, stated, _, tcga = rows[name]
        backbone: Any = specs[name].on_meta()
        found = backbone.net.forward_features(torch.empty(1, 3, int(side), int(side), device="meta"))
        places = found.shape[1] if found.ndim == 3 else found.shape.numel() // backbone.num_features
        assert (int(side), int(tokens), stated) == (backbone.input_px, places, licence), name
        assert parameters == f"{count_parameters(backbone) / 1e6:.2f} M", name
        assert macs == f"{count_macs(backbone) / 1e6:.0f} M", name
        assert tcga in ("yes", "no", "unknown")


def test_every_file_of_the_tree_exists() -> None:
    tree = (DOCS / "architecture.md").read_text().split("## The folders and files")[1].split("```")[1]
    names = set(re.findall(r"[\w]+\.(?:py|ipynb)\b", tree))
    assert len(names) > 20
    existing = {path.name for path in ROOT.rglob("*") if ".venv" not in path.parts}
    assert names <= existing
    modules = {path.name for path in (ROOT / "cellpatch").glob("*.py")} - {"__init__.py"}
    assert modules <= names, "every module of the package's top level is in the tree"


def test_every_data_choice_is_shown() -> None:
    for file in (ROOT / "conf" / "data").glob("*.yaml"):
        assert f"data={file.stem}" in README


@pytest.mark.long
def test_every_override_is_understood() -> None:
    """Each command and setting that README and pages show, through a shell's and then Hydra's grammar."""
    pages = [README, *(page.read_text() for page in sorted(DOCS.glob("*.md")))]
    shown = [text for page in pages for text in _shown(page.replace("\\\n", " "))]
    overrides = [
        word for text in shown if "=" in text for word in shlex.split(text.replace("DIR", ".").replace("FILE", "f.csv"))
    ]
    overrides = [word for word in overrides if re.match(r"[\w.]+=", word) and not word.startswith("RUNS=")]
    assert len(overrides) > 150
    parsed = OverridesParser.create().parse_overrides(overrides)
    patterns = {override.value() for override in parsed if override.key_or_group == "data.specimen_pattern"}
    assert patterns == {r"(case\d+)", "^([^/]+)/", r"^(patient\d+)/", "([^/_]+)_[^/]*$"}
    groups = [
        o.input_line
        for o in parsed
        if o.key_or_group in ("data", "model", "augment", "logger") and "," not in o.input_line
    ]
    assert len(groups) > 40
    for group in {*groups} - {"model=NAME", "data=NAME", "data=arrays", "model=", "logger="}:  # the reader's own
        compose_config([group])


def _shown(page: str) -> list[str]:
    """A page's settings in inline code, and its commands that train."""
    inline = re.findall(r"`([^`\n]+)`", page)
    settings = [
        code for code in inline if re.match(r"(?:'?[\w.]+=|python train.py |cellpatch (?:train|prepare) )", code)
    ]
    return settings + re.findall(r"^((?:python train.py|cellpatch (?:train|prepare)) .*?)(?: +#.*)?$", page, re.M)


def test_nothing_is_left_to_fill_in() -> None:
    for page in [README, *(page.read_text() for page in DOCS.glob("*.md"))]:
        assert "@@" not in page
        assert "TODO" not in page


def _kept(file: str) -> dict[str, dict[int | str, str]]:
    """Of packed runs, by what the pages call them: macro-F1 at each limit, and seconds at 1024."""
    groups = group_by_seed(read_results(ROOT / "experiments" / "results" / file))
    kept: dict[str, dict[int | str, str]] = {}
    for group in groups:
        name = _label(group.coordinates)
        row = kept.setdefault(name, {})
        row[group.coordinates.flag_limit] = format_ci(*group.estimate(CLEAN, macro_f1).summary())
        if group.coordinates.flag_limit == 1024:
            row["s"] = f"{min(run.record.seconds.train for run in group.runs):.0f}"
        assert len(group.seeds) == 3, name
    return kept


def _label(run: GroupCoordinates) -> str:
    return run.model if run.from_scratch else f"{run.model}, {run.adapt}, {run.input_px} px"


@pytest.mark.long
@pytest.mark.parametrize(
    ("page", "head", "file", "columns"),
    [
        ("endonuke", "| | 256 (632 cells) | 1024 (2168 cells) | s |", "endonuke.parquet", (256, 1024, "s")),
        (
            "synthetic",
            "| SYNTHETIC | 64 (928 cells) | 256 (2924 cells) | 1024 (6513 cells) |",
            "synthetic.parquet",
            (64, 256, 1024),
        ),
    ],
)
def test_results_are_those_of_the_kept_runs(page: str, head: str, file: str, columns: tuple[int | str, ...]) -> None:
    stated = _rows((DOCS / f"{page}.md").read_text(), head)
    assert stated == {name: [row[column] for column in columns] for name, row in _kept(file).items()}


CURVES = {
    "endonuke": (
        "| today | 256 (652 cells) | 1024 (2188) | 4096 (7229) | 16384 (12870, all) |",
        (256, 1024, 4096, 16384),
    ),
    "chula": ("| today | 64 (768 cells) | 256 (2979) | 1024 (8070) | 16384 (11249, all) |", (64, 256, 1024, 16384)),
}


@pytest.mark.long
@pytest.mark.parametrize("data", CURVES)
def test_curves_are_those_of_the_kept_runs(data: str) -> None:
    head, limits = CURVES[data]
    kept: dict[str, dict[int, str]] = {}
    for group in group_by_seed(read_results(ROOT / "experiments" / "results" / "curve.parquet")):
        if group.coordinates.data == data:
            row = kept.setdefault(_label(group.coordinates), {})
            row[group.coordinates.flag_limit] = format_ci(*group.estimate(CLEAN, macro_f1).summary())
    stated = _rows((DOCS / f"{data}.md").read_text(), head)
    assert {name: row for name, row in stated.items() if not name.startswith("always")} == {
        name: [row.get(limit, "-") for limit in limits] for name, row in kept.items()
    }


RESULTS = ROOT / "experiments" / "results"
LIMITS_OF_SHAPES = [("Chula", limit) for limit in (64, 256, 1024, 16384)]
LIMITS_OF_SHAPES += [("EndoNuke", limit) for limit in (256, 1024, 4096, 16384)] + [("SYNTHETIC", 16384)]


@pytest.mark.long
def test_shapes_of_customvit_score_as_in_the_kept_runs() -> None:
    page = (DOCS / "customvit.md").read_text()
    head = "| cells | limit | customvit | customvit_s | the best of the other seven |"
    lines = page.split(head)[1].split("\n\n")[0].splitlines()[2:]
    stated = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    large = group_by_seed(read_results(RESULTS / "curve.parquet", RESULTS / "synthetic_largest.parquet"))
    small = group_by_seed(read_results(RESULTS / "customvit_s.parquet"))

    def score(groups: list[SeedGroup], data: str, limit: int) -> dict[str, tuple[float, str]]:
        chosen = [g for g in groups if g.coordinates.from_scratch]
        chosen = [g for g in chosen if (g.coordinates.data, g.coordinates.flag_limit) == (data.lower(), limit)]
        each = {g.coordinates.model: g.estimate(CLEAN, macro_f1) for g in chosen}
        return {model: (estimate.mean, format_ci(*estimate.summary())) for model, estimate in each.items()}

    expected = []
    for data, limit in LIMITS_OF_SHAPES:
        others = score(large, data, limit)
        _, own = others.pop("customvit")
        assert len(others) == 7
        best = max(others, key=lambda model: others[model])
        of_small = score(small, data, limit)["customvit"][1]
        expected.append([data, str(limit), own, of_small, f"{best} {others[best][1]}"])
    assert stated == expected


@pytest.mark.long
def test_the_choice_of_a_shape_was_by_these_validation_scores() -> None:
    rows = _rows((DOCS / "customvit.md").read_text(), "| shape | M MACs | Chula | EndoNuke | SYNTHETIC, 60,000 cells |")
    scores: dict[tuple[int, str], float] = {}
    files = ("curve", "shapes", "synthetic_largest", "customvit_s")
    for run in read_results(*(RESULTS / f"{file}.parquet" for file in files)):
        here = run.coordinates
        if (here.model, here.flag_limit, here.seed) == ("customvit", 16384, 0):
            macs = round(count_macs(CustomViT(**_arguments(run.stored["config"]["model"]["backbone"]))) / 1e6)
            scores[macs, here.data] = run.stored["val_macro_f1"]
    for macs, *cells in rows.values():
        of_shape = [scores.get((int(macs), data)) for data in ("chula", "endonuke", "synthetic")]
        assert [cell.strip("*") for cell in cells] == ["-" if x is None else f"{x:.3f}" for x in of_shape]
    assert len(scores) == 10


def _arguments(stored: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in stored.items() if key != "component"}


def test_cells_split_at_random_score_as_in_the_kept_runs() -> None:
    rows = _rows((DOCS / "chula.md").read_text(), "| by cell | updates | accuracy | macro-F1 |")
    kept = set()
    for run in read_results(RESULTS / "by_cell.parquet"):
        backbone, budget = run.stored["config"]["model"]["backbone"], run.stored["config"]["adapt"]
        name = run.coordinates.model
        if name == "customvit" and backbone["token_px"] == 8:
            name = "customvit_s"
        name += " of twice the width" if backbone.get("widths") == [64, 128, 256, 512] else ""
        name += ", mixup, cutmix and scaling" if budget["cutmix"] else ""
        clean = run.record.clean
        kept.add((name, f"{budget['updates']:,}", f"{clean.accuracy:.3f}", f"{clean.macro_f1:.3f}"))
    assert kept == {(name, *cells) for name, cells in rows.items() if name != "the authors"}


def test_the_largest_synthetic_set_scores_as_in_the_kept_runs() -> None:
    rows = _rows((DOCS / "synthetic.md").read_text(), "| SYNTHETIC | macro-F1 | seeds |")
    groups = group_by_seed(read_results(RESULTS / "synthetic_largest.parquet"))
    small = group_by_seed(read_results(RESULTS / "customvit_s.parquet"))
    named = [(group.coordinates.model, group) for group in groups]
    named += [("customvit_s", group) for group in small if group.coordinates.data == "synthetic"]
    assert rows == {
        name: [format_ci(*group.estimate(CLEAN, macro_f1).summary()), str(len(group.seeds))] for name, group in named
    }


def test_updates_and_annotations_are_those_of_the_kept_runs() -> None:
    rows = _rows((DOCS / "training.md").read_text(), "| updates | 16 per class | 64 per class |")
    scores: dict[tuple[int, int], list[float]] = {}
    for run in read_results(ROOT / "experiments" / "results" / "updates.parquet"):
        budget = run.stored["config"]["adapt"]["updates"]
        scores.setdefault((run.coordinates.flag_limit, budget), []).append(run.record.clean.macro_f1)
    assert all(len(seeds) == 3 for seeds in scores.values())
    mean = {key: f"{sum(seeds) / 3:.3f}" for key, seeds in scores.items()}
    assert list(rows.values()) == [
        [mean[16, 60], "-"],
        [mean[16, 240], mean[64, 225]],
        [mean[16, 1000], mean[64, 1000]],
    ]


def test_the_results_of_the_readme_are_rows_of_the_page() -> None:
    shown = _rows(README, "| model | 256 per class | 16384 per class (all) |")
    every = _rows((DOCS / "endonuke.md").read_text(), CURVES["endonuke"][0])
    assert len(shown) == 7
    assert shown.items() <= {name: [row[0], row[-1]] for name, row in every.items()}.items()


def _rows(page: str, head: str) -> dict[str, list[str]]:
    """The rows of the table with this head, by their first cell."""
    rows = {}
    for line in page.split(head)[1].split("\n\n")[0].splitlines()[2:]:
        name, *cells = (cell.strip() for cell in line.strip("|").split("|"))
        rows[name] = cells
    return rows
