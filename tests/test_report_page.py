"""The written page in a real browser, its Markdown and its slides."""

import re
import shutil
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import report
from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright
from simulated import CLASSES, simulated

from cellpatch.analysis.packed_results import pack
from cellpatch.analysis.results import read_results

pytestmark = pytest.mark.long


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
    files = report.build(read_results(folder / "runs.parquet"), folder / "report.html")
    assert all(file.exists() for file in files)
    return files[0]


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


def test_a_screen_reader_finds_its_way(page: Page) -> None:
    """Landmarks, headings by level, names of tables and figures; arrows of sorting are not read."""
    tree = page.locator("body").aria_snapshot()
    assert tree.count("- main:") == 1
    levels = [int(level) for level in re.findall(r"- heading .*\[level=(\d)\]", tree)]
    assert levels[0] == 1
    assert all(deeper - level <= 1 for level, deeper in pairwise(levels)), "no level is left out"
    assert len(re.findall(r"- table \"?.+:", tree)) == page.locator("table:visible").count(), "each table has a name"
    assert "\u2195" not in tree
    images = page.locator("figure svg")
    assert all(images.nth(i).get_attribute("aria-label") for i in range(images.count()))


def test_names_stay_text(page: Page) -> None:
    assert page.locator("script").count() == 1
    assert page.get_by_role("heading", name="<b>other</b> (SYNTHETIC cells)", exact=True).count() == 1
    assert page.locator("h1 b, h2 b").count() == 0
    assert CLASSES[2] in page.locator("body").inner_text()


def test_a_table_sorts_by_number_and_by_word(page: Page) -> None:
    table = page.locator("table.sortable").nth(1)
    values = table.locator("tbody td:nth-child(8)")
    before = values.all_inner_texts()
    button = table.get_by_role("button", name="macro-F1")
    button.click()
    assert values.all_inner_texts() == sorted(before, key=float)
    assert table.locator("th[aria-sort]").get_attribute("aria-sort") == "ascending"
    button.press("Enter")
    assert values.all_inner_texts() == sorted(before, key=float, reverse=True)
    table.get_by_role("button", name="seeds").click()
    seeds = table.locator("tbody td:nth-child(7)").all_inner_texts()
    assert seeds == sorted(seeds, key=lambda text: text == "-"), "words after numbers"
    assert "-" in seeds
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


def test_a_narrow_window_scrolls_tables_and_neither_page_nor_figures(page: Page) -> None:
    page.set_viewport_size({"width": 360, "height": 700})
    assert not page.locator("figure").evaluate_all("all => all.filter(box => box.scrollWidth > box.clientWidth).length")
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    assert page.locator(".wide").first.evaluate("box => box.scrollWidth > box.clientWidth")


def test_it_prints_on_few_pages(page: Page, tmp_path: Path) -> None:
    page.pdf(path=tmp_path / "report.pdf", prefer_css_page_size=True)
    printed = (tmp_path / "report.pdf").read_bytes()
    assert len(printed) > 50_000
    assert len(re.findall(rb"/Type\s*/Page[^s]", printed)) <= 16, "two data sets"
    page.emulate_media(media="print")
    page.set_viewport_size({"width": 700, "height": 1000})
    assert page.evaluate("document.documentElement.scrollWidth") <= 700, "no table leaves the paper"
    assert page.locator("details.long").first.is_hidden(), "a long table is a file"


def test_the_first_screen_is_markdown_and_a_slide_too(written: Path) -> None:
    text = written.with_suffix(".md").read_text(encoding="utf-8")
    assert (
        "## simulated (SYNTHETIC cells)\n\n### Which model, from how many annotations on?\n\n* Up to 512 annotations"
        in text
    )
    assert "## \\<b\\>other\\</b\\> (SYNTHETIC cells)" in text
    assert "<h2>simulated (SYNTHETIC cells)</h2>" in written.read_text(encoding="utf-8")
    assert text.count("| annotations per class | best model |") == 2
    for name in ("report-simulated.png", "report-_b_other_b_.png"):
        with Image.open(written.with_name(name)) as slide:
            assert slide.size == (1599, 900) or slide.size == (1600, 900)
            assert (np.asarray(slide.convert("L")) < 128).mean() > 0.005


def test_a_long_table_is_a_file_beside_the_page(written: Path) -> None:
    leads = pd.read_csv(written.with_name("report-leads-simulated.csv"))
    assert len(leads) > report.LONG
    assert "report-leads-simulated.csv" in written.read_text(encoding="utf-8")


def test_a_keyboard_gets_past_the_marks_of_a_figure(page: Page) -> None:
    skip = page.locator("#data0-figure3 .skip")
    skip.focus()
    assert skip.bounding_box()["x"] >= 0
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    following = page.evaluate("document.activeElement.closest('figure').id")
    assert following == "data0-figure4"
