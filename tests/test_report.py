"""The page of a grid, its words against the runs, and its behaviour in a real browser."""

import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import compare_table
import pytest
import report
from conftest import ROOT, config_of
from playwright.sync_api import Browser, Page, sync_playwright
from recommend import recommend
from simulated import CLASSES, OTHER_WAY, SKILLS, restated, simulated

from cellpatch.analysis.curves import format_limit_range
from cellpatch.analysis.groups import group_by_seed
from cellpatch.analysis.results import pack
from cellpatch.figures.tables import write_tables
from cellpatch.optics.conditions import Condition
from cellpatch.sweeps.train import train


def test_the_choice_has_a_crossing_where_there_is_one() -> None:
    sentences = recommend(group_by_seed(simulated()))
    assert sentences[0].startswith("At 4096 annotations per class customvit has the highest macro-F1, 0.7")
    assert sentences[0].endswith("It is ahead of every other model there.")
    found = re.match(
        r"Below about (\d+) annotations per class use dinov2_s, linear_probe, 224 px, above use customvit "
        r"\(crossing at (\d+), (\d+) to (\d+)\)",
        sentences[1],
    )
    assert found
    rounded, place, low, high = map(int, found.groups())
    assert low < place < high
    assert rounded == pytest.approx(place, rel=0.05)
    assert sentences[2] == (
        "A cell costs 2.5 ms (2.22 to 2.86) with customvit and 150 ms (133 to 171) with dinov2_s, linear_probe, 224 px "
        "(one cell at a time, medians and quartiles, eager, simulated, 1 thread)."
    )
    assert re.match(
        r"Out of focus \(.*\) dinov2_s, linear_probe, \d+ px has the highest macro-F1, 0.\d+ \(0.\d+ to 0.\d+\)\. "
        r"Against sharp cells it changes by -0\.\d+ \(-0\.\d+ to -0\.\d+\) in dinov2_s, linear_probe, .* at best, "
        r"and by -0\.\d+ \(.*\) in customvit at worst\.$",
        sentences[3],
    )


@pytest.mark.parametrize(
    ("skill", "words"),
    [
        (
            (0.0, 0.1, 0.1),
            "Train customvit on your own annotations: it is ahead of dinov2_s, linear_probe at every limit.",
        ),
        ((0.7, 0.1, 0.1), "Use dinov2_s, linear_probe: it is ahead of customvit at every limit."),
        (
            (0.30, 0.15, 0.05),
            "Between customvit and dinov2_s, linear_probe these runs show no significant difference at every limit.",
        ),
    ],
    ids=["small", "large", "undecided"],
)
def test_the_choice_without_a_crossing(skill: tuple[float, float, float], words: str) -> None:
    wanted = [("customvit", "scratch", 40), ("dinov2_s", "linear_probe", 224)]
    skills = {key: SKILLS[key] for key in wanted} | {wanted[0]: skill}
    assert recommend(group_by_seed(simulated(skills=skills)))[1].startswith(words)


def test_the_choice_may_be_the_other_way_round() -> None:
    """Fine-tuned models can gain more with annotations than those from scratch."""
    stated = recommend(group_by_seed(simulated(skills=OTHER_WAY)))[1]
    assert re.match(
        r"Below about \d+ annotations per class use customvit, above use dinov2_s, linear_probe \(cross", stated
    )
    level = dict(zip(OTHER_WAY, [(0.28, 0.15, 0.1), (0.12, 0.33, 0.1)], strict=True))
    stated = recommend(group_by_seed(simulated(skills=level)))[1]
    assert re.match(
        r"Use dinov2_s, linear_probe from \d+ annotations per class on: there it is ahead of custom", stated
    )


def test_ends_of_a_crossing_that_are_not_known_are_no_numbers() -> None:
    assert format_limit_range([256, 4096], 0, float("inf")) == "256 or fewer to more than 4096"
    assert format_limit_range([256, 4096], 300.4, 900) == "300 to 900"


