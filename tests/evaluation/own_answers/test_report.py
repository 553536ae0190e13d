"""What a report says of somebody's own answers, held against scikit-learn, closed forms and published numbers."""

import json
import math

import numpy as np
import pytest
from scipy.stats import beta, binom, norm
from sklearn.metrics import average_precision_score, brier_score_loss, log_loss, roc_auc_score

from reliabit.errors import ReliabitError
from reliabit.evaluation.own_answers.columns import Columns, read_columns
from reliabit.evaluation.own_answers.files import open_table
from reliabit.evaluation.own_answers.measuring import certify_answers, measure_answers
from reliabit.evaluation.own_answers.report import Measuring
from reliabit.metrics.metric import metric_named
from reliabit.metrics.suite import full_suite

FAST = Measuring(resamples=40)


def answers_of(columns):
    return read_columns(open_table(columns), Columns())


def report_of(settings=FAST, **columns):
    return measure_answers(answers_of(columns), settings)


@pytest.fixture(scope="module")
def drawn():
    random = np.random.default_rng(3)
    confidence = random.uniform(0.02, 0.98, 2000).round(4)
    return confidence, (random.random(2000) < confidence**0.4).astype(int)


@pytest.fixture(scope="module")
def report(drawn):
    confidence, correct = drawn
    return report_of(Measuring(resamples=400), confidence=confidence, correct=correct)


def value(report, name, confidence="confidence"):
    return report.measured[confidence].values[name]


def test_values_are_those_of_scikit_learn(report, drawn):
    confidence, correct = drawn
    assert value(report, "selective/auroc_half").estimate == pytest.approx(roc_auc_score(correct, confidence))
    assert value(report, "selective/aupr_error_half").estimate == pytest.approx(
        average_precision_score(1 - correct, -confidence)
    )
    assert value(report, "calibration/brier").estimate == pytest.approx(brier_score_loss(correct, confidence))
    assert value(report, "calibration/nll").estimate == pytest.approx(log_loss(correct, confidence))


def test_values_are_those_of_the_worked_example():
    """Case A of the vectors: AURC 15.667, AUGRC 12, excess 6.667 %, and 40 % can be answered without an error."""
    report = report_of(confidence=[0.9, 0.8, 0.7, 0.6, 0.5], correct=[1, 1, 0, 1, 0])
    for name, expected in (
        ("selective/aurc", 0.156667),
        ("selective/augrc", 0.12),
        ("selective/e_aurc", 0.066667),
        ("selective/coverage_at_5pct_risk", 0.4),
        ("selective/prr", 0.753086),
    ):
        assert value(report, name).estimate == pytest.approx(expected, abs=1e-6), name


def test_the_expected_calibration_error_is_that_of_its_definition(report, drawn):
    confidence, correct = drawn
    gaps = 0.0
    for number in range(15):
        inside = (confidence > number / 15) & (confidence <= (number + 1) / 15)
        gaps += abs((confidence[inside] - correct[inside]).sum())
    assert value(report, "calibration/ece_15").estimate == pytest.approx(gaps / len(correct))


def test_the_interval_of_the_accuracy_is_that_of_clopper_and_pearson(report, drawn):
    _, correct = drawn
    right, n = correct.sum(), len(correct)
    found = value(report, "accuracy/mean")
    assert found.low == pytest.approx(beta.ppf(0.025, right, n - right + 1), abs=1e-4)
    assert found.high == pytest.approx(beta.ppf(0.975, right + 1, n - right), abs=1e-4)
    # Twenty of twenty: no resample would know that there could be wrong ones.
    few = report_of(confidence=np.linspace(0.5, 1, 20), correct=np.ones(20))
    assert value(few, "accuracy/mean").low == pytest.approx(0.025 ** (1 / 20), abs=1e-6)


def test_intervals_of_means_are_the_normal_ones(report, drawn):
    confidence, correct = drawn
    errors = (confidence - correct) ** 2
    reach = norm.ppf(0.975) * errors.std(ddof=1) / math.sqrt(len(errors))
    found = value(report, "calibration/brier")
    assert found.high - found.low == pytest.approx(2 * reach, rel=0.15)


def test_groups_make_intervals_wider_where_their_answers_are_alike():
    random = np.random.default_rng(0)
    right = np.repeat(random.random(100) < 0.7, 10)
    sure = random.random(1000)
    alone, together = (
        report_of(confidence=sure, correct=right, **groups) for groups in ({}, {"group": np.repeat(np.arange(100), 10)})
    )
    widths = [value(one, "accuracy/mean").high - value(one, "accuracy/mean").low for one in (alone, together)]
    assert widths[1] / widths[0] == pytest.approx(math.sqrt(10), rel=0.2)
    assert (alone.groups, together.groups) == (1000, 100)
    assert "no column tells groups: every answer counts as independent of all others" in alone.notes


