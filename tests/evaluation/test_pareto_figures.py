"""Pareto figures: every cell has its name, no name lies on another, and each cost has its axis."""

from dataclasses import replace

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from evaluation.test_label_placement import overlap
from reliabit.evaluation.cells import LATENCY, RESIDENT, STORED
from reliabit.evaluation.paired_reliability import ACCURACY, AUGRC, Measurements, Reliability
from reliabit.evaluation.pareto import Pareto, places
from reliabit.evaluation.pareto_figures import pareto_figure, write_pareto
from reliabit.evaluation.resampled import Resampled
from reliabit.evaluation.settings import ParetoSettings

SETTINGS = ParetoSettings(
    confidence="selector",
    required_risk=0.05,
    certified_risks=[0.05],
    delta=0.1,
    reported="test",
    resamples=40,
    level=0.95,
    seed=0,
    latency_tolerance=0.1,
)
QUANTIZERS = ("hqq", "mbq", "rtn", "gptq", "awq", "first_of_mine", "second_of_mine", "third_of_mine")
NAMES = ["tiny·none·s0", *(f"tiny·{name}·{bits}b·s0" for name in QUANTIZERS for bits in (8, 4, 3, 2))]


def front(number):
    """Cells of few widths, so that many points all but coincide."""
    rng = np.random.default_rng(0)

    def near(value, noise):
        return Resampled(value, value + rng.normal(0, noise, 40))

    points = []
    for name in NAMES[:number]:
        bits = 16 if "none" in name else int(name.split("·")[2][0])
        quality = 1 - 0.3 / bits**1.5 + rng.normal(0, 0.004)
        qualities = {
            ACCURACY: near(0.9 * quality, 0.006),
            AUGRC: near(0.07 - 0.05 * quality, 0.002),
            SETTINGS.certified_coverage: near(0.9 * quality, 0.01),
        }
        costs = {STORED: (1 + bits / 3) * 2**20, RESIDENT: 2.0**21, LATENCY: 0.004 + rng.normal(0, 4e-4)}
        points.append(Reliability(name, costs, qualities, effective_bits=bits + 0.5))
    return Pareto(tuple(points), places(points, level=0.99), Measurements(SETTINGS, comparisons=number))


@pytest.mark.parametrize("number", [3, 12, 30])
def test_every_point_has_its_name_and_no_two_names_overlap(number):
    figure = pareto_figure({"tiny · made": front(number)}, axis="bits" if number < 30 else "stored")
    renderer = FigureCanvasAgg(figure).get_renderer()
    figure.draw(renderer)
    for axes in figure.axes:
        names = [name.removeprefix("tiny·").removesuffix("·s0") for name in NAMES[:number]]
        assert [text.get_text() for text in axes.texts] == names
        boxes = [text.get_window_extent(renderer).extents for text in axes.texts]
        for index, box in enumerate(boxes):
            assert axes.bbox.padded(1).contains(*box[:2])
            assert axes.bbox.padded(1).contains(*box[2:])
            assert not any(overlap(box, other) for other in boxes[:index]), names[index]


def test_the_axis_is_switched_by_a_setting(tmp_path):
    written = write_pareto({"tiny · made": front(3)}, tmp_path, axis="latency")
    assert [path.name for path in written] == ["pareto.png", "pareto_stored.png", "pareto_bits.png"]


def test_figures_depend_on_what_they_show_alone(tmp_path):
    for name, style in (("one", {}), ("other", {"font.size": 40, "axes.grid": False})):
        (tmp_path / name).mkdir()
        with mpl.rc_context(style):
            write_pareto({"tiny · made": front(4)}, tmp_path / name, axis="stored")
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "other" / path.name).read_bytes()


def test_each_axis_shows_its_cost():
    pareto = front(4)
    for axis, expected in (
        ("stored", [point.costs[STORED] / 2**20 for point in pareto.points]),
        ("latency", [1000 * point.costs[LATENCY] for point in pareto.points]),
        ("bits", [point.effective_bits for point in pareto.points]),
    ):
        axes = pareto_figure({"here": pareto}, axis=axis).axes[0]
        drawn = [at for line in axes.lines if line.get_marker() in ("o", "D", "X") for at in line.get_xdata()]
        assert sorted(drawn) == pytest.approx(sorted(expected))


def test_bits_are_no_axis_where_a_cell_does_not_tell_them(tmp_path):
    known = front(3)
    points = (replace(known.points[0], effective_bits=None), *known.points[1:])
    written = write_pareto({"here": replace(known, points=points)}, tmp_path, axis="bits")
    assert [path.name for path in written] == ["pareto.png", "pareto_latency.png"]
