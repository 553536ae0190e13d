"""Kept encoded questions: they answer as fresh ones do, and nothing is encoded or seen twice."""

import pytest
from torch.utils.data import DataLoader

from inference.answers import answer_table
from reliabit.inference.answering import answer_batches, predict
from reliabit.inference.chunks import chunks
from reliabit.inference.encoded_store import EncodedStore, VisionEncoding

HOW = {"accelerator": "cpu", "progress": False}
SIZE = 3


class Encoding:
    """Encodes and sees batches of a chunk, and keeps which."""

    def __init__(self, checkpoint, chunk):
        self.checkpoint, self.chunk, self.encoded = checkpoint, chunk, []

    def __call__(self, numbers):
        self.encoded += list(numbers)
        rows = range(len(self.chunk.questions))
        part = self.chunk.questions.select([row for n in numbers for row in rows[n * SIZE : (n + 1) * SIZE]])
        loader = DataLoader(part, batch_size=SIZE, collate_fn=self.checkpoint.encoder)
        return [batch for [batch] in predict(VisionEncoding(self.checkpoint), loader, **HOW)]


@pytest.fixture(params=["easy_vqa", "scenes"])
def chunk(tables, request):
    table = tables[request.param]["test"].select(range(8))
    marked = table.add_column("split", ["test"] * 8).add_column("shift", ["none"] * 8)
    return next(iter(chunks(marked, size=8)))


def store_in(folder, *, identity="a", room=10**9):
    return EncodedStore(folder=folder, identity=identity, batch_size=SIZE, questions=8, room=room)


def answers_of(encoded, checkpoint):
    return answer_batches(DataLoader(encoded.batches, batch_size=None), checkpoint, max_new_tokens=8, **HOW)


def test_kept_questions_are_answered_as_fresh_ones(checkpoint, chunk, tmp_path):
    plain = answer_table(chunk.questions, checkpoint, batch_size=SIZE, max_new_tokens=8, **HOW)
    first, second = Encoding(checkpoint, chunk), Encoding(checkpoint, chunk)
    encoded = store_in(tmp_path).encode(chunk, first)
    found = store_in(tmp_path).encode(chunk, second)
    assert answers_of(encoded, checkpoint) == plain
    assert answers_of(found, checkpoint) == plain
    assert first.encoded == [0, 0, 1, 2], "the first batch tells how much room is needed"
    assert second.encoded == []
    assert encoded.seconds == found.seconds > 0


def test_a_batch_is_kept_whole(checkpoint, chunk, tmp_path):
    encoded = store_in(tmp_path).encode(chunk, Encoding(checkpoint, chunk)).batches
    found = store_in(tmp_path).encode(chunk, Encoding(checkpoint, chunk)).batches
    for before, after in zip(encoded, found, strict=True):
        assert after.question_ids == before.question_ids
        for name in ("image_of", "image_tokens", "question_tokens"):
            assert getattr(after, name).equal(getattr(before, name))
        for mine, theirs in ((after.text, before.text), (after.images, before.images)):
            assert mine.keys() == theirs.keys()
            assert all(mine[name].equal(theirs[name]) for name in mine)
        assert "pixel_values" not in after.images
        assert all(mine.equal(theirs) for mine, theirs in zip(after.seen, before.seen, strict=True))


def test_what_is_seen_otherwise_is_kept_apart(checkpoint, chunk, tmp_path):
    store_in(tmp_path).encode(chunk, Encoding(checkpoint, chunk))
    other = Encoding(checkpoint, chunk)
    store_in(tmp_path, identity="b").encode(chunk, other)
    assert other.encoded


def test_what_takes_too_much_room_is_not_kept(checkpoint, chunk, tmp_path):
    encoding, store = Encoding(checkpoint, chunk), store_in(tmp_path, room=1000)
    assert store.encode(chunk, encoding) is None
    assert store.encode(chunk, encoding) is None
    assert encoding.encoded == [0]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("damage", ["batches.safetensors", "batches.json"])
def test_a_damaged_chunk_is_encoded_again(checkpoint, chunk, tmp_path, damage):
    encoded = store_in(tmp_path).encode(chunk, Encoding(checkpoint, chunk))
    [path] = tmp_path.glob(f"*/{damage}")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    again = Encoding(checkpoint, chunk)
    repaired = store_in(tmp_path).encode(chunk, again)
    assert again.encoded
    assert answers_of(repaired, checkpoint) == answers_of(encoded, checkpoint)
