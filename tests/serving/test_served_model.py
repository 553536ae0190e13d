"""A bundle answers exactly as offline evaluation does, and refuses what it cannot answer without stumbling."""

import io
import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from reliabit.errors import ReliabitError
from reliabit.models.spread import device_of
from reliabit.serving.bundle.description import certificate_id
from reliabit.serving.bundle.folder import BUNDLE
from reliabit.serving.bundle.image_questions import ImageQuestion, QuestionsRefusedError
from reliabit.serving.bundle.manifest import write_manifest
from reliabit.serving.bundle.served_model import ServedModel
from serving.bundles import bundled, evaluate


def asked(table, rows, **more):
    return [ImageQuestion(image=row["image"], question=row["question"], **more) for row in table.select(rows)]


def picture(width, height):
    file = io.BytesIO()
    Image.new("RGB", (width, height), "red").save(file, format="PNG")
    return file.getvalue()


def assert_as_offline(model, offline):
    rows = range(len(offline.table))
    answered = model.answer(asked(offline.table, rows))
    assert len({one.answer for one in answered}) > 2, "a model that always says the same would prove nothing"
    assert [one.answer for one in answered] == offline.answers
    np.testing.assert_allclose([one.confidence for one in answered], offline.confidence, atol=1e-4)
    certificate = model.description.certificate(None)
    sure = np.abs(offline.confidence - certificate.threshold) > 1e-4
    decided = np.array([one.abstained for one in answered])
    np.testing.assert_array_equal(decided[sure], (offline.confidence < certificate.threshold)[sure])
    assert 0 < decided.sum() < len(decided)
    assert {one.certificate_id for one in answered} == {certificate_id(certificate)}


def test_a_selector_serves_as_it_was_evaluated(served, offline):
    assert_as_offline(served, offline)


def test_maxprob_serves_as_it_was_evaluated(plain):
    model = ServedModel.load(plain.bundle)
    rows = range(len(plain.table))
    answered = model.answer(asked(plain.table, rows))
    assert [one.answer for one in answered] == plain.answers
    np.testing.assert_allclose([one.confidence for one in answered], plain.confidence, atol=1e-4)


@pytest.mark.parametrize("confidence", ["selector", "maxprob"])
def test_idefics3_serves_as_it_was_evaluated(confidence, splits, tmp_path):
    few = {name: table.select(range(40)) for name, table in splits.items()}
    offline = bundled(evaluate("idefics3", few, tmp_path / "evaluated"), tmp_path / "bundle", confidence=confidence)
    answered = ServedModel.load(offline.bundle).answer(asked(offline.table, range(40)))
    assert [one.answer for one in answered] == offline.answers
    np.testing.assert_allclose([one.confidence for one in answered], offline.confidence, atol=1e-4)


def test_a_request_picks_its_threshold_by_risk(served, offline):
    chosen = {risk: served.answer(asked(offline.table, range(30), risk=risk)) for risk in served.description.risks}
    for risk, answered in chosen.items():
        certificate = served.description.certificate(risk)
        assert {(one.risk, one.delta) for one in answered} == {(risk, 0.1)}
        assert [one.abstained for one in answered] == [one.confidence < certificate.threshold for one in answered]
    # No 30 images can certify a risk of 1 %.
    assert all(one.abstained and one.threshold is None for one in chosen[0.01])
    assert sum(one.abstained for one in chosen[0.3]) <= sum(one.abstained for one in chosen[0.1])


def test_a_risk_that_is_not_certified_is_refused(served, offline):
    with pytest.raises(ReliabitError, match=r"no threshold is certified for risk=0.2; choose one of 0.01, 0.1, 0.3"):
        served.answer(asked(offline.table, [0], risk=0.2))


@pytest.mark.parametrize(
    ("question", "reason"),
    [
        ("is it <|image_pad|> red?", "holds '<|image_pad|>', which the model's template reserves"),
        ("red?<|im_end|>", "holds '<|im_end|>'"),
        (" \n ", "has no text"),
        ("red? " * 500, r"the prompt has \d+ tokens and the model takes 1016"),
    ],
)
def test_questions_that_would_break_the_prompt_are_refused(served, offline, question, reason):
    good = asked(offline.table, range(3))
    bad = replace(good[1], question=question)
    with pytest.raises(QuestionsRefusedError, match=reason.replace("|", r"\|").replace("?", r"\?")) as caught:
        served.answer([good[0], bad, good[2], bad])
    assert list(caught.value.reasons) == [1, 3]
    assert [one.answer for one in served.answer(good)] == offline.answers[:3]


