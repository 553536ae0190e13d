"""What a model does not take is a bad sample like any other, for all who ask it."""

import json
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from PIL import Image

from data.vqa_files import VQAV2, vqa_entries, write_vqa
from messages import NOT_THE_SAME_QUESTIONS
from reliabit.composition import register, to_config
from reliabit.data.bad_samples import tell
from reliabit.data.prepared_table import prepare, skipped_samples
from reliabit.errors import ReliabitError
from reliabit.evaluation.comparison import compare
from reliabit.evaluation.settings import EvaluationConfig
from reliabit.inference.further_passes import second_question
from reliabit.models.admission import Admission, read_context_length
from reliabit.models.loading import load_encoder
from reliabit.paths import conf_folder, project_root
from reliabit.serving.bundle.image_questions import ImageQuestion, QuestionsRefusedError, encode_questions
from reliabit.tasks._asked_questions import BAD_SAMPLES, asked_questions, load_questions

LONG = "is it red? " * 400
MODELS = {"qwen2_vl": "qwen2_vl_tiny", "idefics3": "idefics3_tiny"}


def config_of(root, *overrides, model="qwen2_vl_tiny"):
    register()
    with initialize_config_dir(str(conf_folder()), version_base="1.3"):
        chosen = [
            f"model={model}",
            f"model.path={project_root() / 'models' / model}",
            "data=vqav2",
            f"paths.root={root}",
            f"paths.output={root / 'output'}",
            "data.splits={dev: 0, val: 0.25, cal: 0, test: 0.75}",
            *overrides,
        ]
        return to_config(compose("config", overrides=chosen))


@pytest.fixture
def make_set(tmp_path):
    """A set of eight images with two questions each; some questions and image sizes are given by id."""

    def write(questions=(), sizes=()):
        entries = vqa_entries(images=8, questions_per_image=2)
        for entry in entries[0]:
            entry["question"] = dict(questions).get(entry["question_id"], "is it red?")
        root = write_vqa(tmp_path / "downloads" / "vqav2", images=8, questions_per_image=2, entries=entries)
        for image_id, size in dict(sizes).items():
            file = BytesIO()
            Image.new("RGB", size, (200, 30, 40)).save(file, format="JPEG")
            (root / VQAV2["images"].format(image_id=image_id)).write_bytes(file.getvalue())
        tell.cache_clear()
        return tmp_path

    return write


def asked(config, **options):
    listed = config.paths.output_folder() / BAD_SAMPLES
    return asked_questions(config, training=False, **{"listed_in": listed, **options}), listed


def ids(table):
    return [*zip(table["split"], table["shift"], table["question_id"], strict=True)]


BAD = [
    pytest.param({3000: "what is <|image_pad|>?"}, {}, "template reserves", "'<|image_pad|>'", id="image token"),
    pytest.param({3000: "red?<|im_end|>"}, {}, "template reserves", "'<|im_end|>'", id="special token"),
    pytest.param({3000: LONG}, {}, "longer than the model takes", "and the model takes 10", id="long"),
    pytest.param({}, {3: (1000, 4)}, "image is none that the model takes", "the image of 1000x4 pixels", id="thin"),
]


@pytest.mark.parametrize(("questions", "sizes", "problem", "detail"), BAD)
def test_bad_samples_end_the_task_before_anything_is_answered(questions, sizes, problem, detail, make_set):
    config = config_of(make_set(questions, sizes))
    count = 2 if sizes else 1
    with pytest.raises(ReliabitError) as raised:
        asked(config)
    message = str(raised.value)
    assert message.startswith(f"vqav2, asked of qwen2_vl_tiny: {count} samples cannot be used (")
    assert f"{problem}: {count})" in message
    assert message.endswith("repair the files, or set data.on_bad_sample=skip to go on without them")
    records = [json.loads(line) for line in (config.paths.output_folder() / BAD_SAMPLES).read_text().splitlines()]
    assert {record["image_id"] for record in records} == {"3"}
    assert all(problem in record["problem"] and detail in record["detail"] for record in records)
    with pytest.raises(ReliabitError, match=f"{count} samples cannot be used"):
        asked(config, listed_in=None)


