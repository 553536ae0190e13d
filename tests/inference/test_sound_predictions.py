"""Predictions tables that are damaged, hostile or simply wrong: one sentence each, whatever reads them."""

import random

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hydra import compose, initialize_config_dir

from reliabit.composition import register, to_config
from reliabit.errors import ReliabitError
from reliabit.evaluation.prediction_columns import FITTED_ON, fitted_on_of
from reliabit.inference._sound_predictions import sound_predictions
from reliabit.inference.predictions import COLUMNS, read_predictions, write_predictions
from reliabit.paths import conf_folder
from reliabit.tasks.evaluate import evaluate

ROWS = 40
TEXTS = {
    "source": ["made"] * ROWS,
    "split": ["test"] * 30 + ["val"] * 10,
    "shift": ["none"] * 20 + ["contrast_1"] * 10 + ["none"] * 10,
    "question_id": [str(n) for n in (*range(20), *range(10), *range(100, 110))],
    "image_id": [str(n // 2) for n in (*range(20), *range(10), *range(100, 110))],
    "question_type": ["color"] * ROWS,
    "answer_type": ["other"] * ROWS,
    "question": ["what is it?"] * ROWS,
    "answer": ["red"] * ROWS,
    "answer_normalized": ["red"] * ROWS,
}


@pytest.fixture
def table():
    numbers = np.random.default_rng(0).random(ROWS)
    columns = {**TEXTS, "conf_selector": [*numbers[:30], *[None] * 10]}
    for name, kind in COLUMNS.items():
        if name not in columns:
            columns[name] = {"double": numbers, "int32": [2] * ROWS, "bool": [False] * ROWS}[kind]
    kinds = {name: pa.type_for_alias(kind) for name, kind in COLUMNS.items()} | {"conf_selector": pa.float64()}
    return pa.table({name: pa.array(columns[name], type=kind, from_pandas=False) for name, kind in kinds.items()})


@pytest.fixture
def path(tmp_path):
    return tmp_path / "predictions.parquet"


def changed(table, name, values, kind=None):
    number = table.column_names.index(name)
    return table.set_column(number, name, pa.array(values, type=kind or table[name].type, from_pandas=False))


def with_value(table, name, row, value):
    values = table[name].to_pylist()
    values[row] = value
    return changed(table, name, values)


def test_a_sound_table_is_read_as_it_is(table, path):
    write_predictions(table, path)
    assert read_predictions(path).equals(table)


def test_types_that_hold_the_same_values_are_read_as_ours(table, path):
    """As other tools write them: large or dictionary-encoded texts, wider integers, narrower floats, whole numbers."""
    other = table
    for name, kind in {
        "question": pa.large_string(),
        "split": pa.dictionary(pa.int8(), pa.string()),
        "n_tokens": pa.int64(),
        "n_annotators": pa.uint8(),
    }.items():
        number = other.column_names.index(name)
        other = other.set_column(number, name, other[name].cast(kind))
    other = changed(other, "accuracy", [1] * ROWS, pa.int64())
    pq.write_table(other, path)
    found = read_predictions(path)
    assert found.schema.equals(table.schema)
    assert found.equals(changed(table, "accuracy", [1.0] * ROWS))


WRONG = {
    "accuracy above 1": (lambda t: with_value(t, "accuracy", 3, 1.5), r"accuracy holds 1\.5 in row 3, .* 0 and 1"),
    "accuracy below 0": (lambda t: with_value(t, "accuracy", 3, -0.1), r"accuracy holds -0\.1 in row 3"),
    "accuracy NaN": (lambda t: with_value(t, "accuracy", 3, float("nan")), "accuracy holds nan in row 3"),
    "accuracy null": (lambda t: with_value(t, "accuracy", 3, None), "accuracy holds nothing in row 3"),
    "confidence NaN": (lambda t: with_value(t, "conf_maxprob", 0, float("nan")), "conf_maxprob holds nan in row 0"),
    "confidence infinite": (
        lambda t: with_value(t, "conf_selector", 1, float("inf")),
        "conf_selector holds inf in row 1",
    ),
    "confidence above 1": (lambda t: with_value(t, "conf_maxprob", 1, 7.0), "conf_maxprob holds 7.0 in row 1"),
    "log-probability infinite": (lambda t: with_value(t, "log_prob", 1, -np.inf), "log_prob holds -inf in row 1"),
    "question null": (lambda t: with_value(t, "question_id", 2, None), "question_id holds nothing in row 2"),
    "split null": (lambda t: with_value(t, "split", 2, None), "split holds nothing in row 2"),
    "accuracy as text": (
        lambda t: changed(t, "accuracy", ["1"] * ROWS, pa.string()),
        "accuracy holds string and not dou",
    ),
    "accuracy as list": (
        lambda t: changed(t, "accuracy", [[1.0]] * ROWS, pa.list_(pa.float64())),
        "accuracy holds list<.*> and not double",
    ),
    "accuracy as truth": (lambda t: changed(t, "accuracy", [True] * ROWS, pa.bool_()), "accuracy holds bool and not"),
    "tokens as fraction": (
        lambda t: changed(t, "n_tokens", [1.5] * ROWS, pa.float64()),
        "n_tokens holds double and not",
    ),
    "tokens too many": (
        lambda t: changed(t, "n_tokens", [2**40] * ROWS, pa.int64()),
        "n_tokens holds int64 and not int32",
    ),
    "answer as bytes": (
        lambda t: changed(t, "answer", [b"\xff"] * ROWS, pa.binary()),
        "answer holds binary and not str",
    ),
    "id as number": (
        lambda t: changed(t, "question_id", range(ROWS), pa.int64()),
        "question_id holds int64 and not str",
    ),
    "all null": (lambda t: changed(t, "accuracy", [None] * ROWS, pa.null()), "accuracy holds null and not double"),
    "a question twice": (
        lambda t: with_value(t, "question_id", 5, "4"),
        r"question '4' of made \(shift none\) comes twice, in rows 4 and 5",
    ),
    "a shifted question twice": (
        lambda t: with_value(t, "question_id", 25, "4"),
        r"question '4' of made \(shift contrast_1\) comes twice, in rows 24 and 25",
    ),
    "an image in two splits": (
        lambda t: with_value(t, "image_id", 35, "0"),
        r"test and val share 1 image \(such as made/0\); split the questions by image",
    ),
    "an image of AdVQA in a split of VQAv2": (
        lambda t: changed(with_value(t, "image_id", 35, "0"), "source", ["advqa"] * 30 + ["vqav2"] * 10),
        r"test and val share 1 image \(such as vqav2/0\)",
    ),
    "no rows": (lambda t: t.slice(0, 0), "holds no predictions"),
    "no column": (lambda t: t.drop_columns(["accuracy"]), "it lacks accuracy"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_no_predictions_table_may_hold_is_said_in_a_sentence(name, table, path):
    spoil, message = WRONG[name]
    pq.write_table(spoil(table), path)
    with pytest.raises(ReliabitError, match=rf"{path} cannot be used: .*{message}") as raised:
        read_predictions(path)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("name", ["a question twice", "an image in two splits", "confidence NaN"])
def test_the_task_refuses_what_the_pipeline_refuses(name, table, path, tmp_path):
    pq.write_table(WRONG[name][0](table), path)
    register()
    with initialize_config_dir(str(conf_folder()), version_base="1.3"):
        overrides = ["task=evaluate", f"task.predictions={path}", f"paths.output={tmp_path / 'out'}"]
        config = to_config(compose("config", overrides=overrides))
    with pytest.raises(ReliabitError, match=WRONG[name][1]):
        evaluate(config)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("codec", ["zstd", "none"])
def test_damaged_bytes_are_a_sentence_or_a_sound_table(codec, table, path):
    """Whatever the library raises over a file is said of the file; without its hash some damage goes unnoticed."""
    pq.write_table(table, path, compression=codec)
    whole, draw = path.read_bytes(), random.Random(0)
    said = []
    for number in range(400):
        damaged = bytearray(whole)
        if number % 4 == 3:
            damaged = damaged[: draw.randrange(len(whole))]
        else:
            # Half of them among what describes the file, which stands at its end.
            first = len(whole) // 2 if number % 4 == 1 else 0
            damaged[draw.randrange(first, len(whole))] ^= 1 << draw.randrange(8)
        path.write_bytes(bytes(damaged))
        try:
            read_predictions(path)
        except ReliabitError as error:
            said.append(str(error))
    assert len(said) > 150
    assert all(str(path) in message and "\n" not in message for message in said)


def test_a_column_that_comes_twice_is_named(table):
    with pytest.raises(ReliabitError, match="table made cannot be used: it has more than one column answer"):
        sound_predictions(table.append_column("answer", table["answer"]), COLUMNS, name="made")


def test_texts_that_are_none_are_damage(table, path):
    names = pa.array([b"\xff\xfe"] * ROWS, type=pa.binary())
    broken = pa.Array.from_buffers(pa.string(), ROWS, names.buffers())
    number = table.column_names.index("answer")
    pq.write_table(table.set_column(number, "answer", broken), path)
    with pytest.raises(ReliabitError, match="it is damaged .*UTF"):
        read_predictions(path)


@pytest.mark.parametrize("text", [b"{", b"[]", b'{"selector": 1}', b'{"selector": {"trained": ["a"]}}', b"\xff"])
def test_a_damaged_record_of_what_an_estimator_has_seen_is_a_sentence(text, table):
    with pytest.raises(ReliabitError, match="does not tell which images .* run task=select again"):
        fitted_on_of(table.replace_schema_metadata({FITTED_ON: text}))
