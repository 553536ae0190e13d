"""What the paper leaves open: planted truths are found, and a certificate is not assumed to hold at another width."""

import numpy as np
import pyarrow as pa
import pytest

from evaluation.sweep import SETTINGS, cell_of
from reliabit.evaluation.certification import carried_table, carry, certificates_of
from reliabit.evaluation.paper import paper_report
from reliabit.evaluation.paper._claims import CLAIMS
from reliabit.evaluation.paper._findings import check_findings
from reliabit.evaluation.paper._measurement import measure_models
from reliabit.evaluation.paper._own_claims import OWN_CLAIMS
from reliabit.evaluation.prediction_columns import reported_rows, scored_answers

SPLITS = {"test": 900, "val": 300, "cal": 900}


def cell(quantizer, bits, *, wrong_sure=0.0, right_unsure=0.0, transferred=0.0):
    """Half of the answers are sure (.95) or nearly so, half are not; some of the sure ones are wrong.

    Args:
        quantizer: Its name.
        bits: Its width.
        wrong_sure: The share of the sure answers that is wrong.
        right_unsure: The share of the others that is right.
        transferred: The noise of the transferred Selector about the truth; the Selector has a noise of 0.2.
    """
    rng, rows = np.random.default_rng(3), []
    for split, count in SPLITS.items():
        sure = rng.random(count) < 0.5
        draw = rng.random(count)
        right = np.where(sure, draw >= wrong_sure, draw < right_unsure)
        noise = rng.random((3, count))
        for number in range(count):
            truth = float(right[number])
            rows.append(
                {
                    "source": "made",
                    "split": split,
                    "shift": "none",
                    "question_id": f"{split}{number}",
                    "image_id": f"{split}{number}",
                    "accuracy": truth,
                    "conf_maxprob": (0.92 if sure[number] else 0.3) + 0.08 * noise[0, number],
                    "conf_selector": 0.1 + 0.6 * truth + 0.2 * noise[1, number],
                    "conf_selector_transfer": 0.1 + 0.6 * truth + transferred * noise[2, number],
                }
            )
    return cell_of(pa.Table.from_pylist(rows), quantizer=quantizer, bits=bits)


def check(cells):
    return check_findings(measure_models(cells, SETTINGS), level=0.95, claims=OWN_CLAIMS)


def verdicts(found):
    return {finding.claim.name[0]: finding.verdict for finding in found.found}


@pytest.fixture(scope="module")
def planted():
    wrong = {16: 0.0, 4: 0.03, 3: 0.3}
    cells = [cell("none", 16, right_unsure=0.5)]
    for bits in (4, 3):
        cells += [
            cell("hqq", bits, wrong_sure=wrong[bits] + 0.1 * (bits == 3), right_unsure=0.2),
            cell("mbq", bits, wrong_sure=wrong[bits], right_unsure=0.45),
        ]
    return cells


def test_planted_truths_are_found_and_a_certificate_breaks_at_the_narrower_width(planted):
    found = check(planted)
    assert verdicts(found) == {"g": "supported", "h": "supported", "i": "supported", "j": "not supported"}
    assert [one.what for one in found.find("j, ours").contrasts] == [
        "hqq 3 at the threshold of hqq 4 - certified risk",
        "mbq 3 at the threshold of mbq 4 - certified risk",
    ]
    assert "g, ours" in found.markdown()


def test_a_certificate_holds_where_the_narrower_width_errs_less():
    found = check([cell("mbq", 4, wrong_sure=0.03), cell("mbq", 3)])
    # The answers at 3 bits are right where MaxProb is sure, and nowhere else: nothing ranks better.
    assert verdicts(found) == {"g": "not measured", "h": "not measured", "i": "undecided", "j": "supported"}


def test_the_risk_of_a_carried_threshold_is_counted_by_hand(planted):
    source, other = (one for one in planted if one.quantizer == "mbq")
    [certificate] = certificates_of(source.answers, confidence="maxprob", risks=[0.1], delta=0.1, seed=0)
    answers = scored_answers(reported_rows(other.answers, "test"), "maxprob")
    found = carry(certificate, answers, n_resamples=200, seed=0)
    accepted = answers.confidence >= certificate.threshold
    assert found.coverage.estimate == accepted.mean()
    assert found.risk.estimate == pytest.approx(1 - answers.accuracy[accepted].mean())
    assert found.held(level=0.95) == "broken"
    [contrast] = [one for one in check(planted).find("j, ours").contrasts if one.what.startswith("mbq")]
    assert contrast.found.estimate == pytest.approx(found.risk.estimate - 0.1)


def test_a_threshold_that_accepts_nothing_elsewhere_decides_nothing(planted):
    [certificate] = certificates_of(planted[0].answers, confidence="maxprob", risks=[0.1], delta=0.1, seed=0)
    answers = scored_answers(reported_rows(planted[1].answers, "test"), "maxprob")
    unsure = type(answers)(answers.confidence * 0.1, answers.accuracy, answers.images)
    found = carry(certificate, unsure, n_resamples=100, seed=0)
    assert (found.coverage.estimate, found.held(level=0.95)) == (0.0, "undecided")
    assert np.isnan(found.risk.estimate)


def test_the_table_carries_from_wide_to_narrow_alone(planted):
    lines = [line.split(" | ") for line in carried_table(planted, SETTINGS).splitlines() if line.startswith("| ")][2:]
    pairs = [(line[0].removeprefix("| "), line[1]) for line in lines]
    assert pairs == [
        ("none", "hqq 4"),
        ("none", "mbq 4"),
        ("none", "hqq 3"),
        ("none", "mbq 3"),
        ("hqq 4", "hqq 3"),
        ("mbq 4", "mbq 3"),
    ]
    assert lines[-1][-1] == "broken |"
    assert carried_table(planted[-1:], SETTINGS) == ""


def test_the_report_of_a_sweep_judges_both(planted):
    report = paper_report(planted, SETTINGS)
    assert [one.claim for one in report.findings.found] == [*CLAIMS, *OWN_CLAIMS]
    assert report.findings.find("c").verdict != "not measured"