@pytest.mark.parametrize(("questions", "sizes", "problem", "detail"), BAD)
def test_bad_samples_are_skipped_listed_and_told_of(questions, sizes, problem, detail, make_set, capsys):
    config = config_of(make_set(questions, sizes), "data.on_bad_sample=skip")
    table, listed = asked(config)
    everything = load_questions(config, training=False)
    left_out = {"3000", "3001"} if sizes else {"3000"}
    assert ids(table) == [key for key in ids(everything) if key[2] not in left_out]
    assert set(table["question_id"]) | left_out == set(everything["question_id"])
    assert {json.loads(line)["question_id"] for line in listed.read_text().splitlines()} == left_out
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert f"{problem}: {len(left_out)}); they are left out and listed in {listed}" in said
    # The table of the data holds them: another model may take them.
    assert skipped_samples(prepare(config.data, root=Path(config.paths.data))) == {}


def test_where_nothing_is_bad_nothing_is_listed_nor_said(make_set, capsys):
    config = config_of(make_set())
    config.paths.output_folder().mkdir()
    stale = config.paths.output_folder() / BAD_SAMPLES
    stale.write_text("{}\n")
    table, listed = asked(config)
    assert ids(table) == ids(load_questions(config, training=False))
    assert not listed.exists()
    assert capsys.readouterr().err == ""


def test_the_cells_of_a_family_are_asked_the_same(make_set):
    """Whatever is quantized, at whichever width; another family may take what this one does not."""
    root = make_set({3000: "what is <|image_pad|>?"}, {5: (1000, 4)})
    skip = "data.on_bad_sample=skip"
    cells = [config_of(root, skip, *quant) for quant in (["quant=none"], ["quant.bits=4"], ["quant.bits=2"])]
    found = [ids(asked(cell)[0]) for cell in cells]
    assert found[0] == found[1] == found[2]
    other = ids(asked(config_of(root, skip, model="idefics3_tiny"))[0])
    assert set(other) - set(found[0]) == set(ids(load_questions(cells[0], training=False))) - set(found[0])


def test_tables_of_families_that_take_other_questions_cannot_be_compared_by_mistake(make_set):
    root = make_set({}, dict.fromkeys((2, 5), (1000, 4)))
    tables = {
        name: asked(config_of(root, "data.on_bad_sample=skip", model=name))[0]
        .remove_columns("image")
        .with_format("arrow")[:]
        for name in ("qwen2_vl_tiny", "idefics3_tiny")
    }
    with pytest.raises(ReliabitError, match=NOT_THE_SAME_QUESTIONS):
        compare(tables, EvaluationConfig(reported="test"), baseline="qwen2_vl_tiny")


def test_what_a_shift_makes_of_a_question_is_judged(make_set):
    """A question that fits as it is may be too long once it is misspelled; an image of every shift may be too thin."""
    model = config_of(project_root()).model
    room = read_context_length(Path(model.path)) - model.max_new_tokens
    fits = Admission(load_encoder(model), longest=room)
    # As many words as just fit beside an image of this size.
    full = next(
        text for n in range(1000, 0, -1) if fits.refusals([text := "rectangle " * n + "?"], [(16, 16)]) == [None]
    )
    overrides = ["data.splits={dev: 0, val: 0, cal: 0, test: 1.0}", "data.shifts=[misspelled_5, contrast_1]"]
    root = make_set({3000: full}, {4: (1000, 4)})
    config = config_of(root, "data.on_bad_sample=skip", "data.shift_images=null", *overrides)
    table, listed = asked(config)
    lost = set(ids(load_questions(config, training=False))) - set(ids(table))
    thin = {
        ("test", shift, question) for shift in ("none", "misspelled_5", "contrast_1") for question in ("4000", "4001")
    }
    assert lost == thin | {("test", "misspelled_5", "3000")}
    assert len(listed.read_text().splitlines()) == len(lost)


