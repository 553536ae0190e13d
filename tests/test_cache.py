"""The cache evicts what was used least recently, and nothing of a living run."""

import os
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from filelock import Timeout

from reliabit.cache import abandoned, entries, entry_lock, evict_lru


def entry(cache, name, *, size, used):
    folder = cache / "answers" / name
    folder.mkdir(parents=True)
    (folder / "data").write_bytes(b"x" * size)
    os.utime(folder, (used, used))


def test_room_is_made_from_what_was_of_no_use_for_longest(tmp_path):
    for number, name in enumerate("abcd"):
        entry(tmp_path, name, size=100, used=1000 + number)
    (tmp_path / "answers" / ".half").mkdir()
    removed = evict_lru(tmp_path, limit=250, spare_in_use=False)
    assert sorted(found.folder.name for found in removed) == ["a", "b"]
    assert [found.folder.name for found in entries(tmp_path)] == ["c", "d"]
    assert evict_lru(tmp_path, limit=250, spare_in_use=False) == []


def test_what_a_run_may_be_using_stays_whatever_the_limit(tmp_path):
    now = 1_000_000
    for name, used in (("old", 1000), ("older", 500), ("new", now - 3600)):
        entry(tmp_path, name, size=100, used=used)
    assert evict_lru(tmp_path, limit=300, now=now) == []
    assert [found.folder.name for found in evict_lru(tmp_path, limit=150, now=now)] == ["old", "older"]
    assert evict_lru(tmp_path, limit=0, now=now) == []
    assert [found.folder.name for found in entries(tmp_path)] == ["new"]
    assert [found.folder.name for found in evict_lru(tmp_path, limit=0, now=now, spare_in_use=False)] == ["new"]


def test_those_who_make_room_at_once_do_not_trip_over_each_other(tmp_path):
    for number in range(60):
        entry(tmp_path, f"e{number}", size=100, used=1000 + number)
    with ThreadPoolExecutor(4) as pool:
        removed = list(pool.map(lambda _: evict_lru(tmp_path, limit=1000, spare_in_use=False), range(8)))
    assert sum(len(found) for found in removed) == 50
    assert [found.folder.name for found in entries(tmp_path)] == [f"e{number}" for number in range(50, 60)]


def test_what_a_killed_run_left_is_removed_once_nothing_was_written_for_long(tmp_path):
    day = 86_400
    for name, folder_age, file_age in ((".old.x", 3 * day, 2 * day), (".slow.x", 3 * day, 10), (".young.x", 10, 10)):
        (tmp_path / "answers" / name).mkdir(parents=True)
        (tmp_path / "answers" / name / "half").write_text("x")
        os.utime(tmp_path / "answers" / name / "half", (time.time() - file_age,) * 2)
        os.utime(tmp_path / "answers" / name, (time.time() - folder_age,) * 2)
    assert [folder.name for folder in abandoned(tmp_path)] == [".old.x"]
    evict_lru(tmp_path, limit=100)
    assert sorted(folder.name for folder in (tmp_path / "answers").iterdir()) == [".slow.x", ".young.x"]


def test_calibrations_of_one_model_do_not_wait_for_each_other(tmp_path):
    with entry_lock(tmp_path / "calibration" / "qwen2_vl_7b-00aa"):
        with entry_lock(tmp_path / "calibration" / "qwen2_vl_7b-00ab", timeout=0):
            pass
        with pytest.raises(Timeout), entry_lock(tmp_path / "calibration" / "qwen2_vl_7b-00aa", timeout=0):
            pass
