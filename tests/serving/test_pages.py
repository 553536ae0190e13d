"""The page in a real browser, before a real service."""

import os
from pathlib import Path

import numpy as np
import pytest

from reliabit.serving.http._pages import PAGE
from serving.chromium import chromium
from serving.running import service

SHOTS = os.environ.get("RELIABIT_SCREENSHOTS")


def test_the_page_asks_nobody_else():
    assert "http://" not in PAGE.html
    assert "https://" not in PAGE.html
    assert PAGE.policy.count("'sha256-") == 2
    assert "unsafe" not in PAGE.policy


def shoot(page, name):
    """Keep a picture where a person asked for it."""
    if SHOTS:
        page.screenshot(Path(SHOTS) / f"{name}.png")


@pytest.mark.slow
def test_a_person_asks_and_sees_answer_abstention_and_errors(plain, tmp_path):
    sure, unsure = int(np.argmax(plain.confidence)), int(np.argmin(plain.confidence))
    files = {}
    for name, row in (("sure", sure), ("unsure", unsure)):
        files[name] = tmp_path / f"{name}.png"
        files[name].write_bytes(plain.table[row]["image"])
    files["text"] = tmp_path / "text.png"
    files["text"].write_text("no image at all")
    with service(plain.bundle, tmp_path) as running, chromium(tmp_path / "profile") as page:
        page.open(running.url)
        page.until("document.querySelectorAll('#risk option').length === 3")
        assert "Model plain, version" in page.evaluate("document.getElementById('model').textContent")
        assert page.evaluate("document.getElementById('risk').value") == "0.1"
        shoot(page, "empty")

        # A sure answer, asked by keyboard alone once the file is chosen.
        page.choose_file("#image", files["sure"])
        page.until("document.getElementById('preview').naturalWidth > 0")
        page.evaluate("document.getElementById('question').focus()")
        page.type(plain.table[sure]["question"])
        page.press("Enter", 13, "\r")
        page.until("document.getElementById('result').className === 'given'")
        assert page.evaluate("document.getElementById('said').textContent") == plain.answers[sure]
        level = float(page.evaluate("document.getElementById('bar').getAttribute('aria-valuenow')"))
        assert level == pytest.approx(plain.confidence[sure], abs=1e-3)
        bar, filled = (
            page.evaluate(f"document.getElementById('{name}').getBoundingClientRect().width")
            for name in ("bar", "level")
        )
        assert filled / bar == pytest.approx(plain.confidence[sure], abs=0.02)
        assert page.evaluate("document.getElementById('mark').getBoundingClientRect().height") > 20
        shoot(page, "given")

        # An unsure one is withheld, and nowhere on the page.
        page.choose_file("#image", files["unsure"])
        page.evaluate(f"document.getElementById('question').value = {plain.table[unsure]['question']!r}")
        page.evaluate("document.getElementById('ask').click()")
        page.until("document.getElementById('result').className === 'withheld'")
        assert page.evaluate("document.getElementById('said').textContent") == "The model abstains"
        assert "It is not sure enough" in page.evaluate("document.getElementById('why').textContent")
        shoot(page, "withheld")

        # A risk that nothing is certified for.
        page.evaluate("document.getElementById('risk').value = '0.01'")
        page.evaluate("document.getElementById('ask').click()")
        page.until("document.getElementById('scale').textContent.includes('no confidence would be enough')")
        assert page.evaluate("document.getElementById('mark').hidden")

        # What the service refuses is shown in its words.
        assert page.complaints() == []
        page.choose_file("#image", files["text"])
        page.evaluate("document.getElementById('ask').click()")
        page.until("document.getElementById('result').className === 'wrong'")
        assert "no PNG, JPEG or WebP file" in page.evaluate("document.getElementById('said').textContent")
        assert page.evaluate("document.getElementById('numbers').hidden")
        shoot(page, "refused")

        # Every control has a name, and nothing came from elsewhere.
        nodes = page.send("Accessibility.getFullAXTree")["nodes"]
        roles = {"textbox", "combobox", "button", "meter"}
        controls = [node for node in nodes if node.get("role", {}).get("value") in roles]
        assert len(controls) >= 4
        assert all(node["name"]["value"] for node in controls)
        assert all(url.startswith((running.url, "data:", "blob:")) for url in page.requested() - {"about:blank"})
        assert running.stop() == 0
