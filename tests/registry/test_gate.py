"""The gate on made predictions with planted differences: each refusal for its reason, and what must never happen."""

import json
import math
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from messages import NOT_THE_SAME_QUESTIONS
from registry.measured import IMAGES, MARGINS, POLICY, configuration, costs, live, table, unquantized
from reliabit.confidence.leakage import FittedOn
from reliabit.errors import ReliabitError
from reliabit.evaluation.prediction_columns import rows_of, scored_answers, with_fitted_on
from reliabit.metrics import certify_threshold
from reliabit.registry.choosing import choose
from reliabit.registry.gate import decide
from reliabit.registry.verdict import verdicts


@pytest.fixture(scope="module")
def tables():
    return {
        "none": table(accuracy=0.9),
        "good": table(accuracy=0.9, skill=0.6),
        "better": table(accuracy=0.9),
        "worse": table(accuracy=0.8),
        "lopsided": table(accuracy=0.9, lost=("color",)),
        "blind": table(accuracy=0.9, skill=0.2),
    }


@pytest.fixture(scope="module")
def baseline(tables):
    return unquantized(tables["none"])


def failed(decision):
    return [reason.rule for reason in decision.reasons if not reason.passed]


def text_of(decision, rule):
    (found,) = [reason.text for reason in decision.reasons if reason.rule == rule]
    return found


def with_right(predictions, right):
    return predictions.set_column(
        predictions.column_names.index("accuracy"), "accuracy", pa.array(np.asarray(right, dtype=float))
    )


def test_a_first_promotion_needs_no_incumbent(tables, baseline):
    decision = decide(configuration("good", tables["good"]), None, POLICY, baseline=baseline, compared=3)
    assert decision.accepted, decision.markdown()
    assert [(one.risk, one.comparisons) for one in decision.certificates] == [(0.05, 3), (0.1, 3)]
    assert "replaces none" in decision.markdown()


def test_certificates_are_those_of_the_best_of_all_that_were_compared(tables, baseline):
    decision = decide(configuration("good", tables["good"]), None, POLICY, baseline=baseline, compared=7)
    val, cal = (scored_answers(rows_of(tables["good"], split), "maxprob") for split in ("val", "cal"))
    expected = certify_threshold(
        val.confidence, val.accuracy, cal.confidence, cal.accuracy, 0.1, 0.1, cal_image_ids=cal.images, comparisons=7
    )
    assert decision.certificates[1] == expected
    alone = decide(configuration("good", tables["good"]), None, POLICY, baseline=baseline, compared=1)
    assert alone.certificates[1].coverage >= expected.coverage


@pytest.mark.parametrize(
    ("change", "rule", "text"),
    [
        ({"status": "FAILED"}, "finished", "candidate good is FAILED"),
        ({"dirty": ("git.dirty is true",)}, "clean", "candidate good: git.dirty is true: commit the changes"),
        (
            {"inputs": {"data/test": "x", "data/cal": "b"}},
            "same data",
            r"baseline none read different data \(data/test\)",
        ),
        ({"model": {"model/model.safetensors": "x"}}, "baseline", "none is of another model"),
        ({"predictions": None}, "comparable", "candidate good recorded no predictions"),
        ({"efficiency": {}}, "comparable", "candidate good has no efficiency/stored_bytes"),
    ],
)
def test_evidence_that_decides_nothing_is_refused(tables, baseline, change, rule, text):
    candidate = configuration("good", tables["good"], **change)
    decision = decide(candidate, None, POLICY, baseline=baseline, compared=1)
    assert failed(decision) == [rule]
    assert pc.match_substring_regex(pa.array([text_of(decision, rule)]), text)[0].as_py(), text_of(decision, rule)


def test_the_baseline_has_to_be_sound_as_well(tables):
    candidate = configuration("good", tables["good"])
    dirty = unquantized(tables["none"], dirty=("git.dirty is unknown",), status="KILLED")
    assert failed(decide(candidate, None, POLICY, baseline=dirty, compared=1)) == ["finished", "clean"]
    quantized = configuration("8 bits", tables["none"])
    assert failed(decide(candidate, None, POLICY, baseline=quantized, compared=1)) == ["baseline"]


