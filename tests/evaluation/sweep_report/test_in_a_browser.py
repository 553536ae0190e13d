"""The page as a reader uses it: in a browser, by keyboard, on a phone, in the dark, and with no server behind it."""

from importlib.util import find_spec
from pathlib import Path

import pytest

from evaluation.sweep_report.made import HOSTILE, PROVENANCE, reported_sweep
from evaluation.sweep_report.test_page import contents_of
from reliabit.evaluation.sweep_report import report_contents, report_page
from serving.chromium import BINARY, chromium

pytestmark = pytest.mark.skipif(not Path(BINARY).is_file(), reason="there is no Chromium to look with")

READY = "document.documentElement.dataset.ready === 'yes'"
DESKTOP, PHONE = (1200, 900, False), (360, 740, True)


@pytest.fixture(scope="module")
def written():
    sweep = reported_sweep()
    return report_page(report_contents(sweep, PROVENANCE))


@pytest.fixture(scope="module")
def address(written, tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(written, encoding="utf-8")
    return path.as_uri()


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with chromium(tmp_path_factory.mktemp("profile") / "profile") as page:
        yield page


def opened(browser, address, *, screen=DESKTOP, scheme="light"):
    width, height, mobile = screen
    browser.send("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
    browser.send("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=mobile)
    browser.events.clear()
    browser.open(address)
    browser.until(READY)
    return browser


@pytest.fixture
def page(browser, address):
    return opened(browser, address)


def text(page, selector):
    return page.evaluate(f"document.querySelector({selector!r}).textContent")


def test_it_draws_itself_without_a_complaint_and_asks_nobody(page, address):
    assert page.complaints() == []
    assert {one for one in page.requested() if not one.startswith("data:")} == {address}
    assert page.evaluate("document.querySelectorAll('.chart svg').length") == 6
    assert page.evaluate("[...document.images].every((one) => one.src.startsWith('data:'))")
    assert text(page, ".verdict") == "tiny · made: deploy hqq at 4 bits."
    # What a question holds is text, and ran nowhere.
    assert page.evaluate("document.title").startswith("Reliabit report")
    assert page.evaluate("document.querySelectorAll('.card b, .card i, .card u').length") == 0
    assert HOSTILE in text(page, ".card .asked")


def test_the_slider_moves_by_keyboard_and_the_numbers_follow(page, written):
    found = contents_of(written)
    points = found["families"][0]["cells"][1]["by_confidence"]["maxprob"]["points"]
    page.evaluate("document.getElementById('risk').focus()")
    for key, code, end in (("Home", 36, 0), ("End", 35, len(points) - 1), ("ArrowLeft", 37, len(points) - 2)):
        page.press(key, code)
        page.until(f"document.getElementById('target').textContent === '{found['risks'][end]:g} %'")
        coverage = points[end]["coverage"]
        assert text(page, "#coverage") == f"{coverage:.1f} %"
        spoken = page.evaluate("document.getElementById('risk').getAttribute('aria-valuetext')")
        assert spoken == f"{found['risks'][end]:g} % of what is answered may be wrong"
        # Every example is on one side or the other, by its own confidence.
        family, threshold = found["families"][0], points[end]["threshold"]
        answered = sum(
            threshold is not None and one["said"][1][2] >= threshold for one in family["questions"][: family["spread"]]
        )
        assert text(page, "#abstain details summary") == f"Answered: {answered} of {family['spread']} examples"


def test_choices_redraw_what_they_are_of(page):
    label = "document.querySelector('#pareto .chart').getAttribute('aria-label')"
    page.evaluate(
        "(one => { one.value = 2; one.dispatchEvent(new Event('change')); })(document.querySelector('#axis-x'))"
    )
    page.until(f"{label} === 'accuracy % against ms/question of each configuration'")
    lines = "document.querySelectorAll('#curves .chart')[0].querySelectorAll('.mark-line path').length"
    assert page.evaluate(lines) == 3
    page.evaluate("[...document.querySelectorAll('#curves input')].at(-1).click()")
    page.until(f"{lines} === 2")
    options = "[...document.querySelector('#flip-cell').options].map((one) => one.textContent)"
    assert [one.partition(" (")[0] for one in page.evaluate(options)] == ["tiny·hqq·4b", "tiny·hqq·2b"]


@pytest.mark.parametrize(("screen", "scheme"), [(DESKTOP, "light"), (PHONE, "dark")])
def test_everybody_can_read_it(browser, address, screen, scheme):
    page = opened(browser, address, screen=screen, scheme=scheme)
    assert page.evaluate("document.documentElement.dataset.theme") == scheme
    # Nothing but tables and the list of sections is wider than the screen.
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    heights = "[...document.querySelectorAll('button, select')].filter((one) => one.offsetParent)"
    assert min(page.evaluate(f"{heights}.map((one) => one.clientHeight)")) >= 30
    axe = find_spec("axe_core_python")
    assert axe is not None
    page.evaluate(Path(axe.origin).with_name("axe.min.js").read_text(encoding="utf-8"))
    found = page.evaluate(
        "axe.run().then((found) => found.violations.map((one) => [one.impact, one.id, one.nodes[0].html]))"
    )
    assert [one for one in found if one[0] in ("serious", "critical")] == []
