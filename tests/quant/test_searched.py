"""Plans that are searched: exact where costs add up, of the bytes that they say, and measured as models answer."""

import random
from itertools import product
from pathlib import Path

import pytest
import torch
from torch.nn.functional import cross_entropy, kl_div
from transformers import AutoModelForImageTextToText

from quant.calibration_samples import LAYERS, random_batch
from quant.samples import FAMILIES
from reliabit.errors import DamagedError, ReliabitError
from reliabit.models.reference import BUILDERS
from reliabit.quant import Scheme, footprint, quantize_model
from reliabit.quant.checkpoint_io import skeleton
from reliabit.quant.searched.assignment import Option, assign
from reliabit.quant.searched.kept_costs import KeptCosts
from reliabit.quant.searched.measuring import Cost, CostMeasurement
from reliabit.quant.searched.plan_file import PlanFile, check_model, read_plan, scheme_of
from reliabit.quant.searched.searching import search, smallest, solve
from reliabit.quant.searched.units import Bytes, bytes_of, plan_of_units, units_of
from reliabit.quant.settings import QuantConfig

WIDTHS = (2, 3, 4, 8)
SCHEME = Scheme(method="rtn")


@pytest.mark.parametrize("seed", range(12))
def test_the_assignment_is_that_of_trying_all(seed):
    drawn = random.Random(seed)
    units = [
        [
            Option(64 * drawn.randint(-900, 900) + drawn.choice([0, seed]), drawn.random() * 10 ** drawn.randint(-5, 0))
            for _ in range(drawn.randint(1, 4))
        ]
        for _ in range(6)
    ]
    sizes = [sum(option.size for option in chosen) for chosen in product(*units)]
    budget = drawn.randint(min(sizes), max(sizes))
    best = min(
        sum(option.cost for option in chosen)
        for chosen, size in zip(product(*units), sizes, strict=True)
        if size <= budget
    )
    chosen = [unit[number] for unit, number in zip(units, assign(units, budget=budget), strict=True)]
    assert sum(option.size for option in chosen) <= budget
    assert sum(option.cost for option in chosen) == pytest.approx(best, abs=1e-9)
    with pytest.raises(ReliabitError, match=f"takes {min(sizes)} bytes, more than {min(sizes) - 1}; raise the budget"):
        assign(units, budget=min(sizes) - 1)


def toy(*, tied: int = 0):
    """Sizes and single costs of a toy model of a few units."""
    drawn = random.Random(5)
    units = ["language_mlp.0", "language_mlp.1", "vision", "embeddings", "lm_head"]
    weights = {unit: drawn.randint(50, 200) for unit in units}
    plain = {unit: 0 if tied and unit in ("embeddings", "lm_head") else 16 * weights[unit] for unit in units}
    changes = {unit: {width: width * weights[unit] - plain[unit] for width in WIDTHS} for unit in units}
    sizes = Bytes(sum(plain.values()) + tied, sum(weights.values()), changes, tied)
    alone = {unit: {**{width: drawn.random() / 4**width for width in WIDTHS}, None: 0.0} for unit in units}
    return sizes, alone


def assignments(sizes):
    return [dict(zip(sizes.changes, widths, strict=True)) for widths in product((*WIDTHS, None), repeat=5)]


def measure_by(cost):
    """What measuring a toy model gives, by the cost of an assignment; counts what is measured."""

    def measure(assignment, widths):
        single = {
            unit: {width: Cost(cost({**assignment, unit: width}), 0.0) for width in wanted}
            for unit, wanted in widths.items()
        }
        return Cost(cost(assignment), 0.0), single

    return measure


@pytest.mark.parametrize("tied", [0, 3000])
@pytest.mark.parametrize("share", [0.05, 0.3, 0.6])
def test_where_costs_add_up_the_search_is_exact(tied, share):
    sizes, alone = toy(tied=tied)

    def cost(assignment):
        return sum(alone[unit][width] for unit, width in assignment.items())

    least = smallest(sizes, widths=WIDTHS)
    assert least == min(map(sizes.total, assignments(sizes)))
    budget = int(least + share * (sizes.as_it_is - least))
    found = search(sizes, measure_by(cost), widths=WIDTHS, budget=budget)
    best = min(cost(one) for one in assignments(sizes) if sizes.total(one) <= budget)
    assert found.size == sizes.total(found.assignment) <= budget
    assert found.cost.kl == pytest.approx(cost(found.assignment), abs=1e-12) == pytest.approx(best, abs=1e-9)
    assert found.first == found.cost, "refining changes nothing"
    with pytest.raises(ReliabitError, match="raise the budget"):
        search(sizes, measure_by(cost), widths=WIDTHS, budget=least - 1)