def test_runs_without_digests_cannot_be_compared(tables):
    candidate = configuration("good", tables["good"], inputs={})
    decision = decide(candidate, None, POLICY, baseline=unquantized(tables["none"], inputs={}), compared=1)
    assert failed(decision) == ["same data"]


def test_other_questions_are_refused(tables, baseline):
    for answers in (tables["good"].slice(1), table(images={**IMAGES, "cal": 299})):
        decision = decide(configuration("good", answers), None, POLICY, baseline=baseline, compared=1)
        assert failed(decision) == ["comparable"]
        assert NOT_THE_SAME_QUESTIONS in text_of(decision, "comparable")


def test_what_the_policy_needs_has_to_be_there(tables, baseline):
    selector = replace(POLICY, confidence="selector", slices=("colour",))
    decision = decide(configuration("good", tables["good"]), None, selector, baseline=baseline, compared=1)
    assert failed(decision) == ["comparable"]
    for lacking in ("candidate good has no column conf_selector", "baseline none has no column colour"):
        assert lacking in text_of(decision, "comparable")
    assert "(confidence=selector), or judge by registry.confidence=maxprob." in text_of(decision, "comparable")


def test_a_confidence_that_has_seen_its_judges_is_refused(tables, baseline):
    seen = with_fitted_on(tables["good"], {"maxprob": FittedOn.images(["made/cal-7"])})
    decision = decide(configuration("good", seen), None, POLICY, baseline=baseline, compared=1)
    assert failed(decision) == ["measurable"]


def test_a_large_loss_of_accuracy_is_refused(tables, baseline):
    decision = decide(configuration("worse", tables["worse"]), None, POLICY, baseline=baseline, compared=1)
    assert "accuracy" in failed(decision)
    assert "it loses more than 3 points" in text_of(decision, "accuracy")


def test_a_loss_that_cannot_be_ruled_out_is_refused_though_the_point_value_would_do():
    few = {"test": 40, "val": 100, "cal": 300}
    baseline = unquantized(table(accuracy=0.9, images=few))
    candidate = configuration("close", table(accuracy=0.88, images=few))
    decision = decide(candidate, None, replace(POLICY, slices=()), baseline=baseline, compared=1)
    change = scored_answers(rows_of(candidate.predictions, "test"), "maxprob").accuracy.mean()
    change -= scored_answers(rows_of(baseline.predictions, "test"), "maxprob").accuracy.mean()
    assert -POLICY.accuracy_loss < change < 0
    assert failed(decision) == ["accuracy"]
    assert "cannot be ruled out" in text_of(decision, "accuracy")


def test_more_comparisons_ask_for_more_evidence(tables, baseline):
    near = replace(POLICY, accuracy_loss=0.028, slices=(), minimum_coverage=0.0)
    candidate = configuration("near", table(accuracy=0.89))
    accepted = [decide(candidate, None, near, baseline=baseline, compared=n).accepted for n in (1, 10_000)]
    assert accepted == [True, False]


@pytest.mark.parametrize(("images", "per_image"), [(20, 1), (12, 9)])
def test_images_too_few_to_rule_out_a_loss_are_told_how_many_it_takes(images, per_image):
    asked = {"test": images, "val": 100, "cal": 300}
    answers = table(accuracy=0.9, images=asked, per_image=per_image)
    baseline, same = unquantized(answers), configuration("same", answers)
    strict = replace(POLICY, accuracy_loss=0.02, slice_loss=0.05, slice_questions=1)
    decision = decide(same, None, strict, baseline=baseline, compared=1)
    assert failed(decision) == ["accuracy", "slices by question_type"]
    reach = 100 * (1 - 0.025 ** (1 / images))
    assert text_of(decision, "accuracy") == (
        f"accuracy changes by +0.00 [-{reach:.2f}, +{reach:.2f}] points against the baseline at 95 %; a loss of more "
        "than 2 points cannot be ruled out, for which it takes 183 images like these even if no answer changes, and "
        f"there are {images}."
    )
    assert "for which it takes 72 images" in text_of(decision, "slices by question_type")
    decision = decide(same, live(configuration("live", answers)), strict, baseline=baseline, compared=1)
    assert "for which it takes 183 images like these" in text_of(decision, "accuracy against the live version")
    assert "for which it takes 368 images like these" in text_of(decision, "AUGRC against the live version")