def test_every_metric_is_there_and_what_is_the_same_for_right_and_wrong_is_the_same(report):
    names = {one.name for one in full_suite(risks=(0.005, 0.01, 0.05, 0.1)).metrics if one.cost is None}
    assert set(report.measured["confidence"].values) == names
    assert value(report, "selective/auroc_any") == value(report, "selective/auroc_half")
    soft = report_of(confidence=[0.9, 0.8, 0.3, 0.2], correct=[0.3, 1, 0.3, 0])
    assert value(soft, "selective/auroc_any").estimate != value(soft, "selective/auroc_half").estimate


def test_a_certified_threshold_passes_the_exact_test_on_rows_that_planned_nothing(report, drawn):
    confidence, correct = drawn
    one = report.measured["confidence"].certified[-1]
    threshold = one.certificate.threshold
    assert (one.certificate.risk, one.certificate.n_cal, one.certificate.n_dev) == (0.1, 1000, 500)
    assert 0 < threshold < 1
    # The rows that decided are among those above the threshold; the tail of their errors is what the binomial gives.
    n, wrong = one.certificate.n_accepted, one.certificate.loss_sum
    assert one.certificate.p_value == pytest.approx(binom.cdf(wrong, n, 0.1))
    assert one.certificate.p_value <= 0.05
    # What is tried are the other 500 rows.
    assert one.tried.coverage * 500 == pytest.approx(round(one.tried.coverage * 500))
    accepted = confidence >= threshold
    assert accepted.mean() == pytest.approx(one.tried.coverage, abs=0.1)
    assert (1 - correct[accepted]).mean() < 0.12


def split_columns(n=1200, **columns):
    random = np.random.default_rng(1)
    confidence = random.random(n)
    return {
        "confidence": confidence,
        "correct": random.random(n) < 0.5 + confidence / 2,
        "split": np.array(["val", "cal", "test"], dtype=object)[np.arange(n) % 3],
        **columns,
    }


def test_a_split_says_which_rows_do_what():
    columns = split_columns()
    report = report_of(**columns)
    assert report.reported.tolist() == np.flatnonzero(columns["split"] == "test").tolist()
    (certificate, *_) = (one.certificate for one in report.measured["confidence"].certified)
    assert (certificate.n_dev, certificate.n_cal) == (400, 400)
    # Thresholds of effective reliability are chosen on val.
    assert math.isfinite(value(report, "selective/phi_10").estimate)
    assert report.notes[0] == "metrics are of the rows of test, 400 of 1200"


def test_half_of_cal_plans_where_there_is_no_val():
    columns = split_columns()
    columns["split"][columns["split"] == "val"] = "cal"
    report = report_of(**columns)
    certificate = report.measured["confidence"].certified[0].certificate
    assert (certificate.n_dev, certificate.n_cal) == (400, 400)
    assert any("there are no rows of val: half of the groups of cal, drawn with seed 0" in one for one in report.notes)


def test_nothing_is_certified_without_rows_of_cal():
    columns = split_columns()
    columns["split"][columns["split"] == "cal"] = "train"
    report = report_of(**columns)
    assert report.measured["confidence"].certified == []
    assert any(one.startswith("no threshold is certified: split has no rows of cal") for one in report.notes)


def test_rows_that_report_are_needed():
    columns = split_columns()
    columns["split"][columns["split"] == "test"] = "cal"
    with pytest.raises(ReliabitError, match="has no row of the split test, which reports: split has only cal, val"):
        report_of(**columns)


