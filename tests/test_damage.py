"""What is read is verified: one bit of anything that is kept or recorded, and it is told, never taken for what was."""

import re
from pathlib import Path, PurePosixPath

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from datasets import Dataset

from damage import places_in, turn, turned
from reliabit.digests import DigestCache
from reliabit.errors import DamagedError, ReliabitError
from reliabit.evaluation.report import build_report
from reliabit.evaluation.settings import EvaluationConfig
from reliabit.files import MANIFEST, check_manifest, read_sealed, sealed, sha256, write_manifest
from reliabit.identity import FINGERPRINT, Fingerprint
from reliabit.inference.answer_store import Answers, AnswerStore
from reliabit.inference.cell_record import CellRecord, read_cell_record
from reliabit.inference.chunks import Chunk
from reliabit.inference.encoded_store import EncodedStore
from reliabit.inference.features import feature_writer, read_features
from reliabit.inference.predictions import COLUMNS, PREDICTIONS, read_predictions, write_predictions
from reliabit.inference.settings import FeatureSettings
from reliabit.models.encoding import Batch
from reliabit.tasks.evaluate import located
from reliabit.tracking.results_sync import digest_of, sync_results
from reliabit.tracking.settings import TrackingConfig
from reliabit.tracking.tracker import CONFIG
from tracking.stores import artifacts_of, store_at, tracker_at

TIMES = 150
SETTINGS = EvaluationConfig(
    risks=[0.05],
    costs=[1],
    n_bins=[15],
    certified_risks=[0.2],
    delta=0.1,
    slices=["question_type"],
    reported="test",
    mixtures={},
    resamples=20,
    level=0.95,
    seed=0,
)


def predictions_of(*, seed=0, images=30):
    rng = np.random.default_rng(seed)
    rows = []
    for split in ("val", "cal", "test"):
        for number in range(2 * images):
            sure = float(rng.beta(4, 1))
            own = {
                "split": split,
                "shift": "none",
                "question_id": f"{split}{number}",
                "image_id": f"{split}{number // 2}",
            }
            values = {"conf_maxprob": sure, "accuracy": float(rng.random() < sure), "n_tokens": 2, "truncated": False}
            plain = {name: f"{name} {number % 7}" if kind == "string" else sure for name, kind in COLUMNS.items()}
            rows.append({**plain, "n_annotators": 10, "source": "made", **own, **values})
    return pa.Table.from_pylist(rows, schema=schema())


def schema():
    return pa.schema([(name, pa.type_for_alias(kind)) for name, kind in COLUMNS.items()])


def is_one_sentence(error):
    text = str(error)
    return "\n" not in text and ";" in text and "Traceback" not in text


# Kept results: said in one line, and made anew.


@pytest.fixture
def questions():
    row = {"image": b"an image", "question": "what?", "split": "test", "shift": "none", "source": "s", "answers": ["a"]}
    return Dataset.from_list([{**row, "question_id": str(number)} for number in range(6)])


def an_answer(question_id):
    numbers = ("log_prob", "first_token_prob", "min_token_prob", "first_token_entropy", "first_token_margin")
    return {
        "question_id": question_id,
        "answer": "yes",
        **dict.fromkeys(numbers, 0.25),
        "n_tokens": 1,
        "truncated": False,
    }


class Model:
    """Answers, and counts how often it was asked."""

    def __init__(self):
        self.chunks = 0

    def __call__(self, chunk, writer):
        self.chunks += 1
        ids = chunk.questions["question_id"]
        states = np.arange(4.0 * len(ids)).reshape(len(ids), 4)
        writer.append(dict.fromkeys(("image", "question", "first"), states))
        return Answers([an_answer(question_id) for question_id in ids], seconds=1.5)


