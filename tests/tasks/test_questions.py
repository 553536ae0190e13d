"""What is asked: no question of another set is about an image that something was learned from."""

import pytest
from hydra import compose, initialize_config_dir

from data.vqa_files import ADVQA, write_vizwiz, write_vqa
from reliabit.composition import register, to_config
from reliabit.errors import ReliabitError
from reliabit.paths import conf_folder
from reliabit.tasks._asked_questions import load_questions, prepared_split


def config_of(root, *overrides):
    register()
    with initialize_config_dir(str(conf_folder()), version_base="1.3"):
        chosen = ["model=qwen2_vl_7b", "data=vqav2", f"paths.root={root}", "data.shift_images=null", *overrides]
        return to_config(compose("config", overrides=chosen))


def test_advqa_is_asked_about_images_that_nothing_was_learned_from(tmp_path, capsys):
    write_vqa(tmp_path / "downloads" / "vqav2", images=20)
    write_vqa(tmp_path / "downloads" / "advqa", files=ADVQA, images=30)
    write_vizwiz(tmp_path / "downloads" / "vizwiz")
    config = config_of(tmp_path, "+data@other_data.advqa=advqa", "+data@other_data.vizwiz=vizwiz")
    asked = load_questions(config, training=True)
    learned = {str(i) for split in ("dev", "val") for i in prepared_split(config, config.data, split)["image_id"]}
    advqa = {image for image, source in zip(asked["image_id"], asked["source"], strict=True) if source == "advqa"}
    assert len(learned) == 10
    assert advqa == {str(image) for image in range(1, 31)} - learned
    assert "vizwiz" in asked["source"]
    said = capsys.readouterr().err
    assert "other_data.advqa: 30 of 90 questions are left out, as their images are in dev, val of vqav2" in said
    assert "other_data.vizwiz" not in said


def test_a_set_without_any_other_image_is_refused(tmp_path):
    write_vqa(tmp_path / "downloads" / "vqav2", images=20)
    write_vqa(tmp_path / "downloads" / "advqa", files=ADVQA, images=20)
    splits = "data.splits={dev: 0.9, val: 0.1, test: 0}"
    config = config_of(tmp_path, "+data@other_data.advqa=advqa", splits, "data.ask={dev: null, val: null}")
    with pytest.raises(ReliabitError, match=r"every image of other_data\.advqa is in dev, val of vqav2; leave"):
        load_questions(config, training=True)