def test_classes_without_a_test_cell_are_named() -> None:
    results = simulated(limits=(256,))
    for run in results:
        for counts in run.confusions.values():
            counts[:, 2] = 0
    stated = recommend(group_by_seed(results))
    assert f"Classes without a test cell, which were not tested: {CLASSES[2]}." in stated


def test_what_the_runs_cannot_say_is_said() -> None:
    results = [run for run in simulated(limits=(256,), seeds=(0,), specimens=4) if run.coordinates.adapt == "scratch"]
    for run in results:
        for condition in list(run.confusions)[1:]:
            del run.confusions[condition]
    results = [restated(run, latency=None) for run in results]
    text = " ".join(recommend(group_by_seed(results)))
    assert "Slides out of focus are not compared" in text
    assert "with one seed: their intervals do not cover the spread over seeds" in text
    assert "Classes with fewer than 50 test cells, or in fewer than 5 specimens, weigh as much in macro-F1" in text
    assert re.search(rf"{re.escape(CLASSES[2])} \(\d+ cells in [34] specimens\)", text)
    assert "ms" not in text


def test_a_lone_model_is_ahead_of_none_and_one_limit_is_not_every_limit() -> None:
    alone = {key: skill for key, skill in SKILLS.items() if key[0] == "customvit"}
    stated = recommend(group_by_seed(simulated(skills=alone)))
    assert stated[0].endswith(". No other model was run there.")
    assert any(re.search(r"Against sharp cells it changes by -0.* in customvit\.$", text) for text in stated)
    both = {key: SKILLS[key] for key in [("customvit", "scratch", 40), ("dinov2_s", "linear_probe", 224)]}
    assert "at 4096, the only common limit" in recommend(group_by_seed(simulated(limits=(4096,), skills=both)))[1]
    more = [
        run
        for run in simulated(skills=both)
        if run.coordinates.model != "customvit" or run.coordinates.flag_limit > 1000
    ]
    assert "at 1024 and 4096, the only common limits" in recommend(group_by_seed(more))[1]


def test_a_lead_of_one_seed_and_few_specimens_are_told() -> None:
    stated = recommend(group_by_seed(simulated(limits=(4096,), seeds=(0,), specimens=12)))
    assert "Lower, but trained with one seed, and another seed may change this: " in stated[0]
    assert "ahead of every other" not in stated[0]
    assert stated[1].startswith(
        "Between customvit and dinov2_s, linear_probe, 224 px these runs, of one seed each, show no"
    )
    assert any(text.startswith("With 12 test specimens the intervals are too narrow") for text in stated)
    lone = recommend(group_by_seed(simulated(limits=(256, 4096), specimens=1)))
    assert "No significant difference from it: " in lone[0]
    assert re.search(r"in macro-F1: at 256 [+-]0\.\d{3}; at 4096 [+-]0\.\d{3}\.", lone[1]), "and no nan"
    assert "No number on this page has an interval: one test specimen gives no information about others." in lone


def test_below_a_limit_is_said_only_where_the_lead_is_sure() -> None:
    skills = {("customvit", "scratch", 40): (0.2, 0.35, 0.1), ("dinov2_s", "linear_probe", 224): (0.4, 0.15, 0.1)}
    stated = recommend(group_by_seed(simulated(skills=skills)))[1]
    assert stated.startswith("Train customvit from "), stated
    assert "; below, these runs show no significant difference." in stated


def test_losses_out_of_focus_are_at_the_same_sigma() -> None:
    results = simulated(limits=(4096,))
    for run in results:
        if run.coordinates.model != "cnn":
            for kind in ("pre", "post"):
                del run.confusions[Condition(kind, 3.2)]
    [stated] = [text for text in recommend(group_by_seed(results)) if text.startswith("Out of focus")]
    assert stated.startswith("Out of focus (sigma 1.6 after the resize, flag_limit 4096)")