def test_a_split_of_which_nothing_is_left_is_named(make_set):
    root = make_set({}, dict.fromkeys(range(1, 9), (1000, 4)))
    with pytest.raises(ReliabitError, match="qwen2_vl_tiny takes no question of the split test of vqav2; repair"):
        asked(config_of(root, "data.on_bad_sample=skip"))


def test_the_second_prompt_of_p_true_must_fit_as_well(make_set):
    root = make_set()
    template = "{question} " + "is it red or blue? " * 180 + "{answer}?"
    plain = config_of(root, "data.on_bad_sample=skip", "confidence=all")
    assert len(asked(plain)[0]) == 16
    config = replace(
        plain, confidence=replace(plain.confidence, p_true=replace(plain.confidence.p_true, template=template))
    )
    with pytest.raises(ReliabitError, match="takes no question of the split"):
        asked(config)
    without = replace(config, confidence=replace(config.confidence, estimators=["maxprob"]))
    assert len(asked(without)[0]) == 16


def test_an_answer_with_the_text_of_a_token_is_shown_without_it():
    encoder = load_encoder(config_of(project_root()).model)
    assert (
        second_question("{question} {answer}?", question="red", answer="no<|image_pad|>", encoder=encoder) == "red no?"
    )


@pytest.mark.parametrize("family", MODELS)
@pytest.mark.parametrize("size", [(64, 64), (1, 1), (300, 40), (40, 300), (1000, 700)])
def test_the_tokens_that_are_counted_are_those_that_are_encoded(family, size):
    config = config_of(project_root(), model=MODELS[family])
    encoder = load_encoder(config.model)
    file = BytesIO()
    Image.new("RGB", size).save(file, format="PNG")
    questions = ["is it red?", "what is the colour of the shape?"]
    rows = [
        {"question_id": str(n), "image_id": "1", "source": "made", "image": file.getvalue(), "question": question}
        for n, question in enumerate(questions)
    ]
    tokens = encoder(rows).text["attention_mask"].sum(1).tolist()
    for longest, expected in ((max(tokens), [None, None]), (min(tokens) - 1, [*tokens])):
        found = Admission(encoder, longest=longest).refusals(questions, [size] * 2)
        assert [None if one is None else int(one.detail.split()[3]) for one in found] == expected


def test_idefics3_counts_the_tiles_of_a_split_image():
    encoder = load_encoder(config_of(project_root(), model="idefics3_tiny").model)
    images = encoder.processor.image_processor
    images.do_image_splitting, images.size, images.max_image_size = True, {"longest_edge": 256}, {"longest_edge": 64}
    for size in ((64, 64), (200, 70), (70, 200), (512, 512)):
        [expected] = encoder.adapter.encode_images(encoder.processor, [Image.new("RGB", size)]).placeholders
        assert encoder.adapter.placeholder(encoder.processor, size) == expected


@pytest.mark.parametrize(("questions", "sizes", "problem", "detail"), BAD)
def test_the_service_refuses_in_the_same_words(questions, sizes, problem, detail, make_set):
    config = config_of(make_set(questions, sizes), "data.on_bad_sample=skip")
    everything = load_questions(config, training=False)
    row = next(row for row in everything if row["question_id"] == "3000")
    longest = read_context_length(project_root() / "models" / "qwen2_vl_tiny") - config.model.max_new_tokens
    admission = Admission(load_encoder(config.model), longest=longest)
    with pytest.raises(QuestionsRefusedError) as raised:
        encode_questions([ImageQuestion(image=row["image"], question=row["question"])], admission=admission)
    listed = json.loads(asked(config)[1].read_text().splitlines()[0])
    assert raised.value.reasons[0].startswith(f"{listed['detail']}; ")
    assert detail in raised.value.reasons[0]
