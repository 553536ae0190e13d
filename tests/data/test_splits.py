import pytest
from hypothesis import given
from hypothesis import strategies as st

from reliabit.data.splits import read_ids, split_by_image
from reliabit.errors import ReliabitError


@given(
    images=st.lists(st.integers(0, 10_000).map(str), min_size=12, max_size=60, unique=True),
    sizes=st.fixed_dictionaries({"dev": st.integers(0, 4), "val": st.integers(0, 4), "test": st.integers(0, 4)}),
    seed=st.integers(0, 5),
    repeats=st.integers(1, 3),
)
def test_splits_are_disjoint_exact_and_independent_of_order(images, sizes, seed, repeats):
    splits = split_by_image(images * repeats, sizes=sizes, seed=seed)
    drawn = [image for split in splits.values() for image in split]
    assert {name: len(split) for name, split in splits.items()} == sizes
    assert len(set(drawn)) == len(drawn)
    assert set(drawn) <= set(images)
    assert split_by_image(images[::-1], sizes=sizes, seed=seed) == splits


def test_too_many_images_are_refused():
    with pytest.raises(ReliabitError, match="ask for 5 images and there are 2"):
        split_by_image(["a", "b", "b"], sizes={"dev": 5}, seed=0)


@pytest.mark.parametrize(
    "text",
    [
        '["1", "2"]',
        "[1, 2]",
        "[1.0, 2.0]",
        "1\n2\n",
        "1\r\n2\r\n",
        "\ufeff1\n2\n",
        '\ufeff["1", "2"]',
    ],
)
def test_id_lists_are_json_or_lines(tmp_path, text):
    file = tmp_path / "ids"
    file.write_bytes(text.encode())
    assert read_ids(file) == ["1", "2"]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "[1",
        "[true]",
        "[null]",
        "[1.5]",
        '[""]',
        "[[1]]",
        '{"dev": [1, 2]}',
        "{}",
        "1,2",
        "1, 2, 3",
        "id,split\n1,dev",
        "[" * 100_000,
    ],
    ids=lambda text: text[:20],
)
def test_what_is_no_id_list_is_refused(tmp_path, text):
    file = tmp_path / "ids"
    file.write_text(text)
    with pytest.raises(ReliabitError, match=r"the id list .*ids (is no list of ids|cannot be read)"):
        read_ids(file)