def test_a_page_is_written_whatever_cards_and_names_there_are(tmp_path: Path) -> None:
    results = simulated(limits=(256, 1024), data="../a b/c")
    for i, run in enumerate(results):
        card, threads = run.stored["latency"], 7 if run.coordinates.model == "customvit" else 1
        card = card | {"hardware": card["hardware"] | {"threads": threads}}
        results[i] = restated(run, classes=[r"CD8$^+$ $\x$", *CLASSES[1:]], latency=card)
    pack(results, tmp_path / "runs.parquet")
    page = tmp_path / "page" / "report.html"
    report.build([tmp_path / "runs.parquet"], page)
    text = page.read_text()
    assert "Milliseconds are not compared: cards of latency are of different machines" in text
    assert r"CD8$^+$ $\x$" in text
    assert (
        write_tables(compare_table.tables(group_by_seed(results)), "../a b/c", tmp_path / "tables")[0].parent
        == tmp_path / "tables"
    )


def test_links_lead_from_the_page_to_the_records(tmp_path: Path) -> None:
    [packed, *_] = simulated()
    run = replace(packed, folder=tmp_path / "my runs" / "cnn-1")
    assert report._link(run, tmp_path / "pages") == "../my%20runs/cnn-1/record.json"
    assert report._link(packed, tmp_path) is None


