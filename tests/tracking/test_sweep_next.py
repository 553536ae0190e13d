"""The command that a sweep's end names: go on, do what it was for, or let the gate choose."""

from types import SimpleNamespace

import pytest

from reliabit.tracking.sweep.running import _next_command

MAXPROB_ALONE, BOTH = {"selective/aurc": 0.1}, {"selective/aurc": 0.1, "selective/aurc.selector": 0.1}


def next_command(*cells, done=2, then=None, places=()):
    sweep = SimpleNamespace(
        run=SimpleNamespace(run_id="p1"),
        policy=SimpleNamespace(confidence="selector"),
        asked=2,
        then=then,
        places=places,
    )
    return _next_command(sweep, [SimpleNamespace(data=SimpleNamespace(metrics=cell)) for cell in cells], done=done)


@pytest.mark.parametrize(
    ("cells", "options", "expected"),
    [
        ([BOTH, BOTH], {}, "reliabit promote --dry-run"),
        ([BOTH, MAXPROB_ALONE], {}, "reliabit promote --dry-run registry.confidence=maxprob"),
        ([BOTH], {"done": 1}, "python src/run.py sweep.resume=p1"),
        ([MAXPROB_ALONE] * 2, {"then": "-m quant.bits=2,3"}, "python src/run.py -m quant.bits=2,3"),
        (
            [BOTH] * 2,
            {"places": ["seed=a b"]},
            "reliabit promote --dry-run 'seed=a b'",
        ),
    ],
)
def test_what_comes_next(cells, options, expected):
    assert next_command(*cells, **options) == expected