def test_splits_that_are_drawn_share_no_group_and_depend_on_the_seed_alone():
    columns = {"confidence": np.linspace(0, 1, 400), "correct": np.arange(400) % 2, "group": np.arange(400) // 2}
    first, again, other = (
        [
            one.certificate.cal_sha256
            for one in report_of(Measuring(resamples=1, seed=seed), **columns).measured["confidence"].certified
        ]
        for seed in (0, 0, 1)
    )
    assert first == again != other
    certificate = certify_answers(answers_of(columns), Measuring(risks=(0.2,)))
    # One answer of each of the hundred groups that decide; all two hundred answers of the others plan.
    assert (certificate.n_cal, certificate.n_dev) == (100, 200)


def test_two_confidences_are_compared_on_the_same_resamples(drawn):
    confidence, correct = drawn
    same = report_of(confidence=confidence, correct=correct, second=confidence)
    assert {one.estimate for one in same.differences.values()} == {0.0}
    assert {(one.low, one.high) for one in same.differences.values()} == {(0.0, 0.0)}
    # A monotone change of confidences ranks as before, and is calibrated otherwise.
    changed = report_of(confidence=confidence, correct=correct, second=confidence**2)
    assert changed.differences["selective/aurc"].high == 0
    assert changed.differences["calibration/ece_15"].low > 0
    # Either may be taken after a look at both: each is tested at half of delta.
    assert {one.certificate.comparisons for found in changed.measured.values() for one in found.certified} == {2}
    noisy = np.random.default_rng(0).random(len(correct))
    worse = report_of(Measuring(resamples=100), confidence=confidence, correct=correct, second=noisy)
    found = worse.differences["selective/aurc"]
    assert found.low > 0
    assert found.estimate == pytest.approx(
        value(worse, "selective/aurc", "second").estimate - value(worse, "selective/aurc").estimate
    )
    # Paired: surer than the two intervals apart.
    assert found.p_value < 0.05


def test_calibration_is_left_out_by_name_where_confidences_are_no_probabilities(drawn):
    confidence, correct = drawn
    scores = report_of(confidence=np.log(confidence), correct=correct)
    assert not any(name.startswith("calibration/") for name in scores.measured["confidence"].values)
    assert value(scores, "selective/aurc").estimate == pytest.approx(
        value(report_of(confidence=confidence, correct=correct), "selective/aurc").estimate
    )
    (note,) = (one for one in scores.notes if "left out: confidence is" in one)
    assert note.startswith("Brier; NLL; saturated; ECE, 10 bins; ")
    assert "in row 1 of the table, and calibration is of probabilities from 0 to 1" in note
    assert list(scores.figures()) == ["risk_coverage.png"]


def test_answers_of_one_kind_only_are_told():
    report = report_of(confidence=[0.9, 0.8, 0.7], correct=[1, 1, 1])
    assert math.isnan(value(report, "selective/auroc_half").estimate)
    assert any(one.startswith("all 3 answers are 1 correct, so that AUROC") for one in report.notes)
    assert "3 groups are few: intervals that are resampled from them are too narrow" in report.notes
    assert "| AUROC (half) | – |" in report.markdown()
    assert report.to_dict()["metrics"]["confidence"]["selective/auroc_half"]["estimate"] is None


def test_a_risk_that_so_few_answers_cannot_certify_is_told():
    """All right, n answers leave a risk of 1 - delta ** (1 / n) possible: 1 % takes 299."""
    notes = report_of(confidence=np.linspace(0.5, 1, 300), correct=np.ones(300)).notes
    assert "a risk of 1 % takes 299 answers that certify, all right, and there are 150" in notes
    assert not any(note.startswith("a risk of 5 %") for note in notes)
    assert 1 - 0.05 ** (1 / 299) < 0.01 < 1 - 0.05 ** (1 / 298)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"risks": (0.05, 1.0)}, "risk is 1; it must lie between 0 and 1"),
        ({"delta": 0}, "delta is 0; it must lie between 0 and 1"),
        ({"level": 95}, "level is 95; it must lie between 0 and 1"),
        ({"resamples": 0}, "resamples is 0; it must be at least 1"),
        ({"seed": -1}, "seed is -1; it must be at least 0"),
    ],
)
def test_settings_that_mean_nothing_are_refused(settings, message):
    with pytest.raises(ReliabitError, match=message):
        Measuring(**settings)


def test_a_report_is_json_and_markdown(report):
    told = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert told["answers"] == 2000
    assert set(told["metrics"]["confidence"]["selective/aurc"]) == {"estimate", "low", "high", "level"}
    assert told["certified"]["confidence"][0]["threshold"] is None
    text = str(report)
    assert text == report._repr_markdown_()
    assert text.startswith("# the table: 2000 answers\n")
    for part in ("## Headline, % with 95 % intervals", "## Certified thresholds", "| none certified |", "| accuracy |"):
        assert part in text


def test_figures_are_drawn(report, tmp_path):
    paths = report.write_figures(tmp_path / "figures")
    assert sorted(path.name for path in paths) == ["reliability_diagram.png", "risk_coverage.png"]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in paths)


@pytest.mark.parametrize("seed", range(4))
def test_it_is_said_where_an_interval_does_not_hold_its_value(seed):
    random = np.random.default_rng(seed)
    confidence = random.uniform(0.02, 0.98, 300).round(4)
    report = report_of(confidence=confidence, correct=(random.random(300) < confidence).astype(int))
    above = {
        metric_named(name).heading
        for name, found in report.measured["confidence"].values.items()
        if found.low > found.estimate
    }
    (said,) = [note for note in report.notes if "lies above its value" in note] or [""]
    assert bool(above) == bool(said)
    assert all(heading in said for heading in above)
    assert above <= {heading for heading in above if "ECE" in heading}
