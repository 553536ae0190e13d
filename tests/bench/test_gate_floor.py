"""How often a loss that is there is ruled out: the fast part of `bench/gate_floor.py`, and what it has written."""

import json
from dataclasses import replace

import gate_floor
import numpy as np
import pytest
from gate_floor import World, bootstrap_passes, false_passes, most_allowed

WORLDS = [
    World(20, "1", 0.0, "losses", 0.02),
    World(20, "10", 1.0, "losses", 0.05),
    World(96, "8", 1.0, "losses", 0.02),
    World(96, "1", 0.0, "soft losses", 0.05),
    World(200, "1", 0.0, "balanced", 0.05),
    World(200, "1-10", 0.5, "soft balanced", 0.05),
    World(500, "3", 0.5, "losses", 0.02),
    World(1000, "skewed", 1.0, "losses", 0.02),
    World(1100, "largest", 1.0, "losses", 0.02),
    World(2000, "1", 0.0, "losses", 0.005),
    World(2000, "10", 1.0, "balanced", 0.05),
    World(10_000, "10", 1.0, "losses", 0.005),
    World(300, "3", 1.0, "augrc sure", 0.05),
    World(500, "1", 0.0, "augrc", 0.02),
]


@pytest.mark.parametrize(("world", "extra"), [*((world, 0.0) for world in WORLDS), (WORLDS[2], 0.001)], ids=str)
def test_a_loss_of_the_margin_or_more_is_ruled_out_no_more_often_than_promised(world, extra):
    tries = 300 if world.questions < 5000 else 100
    passes = false_passes(world, tries=tries, extra=extra)
    for number, found in zip(gate_floor.COMPARED, passes, strict=True):
        assert found <= most_allowed(tries, compared=number, n_cases=4 * len(WORLDS))


@pytest.mark.parametrize("world", WORLDS, ids=str)
def test_losses_are_as_large_as_they_are_said_to_be(world):
    found = replace(world, questions=200_000).draw(np.random.default_rng(0))
    error = np.sqrt(((found.totals - found.estimate * found.sizes) ** 2).sum()) / found.sizes.sum()
    assert abs(found.estimate + world.loss) < 4 * error


@pytest.mark.parametrize(
    ("world", "tries", "at_least"),
    [(World(20, "1", 0.0, "losses", 0.021), 200, 100), (World(96, "8", 1.0, "losses", 0.021), 300, 43)],
    ids=str,
)
def test_a_bootstrap_breaks_the_promise_where_the_interval_keeps_it(world, tries, at_least):
    assert bootstrap_passes(world, tries=tries, extra=0.001) >= at_least
    assert false_passes(world, tries=tries, extra=0.001) == [0, 0]


def test_what_the_bench_has_written_keeps_the_promise():
    found = json.loads(gate_floor.RESULTS.read_text(encoding="utf-8"))
    worlds = list(gate_floor.cases())
    assert [World(**{name: row[name] for name in World.__dataclass_fields__}) for row in found["cases"]] == worlds
    for row in found["cases"]:
        for number, passes in zip(found["compared"], row["passes"], strict=True):
            assert passes <= most_allowed(row["tries"], compared=number, n_cases=len(worlds) * len(found["compared"]))
