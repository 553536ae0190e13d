"""What a configuration alone shows is refused in a second or two, and leaves nothing: no run, no folder, no store."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir

from data.vqa_files import write_vqa
from reliabit.composition import register, to_config
from reliabit.errors import ReliabitError
from reliabit.paths import conf_folder
from reliabit.tasks.preflight import CHECKS, preflight

PROJECT = Path(__file__).parents[2]
MODEL = PROJECT / "models" / "qwen2_vl_tiny"
CPU_SECONDS = 3.0
HEAVY = ("torch", "transformers", "mlflow", "lightning", "datasets")

PROBE = f"""
import sys, time
sys.path.insert(0, "src")
from reliabit.main import main
sys.argv[0] = "run.py"
try:
    main()
finally:
    print(time.process_time(), *sorted({set(HEAVY)!r} & set(sys.modules)))
"""


def checked(*overrides):
    register()
    with initialize_config_dir(str(conf_folder()), version_base="1.3"):
        preflight(to_config(compose("config", overrides=list(overrides))))


def refused(folder: Path, *arguments: str) -> str:
    """The sentence that a run is refused with, which took little and left nothing."""
    placed = [
        f"hydra.run.dir={folder}/run",
        f"hydra.sweep.dir={folder}/sweep",
        f"paths.data={folder}/data",
        f"paths.cache={folder}/cache",
        f"tracking.artifacts={folder}/artifacts",
    ]
    store = [] if any("tracking.uri" in one for one in arguments) else [f"tracking.uri=sqlite:///{folder}/mlflow.db"]
    environment = {name: value for name, value in os.environ.items() if name != "HYDRA_FULL_ERROR"}
    before = sorted(folder.iterdir())
    done = subprocess.run(
        [sys.executable, "-c", PROBE, *arguments, *placed, *store],
        capture_output=True,
        text=True,
        cwd=PROJECT,
        env={**environment, "OMP_NUM_THREADS": "1"},
        check=False,
    )
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    seconds, *heavy = done.stdout.split()
    assert heavy == []
    assert float(seconds) < CPU_SECONDS
    assert sorted(folder.iterdir()) == before
    return done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["data.ask={test: 5, val: 0, cal: 0}"], "confidence=selector is trained on the split dev and chosen on val"),
        (["model.path=nowhere"], "model.path=nowhere is not a checkpoint folder"),
        (["data=vqav2"], "v2_OpenEnded_mscoco_val2014_questions.json does not exist; put it there, or set data.root"),
        (["task=evaluate", "task.predictions=nowhere.parquet"], "task.predictions=nowhere.parquet does not exist"),
        (["tracking.uri=mlruns"], "tracking.uri=mlruns is a plain folder"),
        (["-m", f"model.path={MODEL},nowhere", "quant=none"], "model.path=nowhere is not a checkpoint folder"),
        (["-m", "quant.bits=2,3", "paths.output=out"], "paths.output=out is one folder for 3 of 3 cells"),
        (["-m", "quant.bits=2,3", "hydra.sweep.subdir=same"], "/same is one folder for 3 of 3 cells"),
    ],
)
def test_a_mistake_costs_little_and_leaves_nothing(arguments, message, tmp_path):
    assert message in refused(tmp_path, *arguments)


def test_a_folder_with_somebody_s_work_is_left_alone(tmp_path):
    for name in ("run", "sweep"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "metrics.json").write_text("{}")
    evaluated = ["task=evaluate", f"task.predictions={tmp_path}/run/metrics.json"]
    assert f"hydra.run.dir={tmp_path}/run holds files already" in refused(tmp_path, *evaluated)
    assert f"hydra.sweep.dir={tmp_path}/sweep holds files already" in refused(tmp_path, "-m", "quant.bits=2,3")
    named = [*evaluated, f"paths.output={tmp_path}/sweep", "hydra=stage"]
    assert f"paths.output={tmp_path}/sweep holds files already" in refused(tmp_path, *named)
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["metrics.json"]


def test_every_task_has_its_checks():
    assert set(CHECKS) == {path.stem for path in (conf_folder() / "task").glob("*.yaml")}


@pytest.mark.parametrize("task", ["pipeline", "answer", "quantize", "footprint", "prepare"])
def test_what_is_right_passes(task):
    checked(f"task={task}")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["model.family=idefics3"], "is of the family 'qwen2_vl', and model.family=idefics3"),
        (["model=idefics3_tiny", "+model.max_pixels=1000"], "max_pixels=1000 is no setting of the family idefics3"),
        (["model.path=hub:a/b"], "model.path=hub:a/b needs model.revision, a whole commit"),
        (["quant.rules=[{components: [legs]}]"], "rule 1 of the quantization plan names the unknown component 'legs'"),
        (["data.ask={dev: 0, val: 0, cal: 0, test: 0}", "confidence=maxprob"], "asks nothing; name at least one split"),
        (["data.splits.test=0", "data.ask.test=0", "data.shifts=[reworded]"], "data.splits has no images in test"),
        (["data.root=nowhere"], "easy_vqa: nowhere/train/questions.json does not exist; set data.root"),
        (["quant=mbq", "quant.calibration.split=train", "data.splits.train=0"], "data.splits leaves it empty"),
        (["quant=gptq", "quant.calibration.split=train", "data.splits.train=0"], "data.splits leaves it empty"),
        (["quant=mbq", "quant.calibration.chat=no", "quant.calibration.chat_images=."], "the chat file no does not ex"),
        (["task=select", "task.predictions=no/p.parquet"], "task.predictions=no/p.parquet does not exist; name"),
        (["task=select"], "task.predictions is not set; name the predictions table"),
        (["task=report"], "task.sweep is not set; name the parent run"),
        (["task=promote", "task.results=nowhere"], "task.results=nowhere does not exist; run dvc repro"),
        (["task=quantize", "quant=none"], "task=quantize has nothing to do with quant=none"),
        (["task=quantize", "task.gguf=q8_0"], "task.pre_tokenizer are for task.format=gguf, and task.format=reliabit"),
        (
            ["task=quantize", "task.format=gguf", "task.gguf=q4_0"],
            "task.gguf=q4_0 quantizes by llama.cpp's rules, and quant=hqq by its own; add quant=none",
        ),
        (["task=quantize", f"task.checkpoint={MODEL}"], "would overwrite the checkpoint"),
        (["task=pretrain"], "exists already; move it away"),
        (["task=assemble"], "model=qwen2_vl_tiny is not assembled of parts; choose model=idefics3_smollm2"),
        (
            ["task=assemble", "model=idefics3_smollm2", "model.parts=no"],
            "the learned part no/learned.safetensors is",
        ),
        (
            ["model=idefics3_smollm2", "model.path=no"],
            "no is not assembled yet; run make pretrained, or name",
        ),
        (["task=pretrain", "model=qwen2_5_vl_3b"], "model.family=qwen2_5_vl has no reference model to train; choose"),
    ],
)
def test_a_mistake_is_named(overrides, message, tmp_path):
    with pytest.raises(ReliabitError) as found:
        checked(f"paths.data={tmp_path}", *overrides)
    assert message in str(found.value)


def test_features_that_a_selector_reads_must_be_there(tmp_path):
    (tmp_path / "predictions.parquet").write_bytes(b"")
    with pytest.raises(ReliabitError, match="holds no features; run task=answer"):
        checked("task=select", f"task.predictions={tmp_path}/predictions.parquet")
    checked("task=select", f"task.predictions={tmp_path}/predictions.parquet", "confidence=maxprob")


def test_a_checkpoint_must_have_the_shards_that_it_lists(tmp_path):
    shutil.copytree(MODEL, tmp_path / "model")
    index = {"weight_map": {"a": "model-1.safetensors", "b": "model.safetensors"}}
    (tmp_path / "model" / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ReliabitError, match=r"lacks 1 of the 2 shards .*model-1.safetensors"):
        checked(f"model.path={tmp_path}/model")
    checked("task=footprint", f"model.path={tmp_path}/model")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ([], None),
        (["data.files.questions=no.json"], r"no.json does not exist; put it there, or set data.root or data.files.que"),
        (["data.files.images='no/{image_id}.jpg'"], r"the folder of images .*/vqav2/no does not exist"),
        (["data.files.images=val2014/x.jpg"], r"is not the path of an image with \{image_id\} in it"),
        (
            ["data.split_ids.dev=no.txt", "data.splits={val: 0, test: 0}"],
            r"split_ids.dev=no.txt does not exist",
        ),
    ],
)
def test_the_files_of_a_set_must_be_there(overrides, message, tmp_path):
    root = tmp_path / "downloads" / "vqav2"
    write_vqa(root, images=4)
    # The layout puts images where its files say; here all that counts is whether the folder is there.
    (root / "val2014").mkdir(exist_ok=True)
    chosen = ["task=prepare", "data=vqav2", f"data.root={root}", f"paths.data={tmp_path}/data", *overrides]
    if message is None:
        checked(*chosen)
        return
    with pytest.raises(ReliabitError, match=message):
        checked(*chosen)


def test_a_prepared_table_needs_its_source_no_more(tmp_path):
    from reliabit.data.prepared_table import MANIFEST, table_folder

    chosen = ["task=prepare", "data=vqav2", f"data.root={tmp_path}/gone", f"paths.data={tmp_path}/data"]
    with initialize_config_dir(str(conf_folder()), version_base="1.3"):
        config = to_config(compose("config", overrides=chosen))
    folder = table_folder(config.data, root=Path(config.paths.data))
    folder.mkdir(parents=True)
    (folder / MANIFEST).write_text("{}")
    checked(*chosen)


def test_the_pipeline_s_promotion_is_refused_where_no_pipeline_is(tmp_path, monkeypatch):
    monkeypatch.setattr("reliabit.tasks.preflight.project_root", lambda: tmp_path)
    with pytest.raises(ReliabitError, match=f"of params.yaml, and {tmp_path} has none; run it in a clone"):
        checked("task=promote", f"task.results={tmp_path}")