def test_a_coverage_of_all_of_few_questions_is_not_sure(baseline):
    """Accepting 60 of 60 leaves room for a twentieth that is abstained from; resamples of them all agree."""
    asked = {"test": 900, "val": 100, "cal": 60}
    candidate = configuration("sure", table(accuracy=0.99, images=asked))
    strict = replace(POLICY, minimum_coverage=0.95, slices=())
    decision = decide(candidate, None, strict, baseline=unquantized(table(accuracy=0.99, images=asked)), compared=1)
    assert "is 100.00 [94.04, 100.00] %" in text_of(decision, "certified coverage")
    assert failed(decision) == ["certified coverage"]


def test_a_slice_that_is_lost_is_refused_by_name(tables, baseline):
    lenient = replace(POLICY, accuracy_loss=0.5, slice_loss=0.5, minimum_coverage=0.0)
    decision = decide(configuration("lopsided", tables["lopsided"]), None, lenient, baseline=baseline, compared=1)
    assert failed(decision) == ["slices by question_type"]
    assert "is color, which changes by -" in text_of(decision, "slices by question_type")


def test_the_worst_slice_is_named_with_its_rates_before_and_after(tables, baseline):
    decision = decide(configuration("lopsided", tables["lopsided"]), None, POLICY, baseline=baseline, compared=1)
    for rule in ("slices by question_type", "confidently wrong by slice"):
        kept, lost = (
            [row for row in tables[name].to_pylist() if row["split"] == "test" and row["question_type"] == "color"]
            for name in ("none", "lopsided")
        )
        rates = [
            100 * np.mean([row["conf_maxprob"] > 0.9 and row["accuracy"] < 0.5 for row in rows])
            if rule.startswith("confidently")
            else 100 * np.mean([row["accuracy"] for row in rows])
            for rows in (kept, lost)
        ]
        assert f"points at 95 % ({rates[0]:.2f} to {rates[1]:.2f} %)" in text_of(decision, rule)
        assert "color, which changes by " in text_of(decision, rule)


def test_rates_without_a_limit_are_named_and_refuse_nothing(tables, baseline):
    lopsided = configuration("lopsided", tables["lopsided"])
    open_policy = replace(POLICY, accuracy_loss=0.99, slice_loss=0.99, minimum_coverage=0.0)
    decision = decide(lopsided, None, open_policy, baseline=baseline, compared=1)
    assert failed(decision) == []
    assert text_of(decision, "confidently wrong by slice").endswith("the policy sets no limit.")
    limited = replace(open_policy, slice_confidently_wrong=0.02)
    decision = decide(lopsided, None, limited, baseline=baseline, compared=1)
    assert failed(decision) == ["confidently wrong by slice"]
    assert "it rises by more than 2 points" in text_of(decision, "confidently wrong by slice")


def test_a_slice_that_is_no_longer_answered_is_refused_where_the_policy_says_so(tables, baseline):
    """Answers of one kind are as right as before, and less sure."""
    answers = tables["good"]
    unsure = [
        0.5 if row["split"] == "test" and row["question_type"] == "shape" else row["conf_maxprob"]
        for row in answers.to_pylist()
    ]
    place = answers.column_names.index("conf_maxprob")
    timid = configuration("timid", answers.set_column(place, "conf_maxprob", pa.array(unsure)))
    skilled = replace(POLICY, required_risk=0.05, minimum_coverage=0.0)
    decision = decide(timid, None, skilled, baseline=baseline, compared=1)
    assert "answered by slice" not in failed(decision)
    limited = replace(skilled, slice_coverage_loss=0.1)
    decision = decide(timid, None, limited, baseline=baseline, compared=1)
    assert "answered by slice" in failed(decision)
    assert "question_type shape, which changes by -" in text_of(decision, "answered by slice")
    assert "it loses more than 10 points" in text_of(decision, "answered by slice")