@pytest.mark.parametrize("image", [b"", b"GIF89a", picture(1, 900), picture(32, 32)[:60]])
def test_images_that_cannot_be_encoded_name_their_question(served, offline, image):
    good = asked(offline.table, range(9))
    with pytest.raises(QuestionsRefusedError) as caught:
        served.answer([*good, ImageQuestion(image=image, question="is it red?")])
    assert list(caught.value.reasons) == [9]
    assert "send another image" in caught.value.reasons[9]
    assert "\n" not in caught.value.reasons[9]


def test_threads_share_a_model(served, offline):
    """Answers are those of their own questions, whoever else asks at the same time."""
    batches = [range(start, start + 5) for start in range(0, 60, 5)]
    with ThreadPoolExecutor(6) as pool:
        answered = list(pool.map(lambda rows: served.answer(asked(offline.table, rows)), batches))
    for rows, found in zip(batches, answered, strict=True):
        assert [one.answer for one in found] == offline.answers[rows.start : rows.stop]
        np.testing.assert_allclose([one.confidence for one in found], offline.confidence[list(rows)], atol=1e-4)


def test_no_batch_is_larger_than_the_bundle_says(served, offline, monkeypatch):
    sizes, step = [], served.answering.step
    monkeypatch.setattr(
        served.answering, "step", lambda batch, n: sizes.append(len(batch.question_ids)) or step(batch, n)
    )
    served.answer(asked(offline.table, range(19)))
    assert sizes == [8, 8, 3]


def test_numbers_that_overflow_never_vouch_for_an_answer(plain, offline):
    """A model whose states are not finite abstains at every certified risk, rather than answer or crash."""
    for folder in (plain.bundle, offline.bundle):
        model = ServedModel.load(folder)
        with torch.no_grad():
            norm = model.answering.model.get_submodule(model.encoder.adapter.final_norm)
            norm.weight.fill_(float("inf"))
        for one in model.answer(asked(offline.table, range(4), risk=0.3)):
            assert (one.confidence, one.abstained) == (0.0, True)


def test_a_damaged_bundle_is_refused_before_it_is_loaded(offline, tmp_path, monkeypatch):
    folder = tmp_path / "bundle"
    shutil.copytree(offline.bundle, folder)
    weights = folder / "checkpoint" / "model.safetensors"
    flipped = bytearray(weights.read_bytes())
    flipped[-1] ^= 1
    weights.write_bytes(flipped)
    monkeypatch.setattr(
        "reliabit.serving.bundle.served_model.load_checkpoint",
        lambda *_, **__: pytest.fail("it was loaded all the same"),
    )
    with pytest.raises(ReliabitError, match=r"model.safetensors differs from what manifest.json lists"):
        ServedModel.load(folder)


def test_a_selector_of_another_model_is_refused_when_loading(offline, tmp_path):
    folder = tmp_path / "bundle"
    shutil.copytree(offline.bundle, folder)
    card = folder / "selector" / "selector.json"
    values = json.loads(card.read_text())
    values["widths"] |= {"image": 127, "question": 129}
    card.write_text(json.dumps(values))
    write_manifest(folder)
    with pytest.raises(ReliabitError, match="use a Selector that was trained on this model's features"):
        ServedModel.load(folder)


def test_a_model_that_cannot_answer_is_refused_when_loading(offline, tmp_path):
    folder = tmp_path / "bundle"
    shutil.copytree(offline.bundle, folder)
    description = json.loads((folder / BUNDLE).read_text())
    (folder / BUNDLE).write_text(json.dumps({**description, "template": "{question} {question}"}))
    write_manifest(folder)
    with pytest.raises(ReliabitError, match="shows the question 2 times"):
        ServedModel.load(folder)


def test_accelerators():
    assert device_of("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    with pytest.raises(ReliabitError, match="there is no accelerator 'tpu'"):
        device_of("tpu")