@pytest.mark.medium
def test_no_bit_of_kept_answers_changes_unnoticed(questions, tmp_path, capsys):
    store, model = AnswerStore(tmp_path, identity="a", chunk=6, features=FeatureSettings()), Model()
    (stored,) = store.ask(questions, model)
    files = [path for path in stored.folder.rglob("*") if path.is_file()]
    assert {path.name for path in files} == {"answers.json", "features.json", "image.npy", "question.npy", "first.npy"}
    for path, bit in places_in(files, count=TIMES):
        asked = model.chunks
        turn(path, bit)
        assert store.missing(questions), (path, bit)
        (again,) = store.ask(questions, model)
        assert model.chunks == asked + 1, (path, bit)
        assert again.answers == stored.answers
        said = capsys.readouterr().err
        assert re.fullmatch(r"[^\n]*: it is dropped and made anew\n", said), said
        assert str(stored.folder) in said
    asked = model.chunks
    list(store.ask(questions, model))
    assert model.chunks == asked, "what is whole is not answered again"


def test_a_right_answer_cannot_be_made_of_a_wrong_one(questions, tmp_path):
    """Two bytes of kept answers moved the accuracy of a run without a word."""
    store, model = AnswerStore(tmp_path, identity="a", chunk=6, features=None), Model()

    def answer(chunk, _):
        model.chunks += 1
        return Answers([an_answer(question_id) for question_id in chunk.questions["question_id"]], seconds=1.0)

    (stored,) = store.ask(questions, answer)
    path = stored.folder / "answers.json"
    path.write_bytes(path.read_bytes().replace(b'"answer": "yes"', b'"answer": "yep"', 1))
    (again,) = store.ask(questions, answer)
    assert again.answers == stored.answers
    assert model.chunks == 2
    # Whole, sealed and of other questions.
    record = read_sealed(path, remedy="")
    record["answers"][0]["question_id"] = "another"
    path.write_bytes(sealed(record))
    list(store.ask(questions, answer))
    assert model.chunks == 3


def test_whoever_fills_answers_what_is_damaged(questions, tmp_path, capsys):
    store, model = AnswerStore(tmp_path, identity="a", chunk=3, features=FeatureSettings()), Model()
    first, _ = store.ask(questions, model)
    turn(first.folder / "answers.json", 800)
    list(store.fill(questions, model, share=0.0))
    assert model.chunks == 3
    assert capsys.readouterr().err.count("made anew") == 1
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".removed")]


def test_no_bit_of_encoded_questions_changes_unnoticed(questions, tmp_path, capsys):
    chunk = Chunk(questions, digest="d")
    encoded = []

    def encode(numbers):
        encoded.append(list(numbers))
        ids = torch.arange(12).reshape(6, 2)
        masks = {"image_tokens": ids > 3, "question_tokens": ids > 5}
        seen = [torch.linspace(0, 1, 8).reshape(2, 4)]
        return [Batch(questions["question_id"], {"input_ids": ids}, {}, torch.zeros(6, dtype=int), **masks, seen=seen)]

    store = EncodedStore(tmp_path, identity="a", batch_size=6, questions=6, room=10**9)
    store.encode(chunk, encode)
    (folder,) = [path for path in tmp_path.iterdir() if path.is_dir()]
    for path, bit in places_in(sorted(folder.iterdir()), count=TIMES):
        made = len(encoded)
        turn(path, bit)
        store.encode(chunk, encode)
        assert len(encoded) == made + 1, (path, bit)
        assert re.fullmatch(r"[^\n]*: it is dropped and made anew\n", capsys.readouterr().err)
    made = len(encoded)
    assert torch.equal(store.encode(chunk, encode).batches[0].seen[0], torch.linspace(0, 1, 8).reshape(2, 4))
    assert len(encoded) == made


def test_no_bit_of_a_kept_digest_changes_unnoticed(tmp_path, monkeypatch):
    monkeypatch.setattr("reliabit.digests.SETTLED_SECONDS", -1.0)
    path, cache = tmp_path / "weights", DigestCache(tmp_path / "digests")
    path.write_bytes(b"weights")
    expected = cache.sha256(path)
    (record,) = cache.folder.iterdir()
    for _, bit in places_in([record], count=TIMES):
        turn(record, bit)
        assert cache.sha256(path) == expected


# What was recorded: refused in one sentence.


