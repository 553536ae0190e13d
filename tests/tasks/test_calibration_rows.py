import json

import pytest
from PIL import Image

from reliabit.config import Config
from reliabit.data.bad_samples import tell
from reliabit.data.sources import DataConfig
from reliabit.errors import ReliabitError
from reliabit.models.settings import ModelConfig
from reliabit.paths import PathsConfig, project_root
from reliabit.quant.settings import CalibrationConfig, QuantConfig
from reliabit.tasks import _calibration_rows as module
from reliabit.tasks._calibration_rows import calibration_rows

MODEL = ModelConfig(
    name="tiny", family="qwen2_vl", path=str(project_root() / "models" / "qwen2_vl_tiny"), template="{question}"
)


def config_of(tmp_path, on_bad_sample="fail", **calibration):
    data = DataConfig(
        name="easy_vqa", splits={"dev": 12}, seed=0, root=None, questions_per_image=None, on_bad_sample=on_bad_sample
    )
    return Config(
        data=data,
        model=MODEL,
        paths=PathsConfig(data=str(tmp_path / "data"), cache=str(tmp_path / "cache")),
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


def chats_of(tmp_path, chats):
    """A chat file of some images by name, questions and answers."""
    items = []
    for number, (size, question, answer) in enumerate(chats):
        Image.new("RGB", size).save(tmp_path / f"{number}.png")
        turns = [{"from": "human", "value": question}, {"from": "gpt", "value": answer}]
        items.append({"id": number, "image": f"{number}.png", "conversations": turns})
    (tmp_path / "chats.json").write_text(json.dumps(items))
    return {"chat": str(tmp_path / "chats.json"), "chat_images": str(tmp_path)}


GOOD = [((64, 64), "what is it?", "black")] * 6


@pytest.mark.parametrize(
    ("bad", "problem", "detail"),
    [
        (((1000, 4), "what is it?", "black"), "its image is none that the model takes", "aspect ratio"),
        (((64, 64), "what is <|image_pad|>?", "black"), "a token that the model's template reserves", "<|image_pad|>"),
        (((64, 64), "what is it?", "a <|im_end|>"), "a token that the model's template reserves", "<|im_end|>"),
        (((64, 64), "what is it?", "red " * 1100), "its prompt is longer than the model takes", "takes 1024"),
    ],
)
def test_what_the_model_does_not_take_is_a_bad_sample_of_a_calibration_set(bad, problem, detail, tmp_path, capsys):
    places = chats_of(tmp_path, [bad, *GOOD])
    with pytest.raises(ReliabitError, match=rf"calibration set of tiny: 1 samples cannot be used \(.*{problem}: 1\)"):
        calibration_rows(config_of(tmp_path, images=7, **places))
    with pytest.raises(ReliabitError, match="more than the 6 images there are; .*1 samples cannot"):
        calibration_rows(config_of(tmp_path, on_bad_sample="skip", images=7, **places))
    tell.cache_clear()
    rows = calibration_rows(config_of(tmp_path, on_bad_sample="skip", images=6, **places))
    assert {row["question_id"] for row in rows} == set("123456")
    [listed] = (tmp_path / "cache" / "calibration").glob("*.bad_samples.jsonl")
    [record] = [json.loads(line) for line in listed.read_text().splitlines()]
    assert (record["question_id"], problem in record["problem"], detail in record["detail"]) == ("0", True, True)
    assert f"left out and listed in {listed}" in capsys.readouterr().err


def test_others_take_the_place_of_bad_samples(tmp_path, monkeypatch):
    """The draw of the first images is as it was, whether or not others are needed."""
    before = calibration_rows(config_of(tmp_path, images=8))
    first = before[3]["question_id"]
    taken = module._taken
    monkeypatch.setattr(module, "_taken", lambda row, *rest: row["question_id"] != first and taken(row, *rest))
    after = calibration_rows(config_of(tmp_path, on_bad_sample="skip", images=8))
    assert [row["question_id"] for row in after[:7]] == [row["question_id"] for row in before if row is not before[3]]
    assert after[7]["image_id"] not in {row["image_id"] for row in before}
