"""A handful of questions of one's own is measured to the end, and it is said what so few cannot tell."""

import csv
import json

import pytest
from PIL import Image, ImageDraw

from added_packages import composed
from launching import run_job
from reliabit.data.bad_samples import tell
from reliabit.errors import ReliabitError
from reliabit.evaluation.prediction_columns import confidences_of
from reliabit.paths import project_root
from reliabit.tasks._asked_questions import prepared_split
from reliabit.tasks._measurement import measure

pytestmark = pytest.mark.medium

COLORS = ("red", "green", "blue", "yellow")


@pytest.fixture
def shapes(tmp_path):
    """Writes a folder of pictures of discs, with the given splits or so many without any."""

    def write(splits=(), pictures=20):
        folder = tmp_path / "shapes"
        folder.mkdir()
        with (folder / "questions.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["image", "question", "answer", *(["split"] if splits else [])])
            for number in range(len(splits) or pictures):
                picture = Image.new("RGB", (64, 64), "white")
                ImageDraw.Draw(picture).ellipse((5 + number, 10, 35 + number, 40), fill=COLORS[number % 4])
                picture.save(folder / f"{number}.png")
                writer.writerow([f"{number}.png", "what color is the shape?", COLORS[number % 4], *splits[number:][:1]])
        (tmp_path / "options").mkdir()
        tell.cache_clear()
        return folder

    return write


def config_of(folder, *overrides):
    root = folder.parent
    model = f"model.path={project_root() / 'models' / 'qwen2_vl_tiny'}"
    given = [model, f"paths.root={root}", f"paths.output={root / 'output'}", "data=folder", f"data.root={folder}"]
    small = ["evaluation.resamples=50", "trainer.progress_bar=false", "confidence.selector.hidden=[8]"]
    return composed(root, *given, *small, *overrides)


def measured(config):
    folder = config.paths.output_folder()
    folder.mkdir(parents=True)
    return measure(config, folder=folder, loaded=lambda _: None, logger_of=lambda _: None)


def test_twenty_pictures_are_judged_by_the_model_s_own_confidence(shapes, capsys):
    found = measured(config_of(shapes(), "quant=none"))
    assert found.recorded()["accuracy/questions"] == 20
    assert confidences_of(found.selected.predictions) == ["maxprob"]
    assert found.report.certificates == {"maxprob": []}
    told = capsys.readouterr().err
    assert "selector is left out: shapes has no questions in dev and val, on which confidence estimators are" in told
    assert "no risk is certified, as there is no cal split" in told


@pytest.mark.parametrize(
    "splits", [["train", "val", "cal", "test"], ["train"] * 4 + ["val"] * 2 + ["cal"] * 2 + ["test"] * 3]
)
def test_splits_of_a_handful_train_and_certify_as_far_as_they_go(shapes, splits, capsys):
    found = measured(config_of(shapes(splits), "quant=none", "confidence=fitted"))
    assert found.recorded()["accuracy/questions"] == splits.count("test")
    assert {"selector", "logistic", "isotonic"} < {*confidences_of(found.selected.predictions)}
    # No threshold passes, whatever the answers were.
    counts = [
        certificate.n_accepted for certificates in found.report.certificates.values() for certificate in certificates
    ]
    assert counts
    assert not any(counts)
    told = capsys.readouterr().err
    cal, dev = splits.count("cal"), splits.count("train")
    assert f"{cal} in cal certify no risk of 5 %: that takes 59 pictures, all answered right" in told
    assert f"a confidence that is learned from {dev} in dev is hardly one: compare it with maxprob" in told


def test_what_needs_a_split_that_is_not_there_says_so(shapes):
    config = config_of(shapes(pictures=2), "quant=mbq")
    with pytest.raises(
        ReliabitError, match=r"shapes has no questions in the split dev, which is needed \(it has test\)"
    ):
        prepared_split(config, config.data, config.quant.calibration.split)


@pytest.mark.slow
def test_one_command_evaluates_twenty_pictures(shapes):
    folder = shapes()
    done = run_job(
        "data=folder",
        f"data.root={folder}",
        f"paths.data={folder.parent / 'tables'}",
        f"paths.cache={folder.parent / 'cache'}",
        f"paths.output={folder.parent / 'out'}",
        "tracking=offline",
        f"tracking.uri=journal://{folder.parent / 'journal'}",
    )
    assert done.returncode == 0, done.stderr
    assert json.loads((folder.parent / "out" / "metrics.json").read_text())["accuracy/questions"] == 20


def test_a_column_of_one_s_own_is_sliced_by(shapes):
    folder = shapes(pictures=40)
    lines = (folder / "questions.csv").read_text().splitlines()
    told = [f"{line},{'region' if row == 0 else ('north', 'south')[row % 2]}" for row, line in enumerate(lines)]
    (folder / "questions.csv").write_text("\n".join(told))
    found = measured(config_of(folder, "quant=none", "confidence=maxprob", "evaluation.slices=[region]"))
    assert set(found.selected.predictions["region"].to_pylist()) == {"north", "south"}
    assert {(one.value, one.n_questions) for one in found.report.slices.values} == {("north", 20), ("south", 20)}
