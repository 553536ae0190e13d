import pytest
from hydra import compose, initialize_config_dir

from data.vqa_files import write_vizwiz
from reliabit.composition import register, to_config
from reliabit.errors import ReliabitError
from reliabit.paths import conf_folder
from reliabit.tasks._asked_questions import load_questions, prepared_split

pytestmark = pytest.mark.medium

LARGE = ("vqav2", "vqav2_hub", "advqa", "vizwiz", "vizwiz_hub")


def composed(*overrides):
    register()
    with initialize_config_dir(str(conf_folder()), version_base="1.3"):
        return to_config(compose("config", overrides=list(overrides)))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["data=vqav2", "data.splits.dev=7"], "mixes shares with numbers of images"),
        (["data=vqav2", "data.splits.dev=0.6"], "shares of more than all images"),
        (["data=vqav2", "data.splits.dev=-0.1"], "data.splits.dev=-0.1 is negative"),
        (["data.splits.dev=0.5"], "data.name=easy_vqa takes numbers of images"),
        (["data=scenes", "data.splits.dev=0.5"], "data.name=scenes takes numbers of images"),
        (["data=vqav2", "data.split_ids.dev=x.txt"], "has files for dev and data.splits has dev, test, val"),
        (["data=vqav2", "data.template=hello"], "data.template='hello' lacks {question}"),
        (["data=vqav2", "data.on_bad_sample=ignore"], "choose one of: fail, skip"),
        (["data=vqav2", "data.layout=tar"], "choose one of: official, hub"),
        (["+data@other_data.v=vizwiz", "other_data.v.splits.test=1.5"], "other_data.v.splits=.* more than all images"),
        (["model.family=llava"], "choose one of: idefics3, qwen2_5_vl, qwen2_vl"),
    ],
)
def test_bad_values_are_refused_before_any_work(overrides, message):
    with pytest.raises(ReliabitError, match=message):
        composed(*overrides)


@pytest.mark.parametrize("name", LARGE)
def test_every_option_names_files_that_its_layout_reads(name):
    spec = composed(f"data={name}").data
    wanted = {"parquet"} if spec.layout == "hub" else {"annotations", "images"}
    assert wanted <= set(spec.files)
    assert spec.id_files() == {}
    assert sum(spec.splits.values()) == pytest.approx(1)


def test_the_prompt_of_vizwiz_is_that_of_lmms_eval(tmp_path):
    write_vizwiz(tmp_path / "downloads" / "vizwiz")
    config = composed("model=qwen2_vl_7b", "data=vizwiz", f"paths.root={tmp_path}")
    question = prepared_split(config, config.data, "test")[0]["question"]
    assert config.model.template.format(question=question) == (
        "What is this?\nWhen the provided information is insufficient, respond with 'Unanswerable'.\n"
        "Answer the question using a single word or phrase."
    )
    assert config.model.max_new_tokens == 16


def test_a_large_set_is_asked_beside_a_packaged_one(tmp_path):
    write_vizwiz(tmp_path / "downloads" / "vizwiz")
    overrides = [
        "+data@other_data.vizwiz=vizwiz",
        f"paths.root={tmp_path}",
        "data.splits={train: 0, dev: 0, val: 2, cal: 2, test: 2}",
        "data.ask={dev: 0, val: 1, cal: 2, test: null}",
    ]
    asked = load_questions(composed(*overrides), training=False)
    assert {row["source"] for row in asked} == {"easy_vqa", "vizwiz"}
    assert all(row["image"].startswith((b"\x89PNG", b"\xff\xd8")) for row in asked)


def test_a_skipping_run_and_a_failing_one_do_not_share_a_table(tmp_path):
    write_vizwiz(tmp_path / "downloads" / "vizwiz")
    (tmp_path / "downloads" / "vizwiz" / "val" / "VizWiz_val_00000002.jpg").unlink()
    root = f"paths.root={tmp_path}"
    skipping = composed("data=vizwiz", root, "data.on_bad_sample=skip")
    assert len(prepared_split(skipping, skipping.data, "test")) == 5
    failing = composed("data=vizwiz", root)
    with pytest.raises(ReliabitError, match="its image is missing: 1"):
        prepared_split(failing, failing.data, "test")
