"""Names that somebody else may have chosen lead nowhere but below the folder that they are joined to."""

import copy
import json
import re
from functools import reduce

import pytest
from hydra import compose, initialize_config_dir
from hypothesis import given, settings
from hypothesis import strategies as st

from messages import LEADS_OUT
from reliabit.composition import register, to_config
from reliabit.data.prepared_table import MANIFEST as TABLE_MANIFEST
from reliabit.data.prepared_table import read_manifest as read_table_manifest
from reliabit.data.question_files import image_file
from reliabit.errors import ReliabitError
from reliabit.files import MANIFEST, check_manifest, inside, leads_out, sealed
from reliabit.paths import conf_folder
from reliabit.quant.checkpoint_files import CHECKSUMS, verify_checkpoint

OUT = ["../evil", "a/../../evil", "/evil", "..", ".", ""]
PARTS = st.sampled_from(["..", ".", "", "a", "b.txt", "...", "~", "\\", "é", "..a"])


@settings(max_examples=200, deadline=None)
@given(st.lists(PARTS, max_size=6), st.sampled_from(["", "/"]))
def test_what_is_let_in_stays_below_the_folder(tmp_path_factory, parts, before):
    name, folder = before + "/".join(parts), tmp_path_factory.getbasetemp().resolve()
    if not leads_out(name):
        assert inside(folder, name).resolve().is_relative_to(folder)
    else:
        with pytest.raises(ReliabitError, match=LEADS_OUT):
            inside(folder, name)


@pytest.mark.parametrize("name", OUT)
def test_the_files_that_a_manifest_lists(tmp_path, name):
    # /dev/zero, for one, would be hashed for ever.
    (tmp_path / MANIFEST).write_bytes(sealed({"files": {name: "0" * 64}}, indent=1))
    with pytest.raises(ReliabitError, match=LEADS_OUT):
        check_manifest(tmp_path, remedy="restore it")
    (tmp_path / CHECKSUMS).write_text(json.dumps({"version": 1, "source": "a", "sha256": {name: "0" * 64}}))
    with pytest.raises(ReliabitError, match=LEADS_OUT):
        verify_checkpoint(tmp_path)
    record = {"splits": {name: {"questions": 1, "images": 1, "sha256": "0" * 64}}}
    (tmp_path / TABLE_MANIFEST).write_text(json.dumps(record))
    with pytest.raises(ReliabitError, match=LEADS_OUT):
        read_table_manifest(tmp_path)


@pytest.mark.parametrize("image", ["../evil", "a/../../evil"])
def test_the_image_of_a_question(image):
    with pytest.raises(ValueError, match=LEADS_OUT):
        image_file("images/../{image_id}", image)


@pytest.mark.parametrize("name", OUT)
def test_what_files_are_called_by_in_a_configuration(name):
    register()
    with initialize_config_dir(str(conf_folder()), version_base="1.3"):
        config = to_config(compose("config"))
        config.check("")
        for key in ("model.name", "engine.model", "quant.name", "data.label", "data.splits", "evaluation.mixtures"):
            wrong = copy.deepcopy(config)
            place = reduce(getattr, key.split(".")[:-1], wrong)
            last = key.rpartition(".")[2]
            if isinstance(getattr(place, last), dict):
                setattr(place, last, {name: ["none"]})
            else:
                setattr(place, last, name)
            with pytest.raises(ReliabitError, match=f"^{key}={re.escape(name)} leads out of the folder"):
                wrong.check("")


def test_a_name_with_an_organization_is_none_that_leads_out():
    assert not leads_out("Qwen/Qwen2-VL-2B-Instruct")
    assert not leads_out("mine..old")
