"""Goals of speed: what the page says is what was measured."""

import against

from reliabit.paths import project_root


def test_the_page_has_every_goal_as_measured():
    page = (project_root() / "docs" / "tracking.md").read_text(encoding="utf-8")
    found = against.goals()
    assert against.goals_table(found) in page
    assert {one.met for one in found} == {True, False}


def test_a_goal_is_met_from_its_own_side():
    assert against.Goal("share", 0.5, 0.5, "x").met
    assert not against.Goal("share", 0.5, 0.51, "x").met
    assert against.Goal("times", 2.0, 2.1, "x", at_least=True).met
    assert not against.Goal("times", 2.0, None, "x", at_least=True).met