def test_refining_sees_what_does_not_add_up_and_never_makes_it_worse():
    sizes, alone = toy()

    def cost(assignment):
        narrow = [unit for unit, width in assignment.items() if width is not None and width <= 3]
        return sum(alone[unit][width] for unit, width in assignment.items()) + 0.1 * ("vision" in narrow) * len(narrow)

    gained = []
    least = smallest(sizes, widths=WIDTHS)
    for budget in range(least, least + 400, 40):
        plain = search(sizes, measure_by(cost), widths=WIDTHS, budget=budget, refine=False)
        refined = search(sizes, measure_by(cost), widths=WIDTHS, budget=budget)
        assert plain.cost == refined.first
        assert refined.cost.kl == pytest.approx(cost(refined.assignment))
        assert refined.cost.kl <= plain.cost.kl
        gained.append(refined.cost.kl < plain.cost.kl)
    assert any(gained)


def test_a_budget_for_the_whole_model_leaves_it_as_it_is():
    sizes, _ = toy()
    found = search(sizes, measure_by(lambda _: 0.0), widths=WIDTHS, budget=sizes.as_it_is)
    assert set(found.assignment.values()) == {None}
    assert found.size == sizes.as_it_is


@pytest.fixture(scope="module", params=[(family, tied) for family in FAMILIES for tied in (False, True)], ids=str)
def folder(request, tmp_path_factory):
    """A checkpoint of a family, with embeddings of its own for the head or without, and the family."""
    family, tied = request.param
    torch.manual_seed(0)
    model = BUILDERS[family](["What shape is it? circle", "Is it red? yes no"] * 20).model
    for config in (model.config, model.config.get_text_config()):
        config.tie_word_embeddings = tied
    if tied:
        model.tie_weights()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(2 if parameter.dim() > 1 else 1)
    place = tmp_path_factory.mktemp("models") / f"{family}-{tied}"
    model.save_pretrained(place)
    return place, family


def test_bytes_are_those_of_the_footprint(folder):
    place, _ = folder
    empty = skeleton(place, torch.bfloat16)
    units = units_of(empty, group_size=64)
    sizes = bytes_of(empty, units, SCHEME, widths=WIDTHS)
    assert {unit.name for unit in units} >= {"language_attention.0", "language_mlp.1", "vision", "connector", "lm_head"}
    assert sizes.total(dict.fromkeys(sizes.changes)) == footprint(place).size.stored_bytes == sizes.as_it_is
    drawn = random.Random(0)
    for _ in range(4):
        assignment = {unit.name: drawn.choice((*WIDTHS, None)) for unit in units}
        plan = plan_of_units(units, assignment, SCHEME)
        assert sizes.total(assignment) == footprint(place, plan).size.stored_bytes
    free = {unit: dict.fromkeys((*WIDTHS, None), Cost(1.0, 1.0)) for unit in sizes.changes}
    least = smallest(sizes, widths=WIDTHS)
    assert sizes.total(solve(sizes, free, budget=least)) == least


def test_groups_that_do_not_divide_a_component_are_whole_rows_there():
    layer = torch.nn.ModuleDict({"mlp": torch.nn.ModuleDict({"up_proj": torch.nn.Linear(96, 64)})})
    layers = torch.nn.ModuleDict({"layers": torch.nn.ModuleList([layer])})
    model = torch.nn.ModuleDict({"text_model": layers, "lm_head": torch.nn.Linear(64, 8)})
    assert [(unit.name, unit.group_size) for unit in units_of(model, group_size=64)] == [
        ("language_mlp.0", None),
        ("lm_head", 64),
    ]


@torch.no_grad()
def log_probabilities(model, batches):
    found = [model(**batch.inputs, use_cache=False).logits[batch.answer] for batch in batches]
    return torch.cat(found).float().log_softmax(-1)


