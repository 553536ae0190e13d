import json
import logging
import os
import random
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import reliabit
import reliabit.quant.streaming.quantize_checkpoint as streaming
from damage import turn
from quant.calibration_samples import LAYERS, random_batch
from reliabit.disk_errors import plain_disk_errors
from reliabit.errors import ReliabitError
from reliabit.quant import (
    Calibration,
    ResidentDecoder,
    Scheme,
    collect,
    default_plan,
    load_checkpoint,
    plan_from_config,
    save_checkpoint,
)
from reliabit.quant.checkpoint_files import CHECKSUMS, verify_checkpoint
from reliabit.quant.settings import ScalingConfig
from reliabit.quant.streaming import written_shards as parts
from reliabit.quant.streaming.job import Progress, unfinished_folder, unfinished_name
from reliabit.quant.streaming.quantize_checkpoint import quantize_checkpoint

FAMILY = "qwen2_vl"
SHARD_BYTES = 2**16
PLAN = plan_from_config(
    [
        {"components": ["language_attention", "language_mlp"], "bits": 3},
        {"components": ["lm_head"], "bits": 8},
        {"components": ["vision"], "layers": [0], "bits": 4},
    ]
)


class Killed(BaseException):
    """Stands for a signal: nothing may catch it."""


def run(source, destination, plan=PLAN, **options):
    options = {"decoder_layers": LAYERS[FAMILY], "shard_bytes": SHARD_BYTES, **options}
    return quantize_checkpoint(source, destination, plan, **options)


def contents(folder):
    return {file.name: file.read_bytes() for file in folder.iterdir()}


@pytest.fixture(scope="module")
def source(reference_folder):
    return reference_folder(FAMILY)


@pytest.fixture(scope="module")
def whole(source, tmp_path_factory):
    """A checkpoint whose writing nothing interrupted, and the report of it."""
    folder = tmp_path_factory.mktemp("whole") / "checkpoint"
    return folder, run(source, folder)


@pytest.fixture
def converted(monkeypatch):
    """The names of the modules that are quantized from now on."""
    names, convert = [], streaming.convert

    def counted(model, name, scheme, inputs=None):
        names.append(name)
        return convert(model, name, scheme, inputs)

    monkeypatch.setattr(streaming, "convert", counted)
    return names


def interrupt(monkeypatch, module, name, *, at):
    """Let a function raise at its call number `at`, before it does anything."""
    real, calls = getattr(module, name), []

    def counted(*positional, **keywords):
        calls.append(None)
        if len(calls) == at:
            raise Killed
        return real(*positional, **keywords)

    monkeypatch.setattr(module, name, counted)


def interrupted(source, destination, monkeypatch, at, *, module=parts, name="save_shard", **options):
    with monkeypatch.context() as patch:
        interrupt(patch, module, name, at=at)
        with pytest.raises(Killed):
            run(source, destination, **options)
    assert not destination.exists()


def unfinished_shards(destination):
    return sorted(unfinished_name(destination).glob("part-*.safetensors"))


def test_the_sample_has_several_shards_and_some_hold_several_units(whole):
    assert len(list(whole[0].glob("*.safetensors"))) >= 5
    assert not unfinished_name(whole[0]).exists()


def test_what_ends_at_any_shard_goes_on_to_the_same_bytes(source, whole, tmp_path, monkeypatch, converted):
    expected, report = whole
    shards = len(list(expected.glob("*.safetensors")))
    for at in range(1, shards + 1):
        destination = tmp_path / f"at-{at}"
        interrupted(source, destination, monkeypatch, at)
        before = len(converted)
        resumed = run(source, destination)
        assert contents(destination) == contents(expected), at
        assert resumed.modules == report.modules
        assert at == 1 or len(converted) - before < len(report.modules)
        assert sorted(path.name for path in tmp_path.iterdir()) == sorted(f"at-{n}" for n in range(1, at + 1))
        converted.clear()


