"""Several processes answer what one would have answered, each question once."""

import shutil
from dataclasses import replace

import pytest
from hydra import compose, initialize_config_dir

from reliabit.composition import register, to_config
from reliabit.errors import ReliabitError
from reliabit.paths import conf_folder
from reliabit.tasks import _answer_stores as parallel_answers
from reliabit.tasks._answer_stores import answer_store
from reliabit.tasks._asked_questions import load_questions
from reliabit.tasks._model import load_quantized
from reliabit.tasks.answer import answer_questions

SMALL = [
    *("quant=none", "confidence=selector", "trainer.threads=2", "trainer.batch_size=8", "trainer.progress_bar=false"),
    "data.ask={dev: 12, val: 12, cal: 12, test: 12}",
]


def config_of(folder, *overrides):
    register()
    with initialize_config_dir(str(conf_folder()), version_base="1.3"):
        places = [f"paths.data={folder}/data", f"paths.cache={folder}/cache"]
        return to_config(compose("config", overrides=[*SMALL, *places, *overrides]))


def answered(config, folder):
    questions = load_questions(config, training=True)
    parallel_answers.answer_on_devices(config, questions)
    if config.trainer.devices > 1:
        assert answer_store(config).missing(questions) == [], "this process must find nothing left to do"
    return answer_questions(config, load_quantized(config), questions, features=folder / "features").predictions


@pytest.mark.slow
def test_two_processes_answer_as_one(tmp_path):
    config = config_of(tmp_path)
    alone = answered(config, tmp_path)
    elsewhere = replace(config, paths=replace(config.paths, cache=str(tmp_path / "other")))
    both = answered(replace(elsewhere, trainer=replace(config.trainer, devices=2)), tmp_path / "both")
    assert both.equals(alone)
    assert len(set(both["question_id"].to_pylist())) == both.num_rows


@pytest.mark.slow
def test_a_process_that_fails_is_reported(tmp_path):
    broken = tmp_path / "broken"
    shutil.copytree(conf_folder().parent / "models" / "qwen2_vl_tiny", broken)
    (broken / "model.safetensors").write_bytes(b"x")
    config = config_of(tmp_path, "trainer.devices=2", f"model.path={broken}")
    with pytest.raises(
        ReliabitError, match=r"answers-0 \(status 2\), answers-1 \(status 2\) of trainer.devices=2 failed"
    ):
        parallel_answers.answer_on_devices(config, load_questions(config, training=True))


def test_more_devices_than_there_are_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv(parallel_answers.VISIBLE, "3")
    config = config_of(tmp_path, "trainer=gpu", "trainer.devices=2")
    with pytest.raises(ReliabitError, match="trainer.devices=2 and there are only 1; lower it"):
        parallel_answers.visible_devices(config.trainer)
    assert parallel_answers.visible_devices(config_of(tmp_path, "trainer=gpu", "trainer.devices=1").trainer) == ["3"]


def test_no_process_is_started_for_what_is_answered(tmp_path, monkeypatch):
    config = config_of(tmp_path)
    alone = answered(config, tmp_path)
    monkeypatch.setattr(parallel_answers, "_run_workers", lambda *_, **__: pytest.fail("everything is answered"))
    both = replace(config, trainer=replace(config.trainer, devices=2))
    assert answered(both, tmp_path / "again").equals(alone)
