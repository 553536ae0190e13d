"""The MLflow UI as somebody sees it who has to choose: a real sweep, a real server and a real browser.

With RELIABIT_UI_PICTURES=docs/images the pictures of docs/ui.md are made anew.
"""

import base64
import os
import re
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from functional.checkout import Checkout
from reliabit.tracking.tracker import Tracker
from serving.chromium import BINARY, chromium
from tracking.servers import started

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path(BINARY).is_file(), reason="there is no Chromium to look with"),
]

# Few questions leave wide intervals; what is tested here is what is shown, not the margins.
LENIENT = [
    *("registry.confidence=maxprob", "registry.accuracy_loss=0.2", "registry.slice_loss=0.6"),
    "registry.minimum_coverage=0.2",
]
SWEEP = [
    *("-m", "quant.bits=2,3,4,8", "confidence=maxprob", *LENIENT, "trainer.threads=1", "trainer.progress_bar=false"),
    "data.ask={dev: 60, val: 40, cal: 300, test: 150}",
]
HEIGHT = 800
SCREEN = {"width": 1280, "height": HEIGHT, "deviceScaleFactor": 1, "mobile": False}
CALM = "localStorage.setItem('mlflow.assistant.fab.autoOpenedOnFirstLoad_v1', 'true')"
"""MLflow opens a panel of its own over a third of the page, the first time that it is looked at."""


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    """A clean checkout with a sweep whose best cell was promoted, and what the sweep printed."""
    checkout = Checkout(tmp_path_factory.mktemp("ui") / "project")
    checkout.change("conf/evaluation/default.yaml", resamples=200)
    checkout.commit("A small project")
    done = checkout.job(*SWEEP)
    assert done.returncode == 0, done.stderr
    promoted = checkout.reliabit("promote", *LENIENT, "trainer.threads=1")
    assert promoted.returncode == 0, promoted.stdout + promoted.stderr
    return checkout, done.stdout


@pytest.fixture(scope="module")
def ui(sweep):
    """The server that `make ui` starts."""
    checkout, _ = sweep
    store = f"sqlite:///{checkout.root}/mlruns/mlflow.db"
    with started("ui", "--backend-store-uri", store, folder=checkout.root) as address:
        yield address


@pytest.fixture(scope="module")
def page(ui, tmp_path_factory):
    with chromium(tmp_path_factory.mktemp("profile") / "profile") as page:
        page.send("Emulation.setDeviceMetricsOverride", **SCREEN)
        page.send("Page.addScriptToEvaluateOnNewDocument", source=CALM)
        yield page


@pytest.fixture
def runs(sweep):
    root = sweep[0].root / "mlruns"
    tracker = Tracker(uri=f"sqlite:///{root}/mlflow.db", artifacts=str(root / "artifacts"), experiment="reliabit")
    return {
        run.info.run_name: run for run in [*tracker.runs_with({"kind": "cell"}), *tracker.runs_with({"kind": "sweep"})]
    }


def printed_link(text, name):
    return re.search(rf"^  {name} +(http\S+)$", text, re.MULTILINE)[1]


def look(page, address, *, wanted, name=None):
    """Open a page anew, wait for all of some texts, and keep a picture where pictures are asked for."""
    page.open("about:blank")
    page.open(address)
    for text in wanted:
        page.until(f"document.body.innerText.includes({text!r})", seconds=90)
    return keep(page, name)


def keep(page, name):
    folder = os.environ.get("RELIABIT_UI_PICTURES")
    if folder and name:
        page.evaluate("new Promise(done => setTimeout(done, 3000))")
        # Of more than the window, which would be resized for it, MLflow folds the description again.
        seen = page.send("Page.captureScreenshot")["data"]
        Path(folder, f"{name}.png").write_bytes(base64.b64decode(seen))
    return page.evaluate("document.body.innerText")


def there(ui, link):
    """A printed link, at the port of this server."""
    parts = urlsplit(link)
    assert parts.scheme + "://" + parts.netloc == "http://127.0.0.1:5000"
    return link.replace("http://127.0.0.1:5000", ui)