def test_small_slices_are_judged_together_and_named_where_even_that_is_too_little(tables, baseline):
    lenient = replace(POLICY, accuracy_loss=0.5, minimum_coverage=0.0, slice_questions=601)
    decision = decide(configuration("lopsided", tables["lopsided"]), None, lenient, baseline=baseline, compared=1)
    # 600 questions of each kind: one pool of all, which loses a third of its right answers.
    assert "worst of 1 is all small slices" in text_of(decision, "slices by question_type")
    assert failed(decision) == ["slices by question_type"]
    nothing = replace(lenient, slice_questions=10_000)
    decision = decide(configuration("lopsided", tables["lopsided"]), None, nothing, baseline=baseline, compared=1)
    assert "no slice has 10000 questions (1800 questions are" in text_of(decision, "slices by question_type")


def test_too_little_certified_coverage_is_refused(tables, baseline):
    decision = decide(configuration("blind", tables["blind"]), None, POLICY, baseline=baseline, compared=1)
    assert failed(decision) == ["certified coverage"]
    assert "; 50 % are required, surely" in text_of(decision, "certified coverage")
    hopeless = configuration("hopeless", table(accuracy=0.7, skill=0.0))
    decision = decide(hopeless, None, POLICY, baseline=baseline, compared=1)
    assert "no threshold is certified at 10 % risk" in text_of(decision, "certified coverage")
    images = {"test": IMAGES["test"]}
    candidate = configuration("good", table(images=images))
    decision = decide(candidate, None, POLICY, baseline=unquantized(table(images=images)), compared=1)
    assert "val and cal were not asked" in text_of(decision, "certified coverage")


def test_what_is_live_is_not_promoted_again(tables, baseline):
    good = configuration("good", tables["good"])
    again = replace(good, run_id="another run")
    decision = decide(again, live(good), POLICY, baseline=baseline, compared=1)
    assert failed(decision) == ["new"]
    assert (decision.verdict, decision.accepted) == ("unchanged", False)
    assert "is live already" in decision.markdown()


def test_a_smaller_candidate_replaces_what_is_live_and_a_larger_one_does_not(tables, baseline):
    small = configuration("small", tables["better"], efficiency=costs(resident=2))
    large = configuration("large", tables["better"], efficiency=costs(resident=3))
    forth = decide(small, live(large), POLICY, baseline=baseline, compared=2)
    assert forth.accepted, forth.markdown()
    assert "resident MiB 2.00 after 3.00 (-33.3 %)" in text_of(forth, "improvement")
    back = decide(large, live(small), POLICY, baseline=baseline, compared=2)
    assert failed(back) == ["improvement"]
    assert "not surely more reliable, and costs more in resident MiB" in text_of(back, "improvement")


def test_a_candidate_as_costly_has_to_be_surely_more_reliable(tables, baseline):
    now = live(configuration("live", table(accuracy=0.9, skill=0.3)))
    surer = configuration("surer", tables["better"])
    decision = decide(surer, now, POLICY, baseline=baseline, compared=2)
    assert decision.accepted, decision.markdown()
    assert "surely better in AUGRC" in text_of(decision, "improvement")
    dearer = replace(surer, metrics=costs(stored=2.1))
    refused = decide(dearer, now, POLICY, baseline=baseline, compared=2)
    assert failed(refused) == ["improvement"]
    assert "surely better in AUGRC and certified C@10%, and costs more in stored MiB" in text_of(refused, "improvement")
    twin = configuration("twin", now.measured.predictions)
    assert failed(decide(twin, now, POLICY, baseline=baseline, compared=2)) == ["improvement"]