def test_no_bit_of_features_changes_unnoticed(tmp_path):
    keys = pa.table({name: ["a", "b", "c"] for name in ("source", "split", "shift", "question_id")})
    with feature_writer(tmp_path / "f", keys=keys, settings=FeatureSettings()) as writer:
        writer.append(dict.fromkeys(("image", "question", "first"), np.arange(12.0).reshape(3, 4)))
    for path, bit in places_in(sorted((tmp_path / "f").iterdir()), count=TIMES):
        with turned(path, bit), pytest.raises(ReliabitError) as raised:
            read_features(tmp_path / "f", predictions=keys)
        assert is_one_sentence(raised.value)
        assert str(path) in str(raised.value)
    assert read_features(tmp_path / "f", predictions=keys)["first"].tolist() == np.arange(12.0).reshape(3, 4).tolist()


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    path = tmp_path_factory.mktemp("predictions") / PREDICTIONS
    write_predictions(predictions_of(), path)
    return path


def test_no_bit_of_a_predictions_table_changes_unnoticed(written):
    """Alone, without a run or a manifest: anywhere, and all along its end, which the sums of pages do not cover."""
    content = written.read_bytes()
    end = int.from_bytes(content[-8:-4], "little") + 8
    behind = [(written, 8 * byte + byte % 8) for byte in range(len(content) - end, len(content), 7)]
    for path, bit in [*places_in([written], count=2 * TIMES), *behind]:
        with turned(path, bit), pytest.raises(DamagedError) as raised:
            read_predictions(path)
        assert is_one_sentence(raised.value), raised.value
    assert read_predictions(written).equals(predictions_of())


def test_a_table_cut_short_or_of_other_bytes_is_refused(written, tmp_path):
    content = written.read_bytes()
    path = tmp_path / PREDICTIONS
    for damaged in (
        content[:-1],
        content[: len(content) // 2],
        content[1:],
        b"",
        content + b"x",
        content[:-4] + b"PARE",
    ):
        path.write_bytes(damaged)
        with pytest.raises(DamagedError) as raised:
            read_predictions(path)
        assert is_one_sentence(raised.value)


def test_tables_from_elsewhere_stay_readable(tmp_path):
    """Whatever wrote them: Arrow, with and without its schema, and pandas, whose metadata are others."""
    table, path = predictions_of(), tmp_path / "theirs.parquet"
    pq.write_table(table, path)
    assert read_predictions(path).equals(table)
    pq.write_table(table, path, store_schema=False, compression="gzip")
    assert read_predictions(path).equals(table)
    table.to_pandas().to_parquet(path)
    assert read_predictions(path).num_rows == table.num_rows


def test_the_sums_of_pages_are_checked_where_others_wrote_them(tmp_path):
    path = tmp_path / "theirs.parquet"
    pq.write_table(predictions_of(), path, write_page_checksum=True, compression="none", use_dictionary=False)
    place = path.read_bytes().find(b"question 3")
    with turned(path, 8 * place), pytest.raises(DamagedError, match="is not a Parquet file that can be read"):
        read_predictions(path)


def test_any_reader_reads_what_is_written_here(written, tmp_path):
    """And what it writes is a table from elsewhere, which no hash is known of."""
    frame = pq.read_table(written).to_pandas()
    assert frame["accuracy"].tolist() == predictions_of()["accuracy"].to_pylist()
    pq.write_table(pq.read_table(written), tmp_path / PREDICTIONS)
    assert read_predictions(tmp_path / PREDICTIONS).equals(predictions_of())


def test_the_hash_is_no_part_of_the_table(tmp_path):
    table = predictions_of().replace_schema_metadata({b"reliabit.answered_by": b"0" * 64})
    write_predictions(table, tmp_path / PREDICTIONS)
    assert read_predictions(tmp_path / PREDICTIONS).equals(table, check_metadata=True)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory, written):
    """A run with what it is read by: its configuration, fingerprint, predictions and a Selector."""
    folder = tmp_path_factory.mktemp("store")
    tracker, root = tracker_at(folder), tmp_path_factory.mktemp("outputs")
    (root / "selectors" / "selector").mkdir(parents=True)
    (root / "selectors" / "selector" / "selector.json").write_text('{"hidden": [8]}')
    (root / PREDICTIONS).write_bytes(written.read_bytes())
    fingerprint = Fingerprint(config={"seed": 0}, inputs={"a": "b"}, code={}, libraries={})
    with tracker.run("cell", tags={"kind": "cell"}) as run:
        run.log_identity({"seed": 0, "quant": {"bits": 4}}, fingerprint=fingerprint)
        run.log_files([root / PREDICTIONS, root / "selectors" / "selector" / "selector.json"], root=root)
    return folder, tracker, run.run_id