@pytest.mark.parametrize("name", ["assemble", "copy_processor", "attach", "write_checksums"])
def test_what_ends_while_it_is_put_together_quantizes_nothing_again(
    name, source, whole, tmp_path, monkeypatch, converted
):
    destination = tmp_path / "checkpoint"
    interrupted(source, destination, monkeypatch, 1, module=streaming, name=name)
    converted.clear()
    assert run(source, destination).modules == whole[1].modules
    assert converted == []
    assert contents(destination) == contents(whole[0])


def test_an_older_checkpoint_stays_until_the_new_one_is_whole(source, whole, tmp_path, monkeypatch):
    destination = tmp_path / "checkpoint"
    destination.mkdir()
    (destination / "config.json").write_text('{"quantization_config": {}}')
    with monkeypatch.context() as patch:
        interrupt(patch, parts, "save_shard", at=3)
        with pytest.raises(Killed):
            run(source, destination)
    assert contents(destination) == {"config.json": b'{"quantization_config": {}}'}
    run(source, destination)
    assert contents(destination) == contents(whole[0])


def test_a_process_killed_at_a_random_point_goes_on_to_the_same_bytes(source, tmp_path):
    destination, plan = tmp_path / "killed" / "checkpoint", default_plan(Scheme("hqq", 3))
    (tmp_path / "killed").mkdir()
    expected = tmp_path / "expected"
    run(source, expected, plan)
    last = len(list(expected.glob("*.safetensors")))
    arguments = [source, destination, LAYERS[FAMILY], 3, SHARD_BYTES]
    command = [sys.executable, Path(__file__).with_name("streaming_worker.py"), *arguments]
    environment = {**os.environ, "PYTHONPATH": str(Path(reliabit.__file__).parents[1]), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen([str(part) for part in command], env=environment)
    written = random.randrange(1, last)
    while process.poll() is None and len(list(unfinished_name(destination).glob("part-*.json"))) < written:
        time.sleep(0.0005)
    process.kill()
    assert process.wait() == -9, f"it was over before it could be killed at {written} shards of {last}"
    assert not destination.exists()
    run(source, destination, plan)
    assert contents(destination) == contents(expected), f"killed at {written} shards of {last}"
    assert [path.name for path in destination.parent.iterdir()] == ["checkpoint"]


def damage(file):
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)


@pytest.mark.parametrize(
    "spoil",
    [
        damage,
        lambda file: file.write_bytes(file.read_bytes()[:-10]),
        lambda file: file.unlink(),
        lambda file: file.with_suffix(".json").unlink(),
        lambda file: file.with_suffix(".json").write_text('{"finished": [{"unit": '),
        lambda file: file.with_suffix(".json").write_text('{"finished": [], "keys": []}'),
        lambda file: turn(file.with_suffix(".json"), 4 * file.with_suffix(".json").stat().st_size),
    ],
    ids=["changed", "truncated", "gone", "no record", "half a record", "empty record", "changed record"],
)
def test_a_damaged_part_is_made_again_and_no_other(spoil, source, whole, tmp_path, monkeypatch, converted):
    expected, _ = whole
    destination = tmp_path / "checkpoint"
    interrupted(source, destination, monkeypatch, 1, module=streaming, name="assemble")
    # The second holds decoder layers.
    spoiled = unfinished_shards(destination)[1]
    inside = [found["name"] for found in modules_of(spoiled)]
    assert 0 < len(inside) < len(converted)
    spoil(spoiled)
    converted.clear()
    run(source, destination)
    assert converted == inside
    assert contents(destination) == contents(expected)


def modules_of(shard):
    record = json.loads(shard.with_suffix(".json").read_text())
    return [module for finished in record["finished"] for module in finished["modules"]]


def copy_of(source, folder):
    folder.mkdir()
    for file in source.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    return folder