def test_a_smaller_candidate_may_not_lose_what_the_live_version_has(tables, baseline):
    lenient = replace(POLICY, accuracy_loss=0.5, slices=(), minimum_coverage=0.0)
    now = live(configuration("live", tables["better"]))
    smaller = configuration("smaller", tables["worse"], efficiency=costs(resident=1))
    decision = decide(smaller, now, lenient, baseline=baseline, compared=1)
    assert "accuracy against the live version" in failed(decision)
    assert "AUGRC against the live version" in failed(decision)
    blind = configuration("blind", tables["blind"], efficiency=costs(resident=1))
    decision = decide(blind, now, lenient, baseline=baseline, compared=1)
    assert failed(decision) == ["AUGRC against the live version", "certified C@10% against the live version"]


def test_a_loss_against_the_live_version_has_to_be_ruled_out(tables, baseline):
    now = live(configuration("live", tables["better"]))
    near = configuration("near", table(accuracy=0.885), efficiency=costs(resident=1))
    decision = decide(near, now, POLICY, baseline=baseline, compared=1)
    # 1.3 points less, of which 2 are allowed, with an interval that reaches beyond.
    assert failed(decision) == ["accuracy against the live version"]
    assert "a loss of more than 2 points cannot be ruled out" in text_of(decision, "accuracy against the live version")


def test_the_live_version_has_to_have_answered_the_same_questions(tables, baseline):
    old = configuration("old", tables["better"], inputs={"data/test": "old"}, dirty=("git.dirty is true",))
    decision = decide(configuration("good", tables["good"]), live(old), POLICY, baseline=baseline, compared=1)
    # What is live is live, however it came about: only its data matter.
    assert "same data" in failed(decision)
    assert not {"clean", "finished"} & set(failed(decision))


def test_an_uncertain_objective_has_to_be_better_surely(tables, baseline):
    reliable = replace(POLICY, objective="augrc")
    now = live(configuration("live", table(accuracy=0.9, skill=0.3)))
    better = configuration("better", tables["better"], efficiency=costs(resident=9))
    assert decide(better, now, reliable, baseline=baseline, compared=2).accepted
    back = decide(now.measured, live(better), reliable, baseline=baseline, compared=2)
    assert "improvement" in failed(back)
    assert "a gain in AUGRC of -" in text_of(back, "improvement")
    latency = replace(POLICY, objective="latency")
    for speed, accepted in ((108.0, False), (112.0, True)):
        fast = configuration("fast", now.measured.predictions, efficiency=costs(speed=speed))
        assert decide(fast, now, latency, baseline=baseline, compared=1).accepted is accepted


@settings(max_examples=10, deadline=None)
@given(
    accuracy=st.floats(0.8, 0.9),
    skill=st.floats(0.5, 1),
    flips=st.floats(0, 0.1),
    dearer=st.floats(1, 2),
    seed=st.integers(0, 1000),
)
def test_a_uniformly_worse_candidate_is_never_accepted_where_the_better_one_is_refused(
    accuracy, skill, flips, dearer, seed
):
    images = {"test": 120, "val": 60, "cal": 150}
    policy = replace(POLICY, minimum_coverage=0.6, accuracy_loss=0.05)
    baseline = unquantized(table(images=images))
    answers = table(accuracy=accuracy, skill=skill, images=images)
    right, splits = answers["accuracy"].to_numpy(), np.array(answers["split"].to_pylist())
    flipped = (np.random.default_rng(seed).random(len(right)) < flips) & (splits != "val")
    better = configuration("better", answers)
    worse = configuration(
        "worse", with_right(answers, np.where(flipped, 0.0, right)), efficiency=costs(resident=3 * dearer)
    )
    verdicts = [decide(one, None, policy, baseline=baseline, compared=1) for one in (better, worse)]
    assert verdicts[0].accepted or not verdicts[1].accepted, verdicts[1].markdown()
    now = live(configuration("live", table(accuracy=0.88, skill=0.7, images=images)))
    verdicts = [decide(one, now, policy, baseline=baseline, compared=1) for one in (better, worse)]
    kept = [{reason.rule for reason in one.reasons if reason.passed} for one in verdicts]
    assert {"accuracy against the live version", "accuracy"} & kept[1] <= kept[0]


