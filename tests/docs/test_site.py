"""The site: it is built without a warning, has every page, asks nobody outside, and finds what is searched for."""

import doctest
import os
import re
import subprocess
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml

from launching import PROJECT
from serving.chromium import BINARY, chromium

DOCS = PROJECT / "docs"
HOOKS = sorted(path.stem for path in (DOCS / "hooks").glob("*.py"))
ELSEWHERE = re.compile(
    r"""<(?:script|link|img|iframe|source)[^>]+(?:src|href)=["']?(?:https?:)?//|url\(["']?https?://"""
)

pytestmark = pytest.mark.skipif(find_spec("mkdocs") is None, reason="the packages of the extra dev are missing")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The folder of the built site."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=PROJECT, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return folder


def nav():
    pages = import_module("pages")
    return [*pages.named_in(yaml.safe_load((PROJECT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"])]


def test_every_page_is_in_the_navigation_once():
    pages, named = import_module("pages"), nav()
    assert len(named) == len({*named})
    written = {path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")}
    assert written - {*named} == set()
    assert {*named} - written <= {*pages.MADE, *pages.SHOWN_AS.values()}
    assert {*pages.MADE, *pages.SHOWN_AS.values()} <= {*named}


@pytest.mark.parametrize("name", HOOKS)
def test_the_examples_of_what_builds_the_site_run(name):
    assert doctest.testmod(import_module(name)).failed == 0


@pytest.mark.medium
def test_it_is_built_and_has_every_page(site):
    expected = {Path(name).with_suffix(".html").as_posix() for name in nav()}
    assert {name for name in expected if not (site / name).is_file()} == set()
    # What builds it is no part of it.
    assert not (site / "hooks").exists()


@pytest.mark.medium
def test_it_asks_nobody_outside(site):
    files = [*site.rglob("*.html"), *site.rglob("*.css")]
    assert [path.name for path in files if ELSEWHERE.search(path.read_text(encoding="utf-8"))] == []


@pytest.mark.medium
def test_the_reference_has_every_name_that_python_code_imports(site):
    import reliabit
    from reliabit import metrics, quant
    from reliabit.metrics import functional

    of_python = (site / "reference" / "python.html").read_text(encoding="utf-8")
    of_metrics = (site / "reference" / "metrics.html").read_text(encoding="utf-8")
    for package, text in ((reliabit, of_python), (quant, of_python), (metrics, of_metrics), (functional, of_metrics)):
        names = {name for name in package.__all__ if type(getattr(package, name)).__name__ != "module"}
        assert len(names) > 5
        assert {name for name in names if not re.search(rf'id="reliabit[\w.]*\.{name}"', text)} == set()


@pytest.mark.medium
def test_the_page_of_settings_has_every_key(site):
    from dataclasses import is_dataclass

    from reliabit.composition import fields_of, type_of

    text = (site / "reference" / "settings.html").read_text(encoding="utf-8").replace("<wbr>", "")
    told = {*re.findall(r"<code>([\w.&;]+)</code>", text)}
    waiting, found = [""], set()
    while waiting:
        group = waiting.pop()
        for name in fields_of(group) or {}:
            key = f"{group}.{name}" if group else name
            # Of several by name, and of those within others, the class is told where it stands at the top.
            (waiting.append if is_dataclass(type_of(key)) else found.add)(key)
    assert len(found) > 100
    assert {key for key in found if key not in told} == set()


@pytest.mark.medium
def test_findings_commands_and_changes_are_pages_of_it(site):
    findings = (site / "project" / "findings.html").read_text(encoding="utf-8")
    assert [script.name for script in (PROJECT / "findings").glob("*.sh") if script.name not in findings] == []
    commands = (site / "reference" / "commands.html").read_text(encoding="utf-8")
    assert all(f"reliabit {name}" in commands for name in ("promote", "serve", "metrics", "pull", "doctor"))
    assert "Unreleased" in (site / "project" / "changelog.html").read_text(encoding="utf-8")


@pytest.mark.slow
@pytest.mark.skipif(not Path(BINARY).exists(), reason="chromium is missing")
@pytest.mark.parametrize(("width", "scheme"), [(1400, "light"), (390, "dark")])
def test_a_reader_without_a_network_finds_something(site, tmp_path, width, scheme):
    """From a folder, as it is unpacked: no request leaves it, nothing is wider than the screen, the search answers."""
    with chromium(tmp_path / "profile") as page:
        page.send("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
        page.send("Emulation.setDeviceMetricsOverride", **size)
        # The page for what is not there is for servers: from wherever it is shown, it names files from the root.
        for path in sorted({*site.rglob("*.html")} - {site / "404.html"}):
            page.open(path.as_uri())
            wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
            assert wide <= 0, path.name
        page.open((site / "index.html").as_uri())
        shown = "dark" if scheme == "dark" else "light"
        visible = "[...document.querySelectorAll('article img')].filter(one => one.offsetWidth > 0).map(one => one.src)"
        assert all(f".{shown}.svg" in name for name in page.evaluate(visible))
        page.evaluate("document.getElementById('__search').click()")
        page.evaluate("document.querySelector('.md-search__input').focus()")
        page.type("certified coverage")
        page.until("document.querySelectorAll('.md-search-result__item').length > 2")
        assert page.complaints() == []
        assert {url.partition(":")[0] for url in page.requested()} <= {"file", "data", "about"}


@pytest.mark.slow
@pytest.mark.skipif(not Path(BINARY).exists(), reason="chromium is missing")
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(site, tmp_path, scheme):
    axe = pytest.importorskip("axe_core_python", reason="axe-core-python is missing")
    script = (Path(axe.__path__[0]) / "axe.min.js").read_text(encoding="utf-8")
    serious = "r.violations.filter(v => ['serious', 'critical'].includes(v.impact)).map(v => v.id)"
    found = {}
    with chromium(tmp_path / "profile") as page:
        page.send("Emulation.setDeviceMetricsOverride", width=1400, height=900, deviceScaleFactor=1, mobile=False)
        page.send("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        for name in ("index", "concepts", "own_quantizer", "peers", "reference/settings"):
            page.open((site / f"{name}.html").as_uri())
            page.until("document.getAnimations().every(one => one.playState !== 'running')")
            page.evaluate(f"{script}; 0")
            found[name] = page.evaluate(f"axe.run().then(r => {serious})")
    assert {name: rules for name, rules in found.items() if rules} == {}
