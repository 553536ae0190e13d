"""Columns of somebody's own table reach the predictions and the report where they are sliced by, and count as input."""

import csv
import io

import pyarrow as pa
import pytest
from PIL import Image

from added_packages import composed
from reliabit.data.further_columns import FURTHER, further_names, read_further
from reliabit.data.prepared_table import columns_digest, prepare
from reliabit.data.sources import DataConfig
from reliabit.data.sources.folder import SHARES
from reliabit.digests import DigestCache, table_inputs
from reliabit.errors import ReliabitError
from reliabit.tasks._sliced_columns import check_sliced, sliced_columns, with_sliced_columns

REGIONS = ("north", "south", "", "north", "south", "north")


def write_pets(folder, *, regions=REGIONS):
    """Six pictures, a question each, and a region of each."""
    folder.mkdir(exist_ok=True)
    with (folder / "questions.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "question", "answer", "id", "type", "region", "age"])
        for number, region in enumerate(regions):
            picture = io.BytesIO()
            Image.new("RGB", (8, 8), (40 * number, 10, 10)).save(picture, format="PNG")
            (folder / f"{number}.png").write_bytes(picture.getvalue())
            writer.writerow([f"{number}.png", "a cat?", "yes", f"q{number}", "kind", region, 20 + number])
    return folder


@pytest.fixture
def pets(tmp_path):
    return write_pets(tmp_path / "pets")


def config_of(folder, *overrides):
    root = folder.parent
    (root / "options").mkdir(exist_ok=True)
    return composed(root, f"paths.root={root}", "data=folder", f"data.root={folder}", *overrides)


def answers(config, *, shift="none"):
    return pa.table(
        {
            "question_id": [f"q{number}" for number in (4, 0, 2)],
            "shift": [shift] * 3,
            "source": [config.data.name] * 3,
        }
    )


def test_further_columns_are_kept_with_the_table_and_read_back(pets, tmp_path):
    folder = prepare(DataConfig(name="folder", root=str(pets), splits=dict(SHARES)), root=tmp_path / "tables")
    # What is read otherwise is not among them.
    assert further_names(folder) == ["region", "age"]
    found = read_further(folder, ["region"])
    assert found == {"region": {f"q{number}": region for number, region in enumerate(REGIONS)}}
    with pytest.raises(ReliabitError, match=r"keeps no column country \(it has region, age\)"):
        read_further(folder, ["country"])


def test_a_source_that_says_no_more_keeps_no_columns(tmp_path):
    folder = prepare(DataConfig(name="scenes", splits={"test": 2}, questions_per_image=1), root=tmp_path)
    assert not (folder / FURTHER).exists()
    assert (further_names(folder), columns_digest(folder)) == ([], None)
    assert set(table_inputs(folder, cache=DigestCache(tmp_path / "digests"), name="data")) == {"data/test"}


def test_other_values_are_another_input_and_damage_is_noticed(tmp_path):
    found = []
    for name, regions in (("one", REGIONS), ("other", REGIONS[::-1])):
        root = write_pets(tmp_path / name, regions=regions)
        folder = prepare(
            DataConfig(name="folder", root=str(root), splits=dict(SHARES)), root=tmp_path / "tables" / name
        )
        found.append(table_inputs(folder, cache=DigestCache(tmp_path / "digests"), name="data"))
    assert found[0]["data/test"] == found[1]["data/test"]
    assert found[0]["data/columns"] != found[1]["data/columns"]
    (folder / FURTHER).write_bytes(b"")
    with pytest.raises(ReliabitError, match="columns.parquet is missing or differs from its hash; delete"):
        columns_digest(folder)


def test_what_is_sliced_by_comes_into_the_predictions(pets):
    config = config_of(pets, "evaluation.slices=[question_type,region]")
    assert sliced_columns(config) == ["region"]
    check_sliced(config)
    found = with_sliced_columns(config, answers(config))
    assert found["region"].to_pylist() == ["south", "north", ""]
    config.other_data["parrots"] = config.data
    assert with_sliced_columns(config, answers(config, shift="parrots"))["region"].to_pylist() == [""] * 3


def test_without_such_a_column_nothing_is_read(pets):
    config = config_of(pets, "evaluation.slices=[question_type,answer_type,conf_maxprob]")
    predictions = answers(config)
    assert with_sliced_columns(config, predictions) is predictions


def test_a_column_that_the_source_lacks_is_refused_before_anything_is_asked(pets):
    with pytest.raises(
        ReliabitError, match="evaluation.slices names country, and pets has the further columns region, age; slice by"
    ):
        check_sliced(config_of(pets, "evaluation.slices=[country,region]"))