def test_a_decision_can_be_written_and_read(tables, baseline):
    decision = decide(configuration("worse", tables["worse"]), None, POLICY, baseline=baseline, compared=2)
    written = json.loads(json.dumps(decision.to_dict(), allow_nan=False))
    assert (written["accepted"], written["compared"], written["incumbent"]) == (False, 2, None)
    assert {"accuracy"} <= {reason["rule"] for reason in written["reasons"] if not reason["passed"]}
    assert written["policy"]["incumbent"]["accuracy_loss"] == MARGINS.accuracy_loss
    assert len(written["certificates"]) == 2
    for reason in decision.reasons:
        assert f"| {reason.rule} | {'yes' if reason.passed else 'NO'} | {reason.text} |" in decision.markdown()
    with pytest.raises(ReliabitError, match="compared is 0"):
        decide(baseline, None, POLICY, baseline=baseline, compared=0)


@pytest.fixture(scope="module")
def configurations(tables, baseline):
    return [
        baseline,
        configuration("8 bits", tables["better"], bits=8, efficiency=costs(stored=3, resident=4)),
        configuration("4 bits", tables["good"], bits=4, efficiency=costs(stored=2, resident=3)),
        configuration("2 bits", tables["worse"], bits=2, efficiency=costs(stored=1, resident=2)),
        configuration("bloated", tables["worse"], bits=3, efficiency=costs(stored=4, resident=5)),
        configuration("broken", None, status="FAILED", efficiency={}),
        configuration("dirty", tables["good"], bits=2, dirty=("git.dirty is true",), efficiency=costs(resident=1)),
    ]


def test_the_best_that_stays_and_passes_is_chosen(configurations, baseline):
    choice = choose(configurations, POLICY)
    assert (choice.candidate.name, choice.baseline, choice.compared) == ("4 bits", baseline, 7)
    reasons = {decision.candidate: failed(decision) for decision in choice.decisions}
    assert reasons["8 bits"] == reasons["4 bits"] == []
    assert "pareto" in reasons["bloated"]
    assert {"accuracy"} <= set(reasons["2 bits"])
    assert reasons["dirty"] == ["clean"]
    assert reasons["broken"] == ["finished"]
    text = choice.markdown()
    assert text.startswith("The candidate is 4 bits.")
    assert "| 4 bits | candidate |" in text
    (line,) = [line for line in text.splitlines() if line.startswith("| bloated | refused |")]
    assert "it is dominated by 4 bits" in line or "it is dominated by 8 bits" in line
    json.dumps(choice.to_dict(), allow_nan=False)
    assert decide(choice.candidate, None, POLICY, baseline=choice.baseline, compared=choice.compared).accepted


def test_what_cannot_go_live_throws_nothing_out(configurations):
    # The same answers at less cost would not do: that they are as good everywhere is not sure.
    dirty = configuration(
        "dirty rival", table(accuracy=0.97), dirty=("no commit is recorded",), efficiency=costs(stored=1, resident=1)
    )
    # At 10 % risk all of them answer all but everything, and none surely more than another.
    stricter = replace(POLICY, required_risk=0.05)
    choice = choose([*configurations[:3], dirty], stricter)
    assert choice.pareto.places["4 bits"].by == ("dirty rival",)
    assert choice.candidate.name == "4 bits"
    assert "dominated by dirty rival alone, which cannot go live" in text_of(choice.decisions[2], "pareto")


def test_another_objective_chooses_another(configurations):
    assert choose(configurations, replace(POLICY, objective="accuracy")).candidate.name in ("none", "8 bits", "4 bits")
    assert choose(configurations, replace(POLICY, objective="augrc")).candidate.name in ("none", "8 bits")