@pytest.mark.medium
def test_no_bit_of_what_a_run_recorded_changes_unnoticed(recorded, tmp_path):
    _, tracker, run_id = recorded
    run = tracker.client.get_run(run_id)
    assert set(artifacts_of(run)) == {CONFIG, FINGERPRINT, PREDICTIONS, "selectors/selector/selector.json"}
    place = Path(run.info.artifact_uri.removeprefix("file://"))
    files = [place / name for name in artifacts_of(run)]
    for number, (path, bit) in enumerate(places_in(files, count=100)):
        name = path.relative_to(place).as_posix()
        # By its own name, with its folder, or with all there is.
        for asked in {name, *map(str, PurePosixPath(name).parents), ""} - {"."}:
            with turned(path, bit), pytest.raises(DamagedError) as raised:
                tracker.fetch(run_id, asked, tmp_path / f"{number}{asked.replace('/', '')}")
            assert is_one_sentence(raised.value)
            assert f"the run {run_id} recorded another" in str(raised.value)
    tracker.fetch_all(run_id, tmp_path / "whole")
    assert read_predictions(tmp_path / "whole" / PREDICTIONS).equals(predictions_of())


@pytest.mark.medium
def test_predictions_that_were_exchanged_are_refused(recorded):
    """With a table that is whole by itself: the hash lies with the run, where the file does not."""
    folder, tracker, run_id = recorded
    run = tracker.client.get_run(run_id)
    path = Path(run.info.artifact_uri.removeprefix("file://")) / PREDICTIONS
    before = path.read_bytes()
    write_predictions(predictions_of(seed=1), path)
    settings = TrackingConfig(**store_at(folder))
    with pytest.raises(DamagedError, match="recorded another"), located(f"runs:/{run_id}", settings):
        pass
    path.unlink()
    with (
        pytest.raises(ReliabitError, match=r"has no predictions.parquet to read"),
        located(f"runs:/{run_id}", settings),
    ):
        pass
    path.write_bytes(before)
    with located(f"runs:/{run_id}", settings) as found:
        assert read_predictions(found).num_rows


@pytest.mark.medium
def test_runs_from_before_there_were_hashes_are_read_as_ever(tmp_path):
    tracker = tracker_at(tmp_path)
    pq.write_table(predictions_of(), tmp_path / PREDICTIONS)
    with tracker.run("old", tags={}) as run:
        run.log_file(tmp_path / PREDICTIONS)
    assert read_predictions(tracker.fetch(run.run_id, PREDICTIONS, tmp_path / "fetched")).equals(predictions_of())


def answered_cell(tags):
    return CellRecord(
        "a cell", tags=tags, config={"seed": 0}, table="data/d", efficiency={"bytes": 1.5}, kernels={"lm_head": "eager"}
    )


@pytest.fixture
def results(tmp_path, written):
    """A cell's folder as the stages leave it."""
    cell = tmp_path / "results" / "m-none-d"
    answered_cell({"kind": "cell"}).write(cell)
    (cell / "selected").mkdir()
    (cell / "selected" / PREDICTIONS).write_bytes(written.read_bytes())
    write_manifest(cell / "selected", [cell / "selected" / PREDICTIONS])
    files = build_report(predictions_of(), SETTINGS).write(cell / "report")
    write_manifest(cell / "report", files, predictions=sha256(written))
    return tmp_path / "results"


def read_results(results):
    """What synchronizing and promoting read of a cell."""
    cell = results / "m-none-d"
    return digest_of(cell), read_cell_record(cell), read_predictions(cell / "selected" / PREDICTIONS)