@pytest.mark.parametrize("change", ["plan", "weights", "shards", "type"])
def test_other_work_starts_over(change, source, tmp_path, monkeypatch, converted, caplog):
    model = copy_of(source, tmp_path / "model")
    destination, options = tmp_path / "checkpoint", {}
    interrupted(model, destination, monkeypatch, 4)
    if change == "weights":
        tensors = load_file(model / "model.safetensors")
        tensors[
            "model.language_model.norm.weight" if "model.language_model.norm.weight" in tensors else "model.norm.weight"
        ] += 1
        save_file(tensors, model / "model.safetensors", metadata={"format": "pt"})
    options = {
        "plan": {"plan": default_plan(Scheme("hqq", 4))},
        "shards": {"shard_bytes": 2**17},
        "type": {"dtype": torch.float16},
    }.get(change, {})
    converted.clear()
    with caplog.at_level(logging.WARNING):
        report = run(model, destination, **options)
    assert sorted(converted) == sorted(report.names)
    assert "starting over" in caplog.text
    run(model, tmp_path / "clean", **options)
    assert contents(destination) == contents(tmp_path / "clean")


def test_changed_code_starts_over(source, tmp_path, monkeypatch, converted):
    destination = tmp_path / "checkpoint"
    interrupted(source, destination, monkeypatch, 4)
    monkeypatch.setattr("reliabit.quant.streaming.job.code_digest", lambda _: "another")
    converted.clear()
    report = run(source, destination)
    assert sorted(converted) == sorted(report.names)


@pytest.mark.parametrize("mode", ["fast", "faithful"])
def test_a_scaled_checkpoint_goes_on_too(mode, source, reference_model, tmp_path, monkeypatch):
    model = reference_model(FAMILY)
    batches = [random_batch(model, seed=seed) for seed in range(2)]
    statistics = collect(ResidentDecoder(model, LAYERS[FAMILY]), batches, tmp_path / "statistics", key="k")
    options = {
        "plan": plan_from_config([{"components": ["language_attention", "language_mlp"], "bits": 3}]),
        "calibration": Calibration(statistics, ScalingConfig(search=mode, ratios=3), batches),
    }
    expected = run(source, tmp_path / "expected", **options)
    interrupted(source, tmp_path / "checkpoint", monkeypatch, 2, **options)
    resumed = run(source, tmp_path / "checkpoint", **options)
    assert contents(tmp_path / "checkpoint") == contents(tmp_path / "expected")
    assert len(resumed.scales) == len(expected.scales) > 0
    for one, other in zip(resumed.scales, expected.scales, strict=True):
        assert torch.equal(one.scale, other.scale)
        assert {**vars(one), "scale": None} == {**vars(other), "scale": None}


def test_two_processes_do_not_write_the_same_folder(source, tmp_path):
    destination = tmp_path / "checkpoint"
    with unfinished_folder(destination, job="another's"), pytest.raises(ReliabitError, match="another process is writ"):
        run(source, destination)


def test_nothing_is_left_where_nothing_was_done(source, tmp_path):
    model = copy_of(source, tmp_path / "model")
    tensors = load_file(model / "model.safetensors")
    bad = next(name for name in tensors if "layers.0.self_attn.q_proj.weight" in name)
    tensors[bad][0, 0] = torch.nan
    save_file(tensors, model / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ReliabitError, match="1 of .* weights are NaN or infinite"):
        run(model, tmp_path / "checkpoint")
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_full_disk_is_one_sentence_and_what_is_done_stays(source, whole, tmp_path, converted):
    destination, (soft, hard) = tmp_path / "checkpoint", resource.getrlimit(resource.RLIMIT_FSIZE)
    largest = max(file.stat().st_size for file in whole[0].glob("*.safetensors"))
    resource.setrlimit(resource.RLIMIT_FSIZE, (largest - 1, hard))
    try:
        message = r"part-.*safetensors may not grow further .*; make room"
        with pytest.raises(ReliabitError, match=message) as refused, plain_disk_errors():
            run(source, destination)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "\n" not in str(refused.value)
    assert unfinished_shards(destination)
    assert not destination.exists()
    converted.clear()
    run(source, destination)
    assert len(converted) < len(whole[1].modules)
    assert contents(destination) == contents(whole[0])