def test_cells_and_worst_errors_are_shown_where_the_crops_are(
    tmp_path: Path, folder_of_squares: Callable[..., Path]
) -> None:
    small = ["model=cnn", "model.backbone.input_px=16", "model.backbone.widths=[4]", "optics.via_px=16"]
    root = folder_of_squares(20, 5)
    for limit in (4, 8):
        train(config_of(tmp_path, root, *small, "trainer.max_epochs=1", f"flag_limit={limit}"))
    report.build([tmp_path / "runs"], tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert page.count("data:image/png;base64,") > 10
    assert re.search(r"(red|green|blue) predicted as (red|green|blue), \d+ %", page)
    assert "The cells are not marked as synthetic. Their licence: not stated." in page
    assert "Not shown" in page
    train(config_of(tmp_path / "rendered", root, *small, "trainer.max_epochs=1", "data.synthetic=true"))
    report.build([tmp_path / "rendered" / "runs"], tmp_path / "rendered.html")
    rendered = (tmp_path / "rendered.html").read_text()
    assert "The cells are synthetic: no result on them is a result about patients." in rendered
    assert "no run has a card of latency" in page
    shutil.rmtree(tmp_path / "stores")
    shutil.rmtree(root)
    report.build([tmp_path / "runs"], tmp_path / "report.html")
    assert "The crops are not on this machine, so no cell is shown" in (tmp_path / "report.html").read_text()


def test_the_command_writes_one_page_and_names_it(tmp_path: Path) -> None:
    pack(simulated(limits=(256, 1024)), tmp_path / "runs.parquet")
    command = [sys.executable, str(ROOT / "experiments" / "report" / "report.py"), "runs.parquet"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env={"PYTHONPATH": str(ROOT)})
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["report.html"]
    assert sorted(file.name for file in tmp_path.iterdir()) == ["report.html", "runs.parquet"]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    found = shutil.which("chromium") or shutil.which("google-chrome") or shutil.which("chrome")
    if found is None:
        pytest.skip("needs Chromium or Chrome")
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    pack([*simulated(), *simulated(limits=(256,), data="<b>other</b>")], folder / "runs.parquet")
    [file] = report.build([folder / "runs.parquet"], folder / "report.html")
    return file


@pytest.fixture
def page(browser: Browser, written: Path) -> Iterator[Page]:
    opened = browser.new_page(viewport={"width": 1200, "height": 900})
    troubles: list[str] = []
    opened.on("console", lambda message: troubles.append(message.text))
    opened.on("pageerror", lambda error: troubles.append(str(error)))
    opened.on("dialog", lambda dialog: troubles.append(dialog.message))
    opened.on("request", lambda request: request.url.startswith(("file:", "data:")) or troubles.append(request.url))
    opened.goto(written.as_uri())
    yield opened
    opened.close()
    assert troubles == [], "console, dialogs and network stay silent"


def test_names_stay_text(page: Page) -> None:
    assert page.locator("script").count() == 1
    assert page.get_by_role("heading", name="<b>other</b>", exact=True).count() == 1
    assert page.locator("h1 b, h2 b").count() == 0
    assert CLASSES[2] in page.locator("body").inner_text()


def test_a_table_sorts_by_number_and_by_word(page: Page) -> None:
    table = page.locator("table.sortable").first
    values = table.locator("tbody td:nth-child(7)")
    before = values.all_inner_texts()
    button = table.get_by_role("button", name="macro-F1")
    button.click()
    assert values.all_inner_texts() == sorted(before, key=float)
    assert table.locator("th[aria-sort]").get_attribute("aria-sort") == "ascending"
    button.press("Enter")
    assert values.all_inner_texts() == sorted(before, key=float, reverse=True)
    table.get_by_role("button", name="model").click()
    models = table.locator("tbody td:nth-child(2)").all_inner_texts()
    assert models == sorted(models)
    assert table.locator("th[aria-sort]").count() == 1


def test_a_mark_tells_its_value_to_mouse_and_keyboard(page: Page) -> None:
    marks = page.locator("#data0-figure3 [data-tip]")
    stated = str(marks.first.get_attribute("data-tip"))
    assert re.match(r"cnn: macro-F1 0\.\d{3} \(0\.\d{3} to 0\.\d{3}\) at 256, 3 seeds", stated)
    tip = page.get_by_role("tooltip")
    assert tip.count() == 0
    marks.first.hover()
    assert tip.inner_text() == stated
    page.get_by_role("heading", level=1).hover()
    assert tip.count() == 0
    bar = page.locator("#data1-figure5 [data-tip]").nth(2)  # its interval is drawn over it
    bar.hover()
    assert tip.inner_text() == bar.get_attribute("data-tip")
    marks.nth(1).focus()
    assert tip.inner_text() == marks.nth(1).get_attribute("data-tip")
    page.keyboard.press("Escape")
    assert tip.count() == 0
    page.keyboard.press("Tab")
    assert tip.inner_text() == marks.nth(2).get_attribute("data-tip")


def test_every_picture_has_words(page: Page) -> None:
    assert page.locator("figure > svg:not([aria-label])").count() == 0
    assert page.locator("figure").count() == page.locator("figure > svg[role=group]").count() > 10
    assert page.locator("img:not([alt])").count() == 0


def test_a_narrow_window_scrolls_tables_and_not_the_page(page: Page) -> None:
    page.set_viewport_size({"width": 360, "height": 700})
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    assert page.locator(".wide").first.evaluate("box => box.scrollWidth > box.clientWidth")


def test_it_prints(page: Page, tmp_path: Path) -> None:
    page.pdf(path=tmp_path / "report.pdf", format="A4")
    assert (tmp_path / "report.pdf").stat().st_size > 50_000
    page.emulate_media(media="print")
    page.set_viewport_size({"width": 700, "height": 1000})
    assert page.evaluate("document.documentElement.scrollWidth") <= 700, "no table leaves the paper"
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.locator("details:not([open])").count() == 0, "a list of runs is on paper too"
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.locator("details[open]").count() == 0


def test_a_keyboard_gets_past_the_marks_of_a_figure(page: Page) -> None:
    skip = page.locator("#data0-figure3 .skip")
    skip.focus()
    assert skip.bounding_box()["x"] >= 0
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    following = page.evaluate("document.activeElement.closest('figure').id")
    assert following == "data0-figure4"