def test_no_bit_of_written_results_changes_unnoticed(results):
    cell = results / "m-none-d"
    assert read_results(results)[-1].equals(predictions_of())
    files = [path for path in sorted(cell.rglob("*")) if path.is_file()]
    assert len(files) == 9
    for path, bit in places_in(files, count=TIMES):
        with turned(path, bit), pytest.raises(DamagedError) as raised:
            read_results(results)
        assert is_one_sentence(raised.value)
    # Whatever their size, each of them.
    for path in files:
        with turned(path, 8 * (path.stat().st_size // 2)), pytest.raises(DamagedError, match=re.escape(str(path))):
            read_results(results)


def test_results_that_do_not_belong_together_are_refused(results, written):
    """Each whole by itself: predictions that another report was made of, and a report whose manifest is gone."""
    cell = results / "m-none-d"
    write_predictions(predictions_of(seed=1), cell / "selected" / PREDICTIONS)
    with pytest.raises(DamagedError, match=f"{PREDICTIONS} differs from its hash"):
        read_results(results)
    write_manifest(cell / "selected", [cell / "selected" / PREDICTIONS])
    with pytest.raises(DamagedError, match=r"differs from its hash; the report is of others; bring it up to date"):
        read_results(results)
    (cell / "selected" / PREDICTIONS).write_bytes(written.read_bytes())
    write_manifest(cell / "selected", [cell / "selected" / PREDICTIONS])
    read_results(results)
    (cell / "report" / MANIFEST).unlink()
    with pytest.raises(
        DamagedError, match=r"reliabit_files\.json cannot be read .No such file or directory.; bring it up to date"
    ):
        read_results(results)


@pytest.mark.medium
@pytest.mark.parametrize(
    "tags", [{"kind": "promotion"}, {"promotion.number": "1"}, {"kind": "cell", "mlflow.user": "x"}]
)
def test_a_cell_s_file_cannot_bring_tags_of_the_store(results, tmp_path, tags):
    """Whole by itself: it is what the store alone may say that it says."""
    answered_cell(tags).write(results / "m-none-d")
    tracker = tracker_at(tmp_path)
    with pytest.raises(ReliabitError, match="has the tag '.*', which no cell has") as raised:
        sync_results(results, tracker, root=tmp_path, cache=DigestCache(tmp_path / "digests"))
    assert is_one_sentence(raised.value)
    assert tracker.runs_with({}) == []


def test_a_table_beside_a_manifest_is_the_one_that_it_names(results):
    """Also where it is named by hand, and was written again by a tool that keeps no metadata."""
    path = results / "m-none-d" / "selected" / PREDICTIONS
    frame = read_predictions(path).to_pandas()
    frame.to_parquet(path)
    with pytest.raises(DamagedError, match="differs from its recorded hash"):
        read_predictions(path)


def test_a_sealed_record_is_json_and_no_byte_of_it_is_free(tmp_path):
    path, record = tmp_path / "record.json", {"b": [1, 2.5, None], "a": "ä"}
    for indent in (None, 2):
        path.write_bytes(sealed(record, indent=indent))
        assert read_sealed(path, remedy="") == record
        for bit in range(0, 8 * path.stat().st_size, 5):
            with turned(path, bit), pytest.raises(DamagedError, match="differs from the hash it begins with; again"):
                read_sealed(path, remedy="again")
        path.write_bytes(path.read_bytes() + b" ")
        with pytest.raises(DamagedError):
            read_sealed(path, remedy="")


def test_a_manifest_names_what_is_missing(tmp_path):
    (tmp_path / "a").write_text("a")
    write_manifest(tmp_path, [tmp_path / "a"], fact="f")
    assert check_manifest(tmp_path, remedy="")["fact"] == "f"
    (tmp_path / MANIFEST).write_bytes(sealed({"files": ["a"]}))
    with pytest.raises(DamagedError, match="names no files; again"):
        check_manifest(tmp_path, remedy="again")
    write_manifest(tmp_path, [tmp_path / "a"])
    (tmp_path / "a").unlink()
    with pytest.raises(DamagedError, match="a cannot be read .No such file or directory.; again"):
        check_manifest(tmp_path, remedy="again")