def test_the_list_of_runs_shows_what_a_choice_takes(page, ui):
    address = f"{ui}/#/experiments/1/runs?workflowType=machine_learning&viewStateShareKey=cells"
    wanted = ["accuracy percent", "AURC percent", "certified C at 5 percent alone", "stored MiB"]
    text = look(page, address, wanted=[*wanted, "qwen2_vl_tiny·easy_vqa·hqq·4b·s0"], name="ui_runs")
    # The page keeps its columns in any order; where they stand is what a reader sees.
    cells = "[...document.querySelectorAll('.ag-header-cell')]"
    placed = page.evaluate(f"{cells}.map(cell => [cell.getBoundingClientRect().left, cell.innerText.trim()])")
    assert [name for _, name in sorted(placed) if name in wanted] == wanted
    assert "5 matching runs" in text


def test_the_sweep_s_page_says_which_width_holds(page, ui, sweep):
    _, printed = sweep
    link = there(ui, printed_link(printed, "run"))
    text = look(page, link, wanted=["deploy", "best accuracy percent", "Show more"])
    assert "The policy smallest would choose it" in text
    page.send("Emulation.setDeviceMetricsOverride", **{**SCREEN, "height": 2 * HEIGHT})
    # It folds itself once more when the list of child runs arrives.
    page.until("document.body.innerText.includes('·hqq·2b·s0')", seconds=60)
    page.evaluate("new Promise(done => setTimeout(done, 4000))")
    page.evaluate("""document.querySelector('[aria-label="Expand description"]').click()""")
    page.until("document.body.innerText.includes('Show less')")
    page.until("[...document.images].some(one => one.src.includes('pareto.png') && one.naturalWidth > 0)", seconds=60)
    text = keep(page, "ui_parent")
    page.send("Emulation.setDeviceMetricsOverride", **SCREEN)
    assert "(chosen)" in text
    assert "certified C@5% (best of 5)" in text
    assert "reliabit promote" in text


def test_the_report_is_drawn_where_the_description_links_it(page, ui, runs):
    (parent,) = (run for run in runs.values() if run.data.tags["kind"] == "sweep")
    link = re.search(r"\[report\.html\]\((#[^)]+)\)", parent.data.tags["mlflow.note.content"])[1]
    look(page, f"{ui}/{link}", wanted=["report.html"])
    # MLflow lets the page's script run and nothing else; what is within its frame no other page may read.
    page.until("document.querySelector('iframe')?.getAttribute('sandbox') === 'allow-scripts'", seconds=60)
    keep(page, "ui_report")
    # Nothing was forbidden to it: it drew itself.
    assert [one for one in page.complaints() if "Content Security Policy" in one or "unsafe-eval" in one] == []


def test_a_cell_s_page_begins_with_the_headline_numbers(page, ui, runs):
    run = runs["qwen2_vl_tiny·easy_vqa·hqq·4b·s0"]
    address = f"{ui}/#/experiments/1/runs/{run.info.run_id}?workflowType=machine_learning"
    text = look(page, address, wanted=["accuracy percent", "quantized by hqq to 4 bits"], name="ui_cell")
    first = text.index("Search metrics") if "Search metrics" in text else text.index("Metrics (")
    assert text.index("accuracy percent", first) < text.index("certified C at 5 percent alone", first)
    assert "System metrics (" not in text


def test_the_printed_link_compares_the_cells(page, ui, sweep):
    link = there(ui, printed_link(sweep[1], "compare"))
    charts = ["stored MiB vs. certified C at 5 percent alone", "bits per weight vs. AURC percent"]
    wanted = ["What a choice takes", *charts]
    look(page, link, wanted=wanted, name="ui_compare")


def test_the_registered_version_is_described(page, ui):
    wanted = ["Measured by the run", "How well it does"]
    text = look(
        page, f"{ui}/#/models/reliabit/versions/1?workflowType=machine_learning", wanted=wanted, name="ui_version"
    )
    assert "Version 1" in text