def test_costs_are_those_of_the_quantized_model(folder):
    """Against the packed model's own forward pass, from the model as it is and around a plan."""
    place, family = folder
    model = AutoModelForImageTextToText.from_pretrained(place, dtype=torch.float32).eval()
    batches = [random_batch(model, seed=1), random_batch(model, seed=2, padding=3)]
    targets = torch.cat([batch.targets[batch.answer] for batch in batches])
    exact = log_probabilities(model, batches)
    units = units_of(model, group_size=64)
    measured = CostMeasurement(model, LAYERS[family], batches, units=units, scheme=SCHEME)
    assert measured.based == Cost(0.0, pytest.approx(float(cross_entropy(exact, targets)), rel=1e-5))

    def expected(assignment):
        packed = AutoModelForImageTextToText.from_pretrained(place, dtype=torch.float32).eval()
        quantize_model(packed, plan_of_units(units, assignment, SCHEME))
        found = log_probabilities(packed, batches)
        divergence = kl_div(found, exact, log_target=True, reduction="none").sum(-1).mean()
        return Cost(
            pytest.approx(float(divergence), rel=1e-3), pytest.approx(float(cross_entropy(found, targets)), rel=1e-4)
        )

    plan = {unit.name: 4 if unit.layer == 0 else None for unit in units}
    nothing = dict.fromkeys(plan)
    for base, moved in (
        (nothing, ("language_attention.1", "embeddings", "lm_head")),
        (plan, ("language_mlp.0", "vision")),
    ):
        measured.base(base)
        for unit in moved:
            assert measured.cost(unit, 2) == expected({**base, unit: 2}), unit
    assert measured.based == expected(plan), "candidates leave nothing behind"


class Counted:
    """A measurement that counts, and dies after so many candidates."""

    def __init__(self, dies_after=10**6):
        self.left, self.assignment = dies_after, {"vision": None, "lm_head": None}

    @property
    def based(self):
        return Cost(0.0, 1.0)

    def base(self, assignment):
        self.assignment = assignment

    def cost(self, unit, width):
        self.left -= 1
        if self.left < 0:
            raise KeyboardInterrupt
        return Cost(1.0 / (width or 16), len(unit))


def test_costs_are_kept_a_candidate_at_a_time(tmp_path):
    plan, wanted = {"vision": None, "lm_head": None}, {"vision": [2, 3, 4], "lm_head": [2, 3, 4]}
    with pytest.raises(KeyboardInterrupt):
        KeptCosts(tmp_path, lambda: Counted(4))(plan, wanted)
    second = Counted()
    _, costs = KeptCosts(tmp_path, lambda: second)(plan, wanted)
    assert 10**6 - second.left == 2, "four of six were kept"
    assert costs["lm_head"][4] == Cost(0.25, 7)
    assert KeptCosts(tmp_path, lambda: pytest.fail("loaded in vain"))(plan, wanted)[1] == costs
    [file] = tmp_path.rglob("vision.json")
    file.write_text(file.read_text().replace("0.25", "0.26"))
    with pytest.raises(DamagedError, match="differs from the hash it begins with; delete .* and search again"):
        KeptCosts(tmp_path, Counted)(plan, wanted)


def plan_file(**changes) -> PlanFile:
    told = {
        "name": "searched-4b",
        "model": "mine",
        "weights": "abc",
        "scheme": scheme_of(QuantConfig(method="hqq")),
        "rules": [{"components": ["vision"], "bits": 4, "group_size": None}],
        "found": {"bytes": 12},
    }
    return PlanFile(**{**told, **changes})


def test_a_plan_file_is_read_as_it_was_written(tmp_path):
    plan = plan_file()
    plan.write(tmp_path / "plan.yaml")
    assert read_plan(tmp_path / "plan.yaml") == plan
    applied = plan.applied(QuantConfig(name="plan", method="rtn", plan="x"))
    assert (applied.name, applied.method, applied.rules, applied.plan) == ("searched-4b", "hqq", plan.rules, None)
    check_model(plan, path=Path("plan.yaml"), weights="abc", model="mine")
    with pytest.raises(ReliabitError) as found:
        check_model(plan, path=Path("plan.yaml"), weights="other", model="yours")
    assert str(found.value) == (
        "quant.plan=plan.yaml was found for other weights (mine) than those of yours; search again with task=search, "
        "or copy its rules to quant.rules"
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read (No such file or directory); name the file of a search"),
        ("{", "is no YAML; name the plan.yaml of a search"),
        ("- 1", "is no plan file; name the plan.yaml that task=search wrote"),
        ("model: {name: a, weights: b}\nname: a\nscheme: {}\nrules: [{bits: 3}]\nfound: {}", "is no plan file"),
    ],
)
def test_what_is_no_plan_file_is_refused(content, message, tmp_path):
    path = tmp_path / "plan.yaml"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ReliabitError) as found:
        read_plan(path)
    assert str(found.value).startswith(f"quant.plan={path} ")
    assert message in str(found.value)