def test_where_none_passes_each_says_why(configurations):
    choice = choose(configurations, replace(POLICY, minimum_coverage=0.99, required_risk=0.05))
    assert choice.candidate is None
    assert choice.baseline is None
    assert "No configuration passes." in choice.markdown()
    assert all(failed(decision) for decision in choice.decisions)
    alone = choose(configurations[1:3], POLICY)
    assert alone.candidate is None
    assert {tuple(failed(decision)) for decision in alone.decisions} == {("baseline",)}
    nothing = choose(configurations[5:6], POLICY)
    assert (nothing.candidate, nothing.pareto, nothing.compared) == (None, None, 1)


def test_a_sweep_of_too_few_images_says_how_many_it_takes_and_what_to_do():
    few = {"test": 40, "val": 20, "cal": 40}
    cells = [unquantized(table(images=few)), configuration("4 bits", table(images=few))]
    # By which confidence it would be judged makes no difference to that.
    for confidence in ("maxprob", "selector"):
        choice = choose(cells, replace(POLICY, confidence=confidence))
        told = choice.markdown().splitlines()[0]
        assert told.startswith(
            "No configuration passes. They were asked about 40 images of the split test, which is too few to choose "
            "by: to rule out a loss of more than 3 points of accuracy among 2 takes "
        )
        assert told.endswith("Ask about more, as `make run` does, or name another sweep with --sweep.")
    needed = int(told.split(" takes ")[1].split()[0])
    # Of images of two questions each, none lost, the chance of so many is that of one test at half of 5 %, for two.
    assert needed == math.ceil(math.log(0.05 / 2 / 2) / math.log(1 - 0.03))
    enough = {**few, "test": needed}
    assert not choose([replace(cell, predictions=table(images=enough)) for cell in cells], POLICY).shortage


def test_the_order_of_configurations_does_not_matter(configurations):
    assert choose(configurations[::-1], POLICY).candidate.name == "4 bits"


def test_configurations_need_names_and_the_same_questions(configurations, tables):
    with pytest.raises(ReliabitError, match="the same name"):
        choose([configurations[0], configurations[0]], POLICY)
    other = configuration("other", tables["good"].slice(1))
    with pytest.raises(ReliabitError, match=NOT_THE_SAME_QUESTIONS):
        choose([*configurations[:2], other], POLICY)


def test_a_verdict_names_the_width_that_holds_and_asks_for_a_commit_apart(configurations):
    finished = [one for one in configurations if one.finished and one.name != "dirty"]
    [found] = verdicts(finished, POLICY)
    assert found.chosen == next(one.run_id for one in finished if one.name == "4 bits")
    assert "deploy hqq at 4 bits. The policy test would choose it" in found.text
    assert "it takes the least memory" in found.text
    assert "committed" not in found.text
    [dirty] = verdicts([replace(one, dirty=("git.dirty is true",)) for one in finished], POLICY)
    assert dirty.chosen == found.chosen
    assert "Its code was not all committed, which promoting takes." in dirty.text


def test_a_verdict_says_what_speaks_against_the_nearest(configurations):
    finished = [one for one in configurations if one.finished]
    [found] = verdicts(finished, replace(POLICY, minimum_coverage=0.99, required_risk=0.05))
    assert found.chosen is None
    assert f"deploy none of these yet. The policy test lets none of {len(finished)} configurations pass" in found.text
    assert "Nearest is " in found.text
    assert "Nearest is none" not in found.text


def test_a_verdict_without_the_policy_s_confidence_is_maxprob_s(configurations):
    finished = [one for one in configurations if one.finished and one.name != "dirty"]
    [found], [own] = verdicts(finished, replace(POLICY, confidence="selector")), verdicts(finished, POLICY)
    assert found.chosen == own.chosen
    assert found.text.startswith(own.text)
    assert "promote with registry.confidence=maxprob" in found.text


def test_a_verdict_of_cells_that_cannot_be_judged_together_says_why(configurations):
    same = [configurations[0], configurations[0]]
    [found] = verdicts(same, POLICY)
    assert found.chosen is None
    assert "these cells cannot be judged: two configurations have the same name" in found.text