def test_a_missing_shard_is_named(reference_model, tmp_path):
    model = reference_model(FAMILY, torch.bfloat16)
    model.save_pretrained(tmp_path / "model", max_shard_size="200KB")
    shards = sorted((tmp_path / "model").glob("model-*.safetensors"))
    assert len(shards) > 2
    shards[1].unlink()
    with pytest.raises(ReliabitError, match=rf"lacks 1 of the {len(shards)} shards .* \({shards[1].name}\)"):
        run(tmp_path / "model", tmp_path / "checkpoint")
    (tmp_path / "model" / "model.safetensors.index.json").write_text("{}")
    with pytest.raises(ReliabitError, match="is no index of shards"):
        run(tmp_path / "model", tmp_path / "checkpoint")


def test_every_file_of_the_checkpoint_has_its_hash(whole):
    folder, _ = whole
    hashes = verify_checkpoint(folder)
    weights = {file.name for file in folder.glob("*.safetensors")}
    assert hashes.keys() == weights | {"config.json", "model.safetensors.index.json"}


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda folder: damage(first_shard(folder)), "model-00001-.* differs from its hash"),
        (lambda folder: first_shard(folder).unlink(), "model-00001-.* is missing, and checksums.json lists it"),
        (lambda folder: (folder / "config.json").write_text("{}"), "config.json differs from its hash"),
        (lambda folder: (folder / CHECKSUMS).write_text("[]"), "holds no hashes"),
        (lambda folder: (folder / CHECKSUMS).write_text('{"version": 9, "sha256": {}}'), "is of version 9"),
    ],
)
def test_a_checkpoint_that_was_changed_is_not_loaded(spoil, message, whole, tmp_path):
    folder = copy_of(whole[0], tmp_path / "checkpoint")
    assert load_checkpoint(folder, dtype=torch.bfloat16)
    spoil(folder)
    with pytest.raises(ReliabitError, match=message):
        verify_checkpoint(folder)
    with pytest.raises(ReliabitError, match=message):
        load_checkpoint(folder, dtype=torch.bfloat16)


def first_shard(folder):
    return min(folder.glob("model-*.safetensors"))


def test_a_checkpoint_without_hashes_cannot_be_verified(source):
    with pytest.raises(ReliabitError, match="has no checksums.json"):
        verify_checkpoint(source)


def test_hashes_do_not_go_along_with_another_model(whole, reference_model, tmp_path):
    save_checkpoint(reference_model(FAMILY), tmp_path / "other", processor_from=whole[0])
    assert (tmp_path / "other" / "tokenizer_config.json").is_file()
    assert not (tmp_path / "other" / CHECKSUMS).exists()


def test_progress_tells_what_is_left_from_what_was_done_now(caplog):
    seconds = iter([0.0, 10.0, 20.0, 20.0, 20.0, 20.0])
    progress = Progress({"a": 40, "b": 20, "c": 40}, clock=lambda: next(seconds))
    with caplog.at_level(logging.INFO):
        progress.skip("a")
        progress.advance("b")
        assert caplog.text == ""
        assert progress.state() == "60% of the weights, 0.7 min left"
        progress.advance("c")
    progress.close()
    assert "quantize: c is done, 100% of the weights, 0.0 min left" in caplog.text


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("source", "would overwrite the checkpoint"),
        (".", "would overwrite the checkpoint"),
        ("source/packed", "would overwrite the checkpoint"),
        ("downloads", "holds something else than a quantized checkpoint"),
        ("notes.txt", "is a file; name a folder"),
        ("link", "would overwrite the checkpoint"),
        ("dangling", "is a link; name the folder that it leads to"),
        ("mixed", "holds something else than a quantized checkpoint"),
    ],
)
def test_what_is_no_quantized_checkpoint_is_never_replaced(source, tmp_path, place, message):
    shutil.copytree(source, tmp_path / "source")
    (tmp_path / "downloads").mkdir()
    (tmp_path / "downloads" / "image.jpg").write_bytes(b"x")
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "link").symlink_to(tmp_path / "source")
    (tmp_path / "dangling").symlink_to(tmp_path / "gone")
    (tmp_path / "mixed" / "mine").mkdir(parents=True)
    (tmp_path / "mixed" / "config.json").write_text('{"quantization_config": {}}')
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(ReliabitError, match=message):
        run(tmp_path / "source", tmp_path / place)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
