import json

import pytest
from PIL import Image

from reliabit.config import CalibrationConfig, Config, DataConfig, PathsConfig, QuantConfig
from reliabit.errors import ReliabitError
from reliabit.tasks.calibration_rows import calibration_rows


def config_of(tmp_path, **calibration):
    data = DataConfig(name="easy_vqa", splits={"dev": 12}, seed=0, root=None, questions_per_image=None)
    return Config(
        data=data,
        paths=PathsConfig(data=str(tmp_path / "data")),
        quant=QuantConfig(name="mbq", calibration=CalibrationConfig(**calibration)),
    )


def test_one_question_of_each_image_is_drawn(tmp_path):
    draws = [calibration_rows(config_of(tmp_path, images=8, seed=seed)) for seed in (0, 0, 1)]
    ids = [[row["question_id"] for row in rows] for rows in draws]
    assert len({row["image_id"] for row in draws[0]}) == len(draws[0]) == 8
    assert ids[0] == ids[1] != ids[2]


def test_more_images_than_there_are_is_refused(tmp_path):
    with pytest.raises(ReliabitError, match="images=13 is more than the 12 images there are; lower it"):
        calibration_rows(config_of(tmp_path, images=13))


def test_chats_take_the_place_of_the_data_set(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    turns = [{"from": "human", "value": "<image>\nWhat is it?"}, {"from": "gpt", "value": "black"}]
    (tmp_path / "chats.json").write_text(json.dumps([{"id": 1, "image": "a.png", "conversations": turns}]))
    places = {"chat": str(tmp_path / "chats.json"), "chat_images": str(tmp_path)}
    (row,) = calibration_rows(config_of(tmp_path, images=1, **places))
    assert (row["question"], row["answers"], row["source"]) == ("What is it?", ["black"], "chat")
    assert not (tmp_path / "data").exists()
