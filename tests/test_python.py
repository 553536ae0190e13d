"""What `import reliabit` gives, as somebody's own script uses it."""

import subprocess
import sys
from io import BytesIO
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

import reliabit
from reliabit.asking import answer, load
from reliabit.errors import ReliabitError
from reliabit.evaluation.own_answers.measuring import HALVES
from reliabit.measuring import certify, evaluate, measure

CURATED = [
    "ReliabitError",
    "answer",
    "certify",
    "evaluate",
    "load",
    "measure",
    "metrics",
    "quant",
    "quantize_model",
    "save_checkpoint",
]


def test_the_package_shows_what_it_gives_and_no_more():
    assert sorted(dir(reliabit)) == sorted(reliabit.__all__) == CURATED
    assert all(getattr(reliabit, name) is not None for name in CURATED)
    with pytest.raises(AttributeError):
        reliabit.nothing  # noqa: B018 - the access is what is tested


def test_importing_it_takes_no_module_that_a_name_needs():
    heavy = "{'numpy', 'torch', 'reliabit.measuring', 'reliabit.asking', 'reliabit.errors'}"
    code = f"import sys, reliabit; assert dir(reliabit); print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.fixture(scope="module")
def drawn():
    random = np.random.default_rng(5)
    confidence = random.random(600)
    return {
        "confidence": confidence,
        "correct": random.random(600) < confidence**0.3,
        "image": [f"i{number // 3}" for number in range(600)],
        "selector": random.random(600),
    }


def test_arrays_and_tables_give_the_same_report(drawn, tmp_path):
    settings = {"resamples": 30, "risks": (0.2,), "seed": 1}
    by_arrays = measure(
        torch.tensor(drawn["confidence"]),
        drawn["correct"],
        group=drawn["image"],
        second=drawn["selector"].tolist(),
        **settings,
    ).to_dict()
    frame = pd.DataFrame(drawn)
    frame.to_parquet(tmp_path / "answers.parquet")
    for table in (drawn, frame, tmp_path / "answers.parquet", frame.to_dict("records")):
        by_table = evaluate(table, **settings).to_dict()
        assert by_table["metrics"]["selector"] == by_arrays["metrics"]["second"]
        assert by_table["certified"]["confidence"] == by_arrays["certified"]["confidence"]
        assert by_table["differences"] == by_arrays["differences"]


def test_a_threshold_is_certified_on_half_of_the_groups(drawn):
    certificate = certify(drawn["confidence"], drawn["correct"], risk=0.2, group=drawn["image"])
    assert (certificate.n_cal, certificate.one_per_image) == (100, True)
    assert HALVES == {"val": 0.5, "cal": 0.5}
    splits = np.where(np.arange(600) < 300, "val", "cal")
    told = certify(drawn["confidence"], drawn["correct"], risk=0.2, split=splits)
    assert (told.n_dev, told.n_cal, told.one_per_image) == (300, 300, False)
    assert (
        reliabit.metrics.certify_threshold(
            *(drawn[name][splits == one] for one in ("val", "cal") for name in ("confidence", "correct")), 0.2, 0.05
        )
        == told
    )


@pytest.mark.parametrize(
    ("function", "arguments", "message"),
    [
        (measure, ([0.5, 0.4], [1]), "confidence has 2 values and correct has 1"),
        (measure, ([0.5], [3]), "correct is 3 in row 1 of the table"),
        (certify, ([0.5], [1]), "no row is of the split"),
        (evaluate, ("nowhere.csv",), "there is no file nowhere.csv; name one of CSV, TSV, JSONL or Parquet"),
    ],
)
def test_mistakes_are_told_in_one_sentence(function, arguments, message):
    with pytest.raises(ReliabitError, match=message) as refused:
        function(*arguments)
    assert "\n" not in str(refused.value)


@pytest.fixture(scope="module")
def tiny():
    return load(Path(__file__).parents[1] / "models" / "qwen2_vl_tiny", dtype="float32")


def questions(folder):
    """One question about a file, one about its bytes and one about an image of Pillow, all red."""
    image = Image.new("RGB", (64, 64), "red")
    image.save(folder / "red.png")
    held = BytesIO()
    image.save(held, format="PNG")
    asked = {"question": "what color is the background?", "answers": "red"}
    return [
        {**asked, "image": folder / "red.png"},
        {**asked, "image": held.getvalue(), "answers": ["blue"] * 3, "question_id": "b", "image_id": "x"},
        {**asked, "image": image},
        {**asked, "image": {"bytes": held.getvalue(), "path": None}, "image_id": "x"},
    ]


@pytest.mark.medium
def test_a_checkpoint_is_loaded_asked_quantized_and_written(tiny, tmp_path, capfd):
    asked = questions(tmp_path)
    answers = answer(tiny, asked, accelerator="cpu")
    assert answers.column_names == ["question_id", "image_id", "question", "answer", "confidence", "correct"]
    assert answers["question_id"].to_pylist() == ["0", "b", "2", "3"]
    assert answers["image_id"].to_pylist() == [str(tmp_path / "red.png"), "x", "2", "x"]
    # The same picture and question, however it is given.
    assert len(set(answers["answer"].to_pylist())) == 1
    said = answers["answer"][0].as_py()
    assert answers["correct"].to_pylist() == [float(said == reference) for reference in ("red", "blue", "red", "red")]
    # One reference counts as ten annotators of one mind, and so do three.
    for references in (said, [said] * 3):
        assert answer(tiny, [{**asked[0], "answers": references}], accelerator="cpu")["correct"].to_pylist() == [1.0]
    assert evaluate(answers, resamples=5).groups == 3
    assert "TPU" not in capfd.readouterr().err
    report = reliabit.quantize_model(tiny.model, bits=3)
    assert report.effective_bits == 3.5
    reliabit.save_checkpoint(tiny.model, tmp_path / "hqq3", processor_from=Path(tiny.model.name_or_path))
    again = load(tmp_path / "hqq3", dtype="float32")
    quantized = answer(tiny, asked, accelerator="cpu")
    assert answer(again, asked, accelerator="cpu") == quantized
    assert quantized["confidence"] != answers["confidence"]
    assert again.processor.tokenizer.get_vocab() == tiny.processor.tokenizer.get_vocab()


@pytest.mark.medium
def test_questions_that_cannot_be_asked_are_refused(tiny, tmp_path):
    (whole, *_) = questions(tmp_path)
    for rows, message in (
        ([], "there is no question; give at least one"),
        ([whole, {"question": "what?"}], "question 2 has no image and no answers; give each of them"),
        ([{**whole, "image": tmp_path / "no.png"}], r"the image .*no.png of question 1 cannot be read \(No such file"),
        ([{**whole, "answers": []}], "question 1 has no answers; give at least one reference"),
        ([{**whole, "image": 3}], "the image of question 1 is a int; give a path, bytes or an image"),
    ):
        with pytest.raises(ReliabitError, match=message):
            answer(tiny, rows)


def test_a_folder_of_another_family_is_refused(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    with pytest.raises(
        ReliabitError, match="is of the model type llama, which no family is for; choose a checkpoint of"
    ):
        load(tmp_path)
    with pytest.raises(ReliabitError, match=r"nowhere"):
        load(tmp_path / "nowhere")
