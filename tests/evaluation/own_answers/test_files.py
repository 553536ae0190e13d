"""Tables of somebody's own answers, read from every kind of file and object there is, and refused by line."""

import json

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset

from reliabit.errors import ReliabitError
from reliabit.evaluation.own_answers.files import open_table

ROWS = [
    {"confidence": 0.5, "correct": 1, "note": "plain"},
    {"confidence": 0.25, "correct": 0, "note": 'a, "quoted"\nnote of two lines'},
]


def of_objects(kind):
    if kind == "data frame":
        return pd.DataFrame(ROWS)
    if kind == "Arrow table":
        return pa.Table.from_pylist(ROWS)
    if kind == "data set":
        return Dataset.from_list([*ROWS, ROWS[0]]).select([0, 1])
    if kind == "columns":
        return {name: [row[name] for row in ROWS] for name in ROWS[0]}
    return ROWS


@pytest.mark.parametrize("kind", ["data frame", "Arrow table", "data set", "columns", "rows"])
def test_every_kind_of_table_gives_the_same(kind):
    table = open_table(of_objects(kind))
    assert table.names == ["confidence", "correct", "note"]
    found = table.read(["confidence", "note"])
    assert [*map(float, found["confidence"])] == [0.5, 0.25]
    assert [*found["note"]] == [row["note"] for row in ROWS]
    assert table.place(1).startswith("row 2 of the ")


@pytest.mark.parametrize("end", [".csv", ".tsv", ".jsonl", ".parquet"])
def test_every_kind_of_file_gives_the_same(end, tmp_path):
    path = tmp_path / f"answers{end}"
    if end == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n\n" for row in ROWS))
    elif end == ".parquet":
        pq.write_table(pa.Table.from_pylist(ROWS), path)
    else:
        pd.DataFrame(ROWS).to_csv(path, index=False, sep="\t" if end == ".tsv" else ",")
    table = open_table(path)
    found = table.read(["confidence", "note"])
    assert np.array(found["confidence"], dtype=float).tolist() == [0.5, 0.25]
    assert [*found["note"]] == [row["note"] for row in ROWS]
    assert table.place(1) == {".jsonl": "line 3 of ", ".parquet": "row 2 of "}.get(end, "line 3 of ") + str(path)


def test_a_csv_of_semicolons_and_with_a_byte_order_mark_is_read(tmp_path):
    path = tmp_path / "answers.csv"
    path.write_text("\ufeffconfidence;correct\n0.5;1\n\n0.25;0\n", encoding="utf-8")
    table = open_table(path)
    assert (table.names, table.lines) == (["confidence", "correct"], [2, 4])


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", b"confidence,correct\n0.5,1\n0.25\n", "line 3 of {path} has 1 values and its first line 2"),
        ("a.csv", b"x,y,x\n1,2,3\n", "line 1 of {path} has two columns 'x'"),
        ("a.csv", b'x,y\n"1"2,3\n', "line 2 of {path} is no CSV"),
        ("a.csv", b"x,y\n\xff,3\n", "{path} is not UTF-8 (byte 4)"),
        ("a.jsonl", b'{"x": 1}\n{"x": \n', "line 2 of {path} is no JSON"),
        ("a.jsonl", b"[1]\n", "line 1 of {path} is no JSON object"),
        ("a.parquet", b"PAR1", "{path} is no whole Parquet file"),
        ("a.xlsx", b"", "{path} ends in .xlsx; name a file that ends in .csv, .tsv"),
    ],
)
def test_what_cannot_be_read_is_told_with_its_line(name, content, message, tmp_path):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ReliabitError) as refused:
        open_table(path)
    assert message.format(path=path) in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_truncated_parquet_file_is_refused(tmp_path):
    path = tmp_path / "a.parquet"
    pq.write_table(pa.Table.from_pylist(ROWS), path)
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(ReliabitError, match="is no whole Parquet file"):
        open_table(path)


def test_what_is_no_table_is_refused(tmp_path):
    with pytest.raises(ReliabitError, match="there is no file .*nowhere.csv"):
        open_table(tmp_path / "nowhere.csv")
    with pytest.raises(ReliabitError, match="a int is no table of answers"):
        open_table(3)
