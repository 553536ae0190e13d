"""How a process ends: whatever is registered is done and written, with the status that was asked for."""

import ctypes
import gc
import os
import subprocess
import sys

import pytest

from launching import run_python
from reliabit.process import rare_collections

ENDING = """
import atexit, sys, threading
from reliabit.process import run_and_leave

def work():
    atexit.register(lambda: print("registered", end=""))
    print("written ", end="")
    {body}

run_and_leave(work)
"""


def ended(body, *options):
    return run_python(*options, "-c", ENDING.format(body=body))


@pytest.mark.parametrize(
    ("body", "status"),
    [("pass", 0), ("sys.exit()", 0), ("sys.exit(2)", 2), ("sys.exit(True)", 1), ("sys.exit('no')", 1)],
)
def test_all_that_is_left_to_do_is_done(body, status):
    done = ended(body)
    assert (done.returncode, done.stdout) == (status, "written registered")
    assert done.stderr == ("no\n" if "'no'" in body else "")


def test_nothing_is_freed_one_by_one():
    body = "sys.modules['kept'] = type('Kept', (), {'__del__': lambda self: print('freed')})()"
    assert ended(body).stdout == "written registered"


def test_an_error_ends_as_python_ends_it():
    done = ended("raise ValueError('wrong')")
    assert (done.returncode, done.stdout) == (1, "written registered")
    assert done.stderr.endswith("ValueError: wrong\n")


def test_a_thread_that_is_at_work_is_waited_for():
    body = "threading.Timer(0.2, lambda: print('waited ', end='')).start()"
    assert ended(body).stdout == "written waited registered"


def test_a_profiler_is_left_its_results():
    done = ended("pass", "-m", "cProfile")
    assert "function calls" not in done.stdout or done.returncode == 0
    code = "import sys; sys.setprofile(lambda *_: None); from reliabit.process import leave; leave(3)"
    assert run_python("-c", code).returncode == 3


def test_output_that_cannot_be_written_is_no_success():
    with open("/dev/full", "w") as full:  # noqa: PTH123 - no path of a file
        done = subprocess.run(
            [sys.executable, "-c", "from reliabit.process import run_and_leave; run_and_leave(lambda: print('lost'))"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode != 0
    assert "No space left" in done.stderr


def test_collections_are_as_before_after_an_import():
    before = gc.get_threshold()
    with rare_collections(), rare_collections():
        assert gc.get_threshold()[0] > before[0]
    assert gc.get_threshold() == before
    with pytest.raises(ImportError), rare_collections():
        raise ImportError
    assert gc.get_threshold() == before


REUSING = """
import resource
import numpy as np
from reliabit.process import keep_freed_memory

{first}
for _ in range(50):
    blocks = [np.ones(2**20, np.uint8) for _ in range(16)]
    del blocks
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
"""


def page_faults(first, **environ):
    done = run_python("-c", REUSING.format(first=first), env={**os.environ, **environ})
    return int(done.stdout)


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="the C library has no mallopt")
def test_freed_memory_is_used_again_without_asking_the_system_for_new_pages():
    given_back = {"MALLOC_TRIM_THRESHOLD_": "0", "MALLOC_MMAP_THRESHOLD_": "131072"}
    kept, asked = page_faults("keep_freed_memory()"), page_faults("", **given_back)
    # 50 times 16 MiB in pages of at least 4 KiB, but for huge pages; kept memory is faulted in once.
    assert kept < asked / 4
    assert page_faults("keep_freed_memory()", **given_back) > asked / 2, "what the environment says is left as it is"
