"""The code that results are known by is what they import: no less, which could cost a wrong number, and no more."""

import ast
import json
import re
import shutil
import subprocess
import sys
import textwrap
import time
from importlib import import_module
from pathlib import Path

import pytest
import yaml
from hydra import compose, initialize_config_dir

from reliabit import code_graph, quant
from reliabit.code_graph import PACKAGE, module_digests
from reliabit.composition import register, to_config, to_mapping
from reliabit.digests import BY_VALUE
from reliabit.identity import MEASURING
from reliabit.paths import conf_folder
from reliabit.quant.mbq.statistics_key import BY_VALUE as CODE_ALONE
from reliabit.quant.mbq.statistics_key import COLLECTING
from reliabit.quant.streaming.job import QUANTIZING
from reliabit.tasks._answer_stores import ANSWERING, ANSWERING_BY_VALUE, ENCODING

pytestmark = pytest.mark.medium

SCOPES = {
    "run": (MEASURING, BY_VALUE),
    "answers": (ANSWERING, (*BY_VALUE, *ANSWERING_BY_VALUE)),
    "encoded": (ENCODING, BY_VALUE),
    "statistics": (COLLECTING, CODE_ALONE),
    "checkpoint": (QUANTIZING, CODE_ALONE),
}

CODE = "_ADDED = 1\n"
TEXT = '# A comment.\n"""And a text that stands alone."""\n'

CHANGED = {
    # Pictures, records, the registry, the service, the command line: no number depends on them.
    "evaluation/figures.py": (),
    "evaluation/pareto.py": (),
    "tracking/tracker.py": (),
    "registry/gate.py": (),
    "serving/service.py": (),
    "tasks/pipeline.py": (),
    "cli.py": (),
    # What judges answers, or is sure of them.
    "evaluation/report.py": ("run",),
    "evaluation/prediction_columns.py": ("run",),
    "metrics/functional/area.py": ("run",),
    "metrics/certify.py": ("run",),
    "confidence/_selector_training.py": ("run",),
    "inference/predictions.py": ("run",),
    # What decides which questions are asked: kept answers hold the questions themselves.
    "data/corruptions.py": ("run",),
    "data/_image_store.py": ("run",),
    "tasks/_asked_questions.py": ("run",),
    # What asks.
    "inference/decoding.py": ("run", "answers"),
    "inference/encoded_store.py": ("run", "answers", "encoded"),
    "data/image_decoding.py": ("run", "answers", "encoded"),
    "models/families/qwen2_vl.py": ("run", "answers", "encoded"),
    # What quantizes.
    "quant/methods/rtn.py": ("run", "answers", "checkpoint"),
    "quant/methods/hqq.py": ("run", "answers", "checkpoint"),
    "quant/mbq/groups.py": ("run", "answers", "statistics", "checkpoint"),
    "quant/kernels/cpu.py": tuple(SCOPES),
    "quant/packed.py": tuple(SCOPES),
    "errors.py": tuple(SCOPES),
}
"""Modules, and the results that a change of each costs."""


@pytest.fixture
def package(tmp_path):
    folder = tmp_path / "reliabit"
    shutil.copytree(PACKAGE, folder, ignore=shutil.ignore_patterns("__pycache__"))
    yield folder
    forget()


def forget():
    code_graph._digests.cache_clear()
    code_graph._added.cache_clear()
    code_graph._read.cache_clear()


def digests_of(package):
    forget()
    return {
        scope: module_digests(entries, by_value=by_value, package=package)
        for scope, (entries, by_value) in SCOPES.items()
    }


def test_a_change_costs_the_results_that_depend_on_it_and_no_others(package):
    before = digests_of(package)
    assert before == digests_of(PACKAGE), "a package that was moved is another one"
    for name in CHANGED:
        with (package / name).open("a") as file:
            file.write(CODE)
    after = digests_of(package)
    for scope in SCOPES:
        assert set(after[scope]) == set(before[scope])
        differing = {name for name in after[scope] if after[scope][name] != before[scope][name]}
        assert differing == {name for name, scopes in CHANGED.items() if scope in scopes}, scope


def test_comments_and_documentation_cost_nothing(package):
    before = digests_of(package)
    for path in package.rglob("*.py"):
        path.write_text("".join(comments_added(path.read_text())))
    assert digests_of(package) == before


def comments_added(source):
    """A module with other docstrings and with comments behind its lines, where nothing but code is."""
    inside_text = {
        line
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Constant | ast.JoinedStr) and node.end_lineno > node.lineno
        for line in range(node.lineno, node.end_lineno)
    }
    for number, line in enumerate(source.splitlines(keepends=True), 1):
        yield line if number in inside_text else f"{line.rstrip()}  # more\n"
    yield TEXT


def test_a_value_that_changes_by_one_digit_is_another_module(package):
    before = digests_of(package)["run"]
    path = package / "quant" / "methods" / "hqq.py"
    changed = re.sub(r"= (\d+)\.", r"= 1\1.", path.read_text(), count=1)
    assert changed != path.read_text()
    path.write_text(changed)
    after = digests_of(package)["run"]
    assert {name for name in after if after[name] != before[name]} == {"quant/methods/hqq.py"}


def test_a_module_that_is_newly_imported_by_a_helper_counts(package):
    (package / "quant" / "rounding.py").write_text("def half(value):\n    return value / 2\n")
    before = digests_of(package)
    path = package / "quant" / "methods" / "rtn.py"
    path.write_text(
        path.read_text() + "\n\ndef later():\n    from reliabit.quant import rounding\n    return rounding\n"
    )
    after = digests_of(package)
    for scope in ("run", "answers", "checkpoint"):
        assert set(after[scope]) - set(before[scope]) == {"quant/rounding.py"}
    assert set(after["statistics"]) == set(before["statistics"])


@pytest.fixture
def small(tmp_path):
    """A package in which every way of importing leads to a module of its own."""
    files = {
        "__init__.py": "",
        "entry.py": """
            import reliabit.whole
            from typing import TYPE_CHECKING
            from reliabit import taken
            from reliabit.room import nothing_that_is_a_module
            if TYPE_CHECKING:
                from reliabit import annotated
            else:
                from reliabit import otherwise
            try:
                from reliabit.first import a
            except ImportError:
                from reliabit.second import a
            finally:
                import reliabit.third
            def late():
                with open("x"):
                    from reliabit.inner import deep
            class Holder:
                from reliabit import held
            match late:
                case None:
                    import reliabit.cased
            from reliabit.lazy import b
            from reliabit.without_init import member
            import importlib
            importlib.import_module("reliabit.named")
            'from reliabit import quoted'
        """,
        "room/__init__.py": "from . import sibling\nfrom ..above import x",
        "room/sibling.py": "from .nested.leaf import y",
        "room/nested/__init__.py": "",
        "room/nested/leaf.py": "",
        "lazy/__init__.py": """
            from typing import TYPE_CHECKING
            if TYPE_CHECKING:
                from reliabit.lazy.home import b
                from reliabit.lazy.other import c
            def __getattr__(name): ...
        """,
    }
    modules = "whole taken annotated otherwise first second third held cased named quoted above unused valued"
    files |= {f"{name}.py": "" for name in modules.split()}
    files |= {"inner/__init__.py": "", "inner/deep.py": "import reliabit.valued.below", "lazy/home.py": ""}
    files |= {
        "without_init/member.py": "",
        "lazy/other.py": "",
        "valued/__init__.py": "import reliabit.unused",
        "valued/below.py": "",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(textwrap.dedent(text))
    return tmp_path


def test_every_way_of_importing_is_followed(small):
    found = set(module_digests(["reliabit.entry"], by_value=["reliabit.valued"], package=small))
    names = ["entry", "whole", "taken", "otherwise", "first", "second", "third", "held", "cased", "named", "above"]
    assert found == {
        *(f"{name}.py" for name in names),
        *("__init__.py", "inner/__init__.py", "inner/deep.py", "lazy/__init__.py", "lazy/home.py"),
        "without_init/member.py",
        *("room/__init__.py", "room/sibling.py", "room/nested/__init__.py", "room/nested/leaf.py"),
    }


def test_a_lazy_package_that_is_imported_whole_may_give_out_any_of_its_names(small):
    for text in ("import reliabit.lazy as z\n", "from reliabit.lazy import *\n"):
        (small / "entry.py").write_text(text)
        forget()
        assert {"lazy/home.py", "lazy/other.py"} <= set(module_digests(["reliabit.entry"], package=small))


def test_components_that_are_found_by_name_may_be_any_module_of_their_package(small):
    (small / "shapes").mkdir()
    for name in ("__init__", "round", "square"):
        (small / "shapes" / f"{name}.py").write_text("")
    (small / "shapes" / "round.py").write_text("import reliabit.above\n")
    found_by_name = 'Components[type]("shape", package="reliabit.shapes", entry_points="reliabit.shapes")\n'
    (small / "entry.py").write_text(f"from reliabit.components import Components\nSHAPES = {found_by_name}")
    found = set(module_digests(["reliabit.entry"], package=small))
    shapes = {f"shapes/{name}.py" for name in ("__init__", "round", "square")}
    assert found == {"__init__.py", "entry.py", "above.py", *shapes}


@pytest.mark.parametrize("module", ["shapes", "my_shapes.inner.oval", "shared.shapes.oval"])
def test_a_package_that_adds_components_counts_with_its_version(small, tmp_path_factory, monkeypatch, module):
    site = tmp_path_factory.mktemp("site")
    name = f"{module.replace('.', '_')}_{site.name.replace('-', '_')}"
    module = module.replace("shapes", name, 1)
    path = site / f"{module.replace('.', '/')}.py"
    path.parent.mkdir(parents=True, exist_ok=True)
    for folder in path.parents[: len(module.split(".")) - 1]:
        if folder.name != "shared":
            (folder / "__init__.py").write_text("")
    path.write_text("raise AssertionError('it is looked at, and not imported')\n")
    information = site / "added-1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: added\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text(f"[reliabit.shapes]\noval = {module}\n[others]\na = b\n")
    monkeypatch.syspath_prepend(str(site))
    (small / "shapes").mkdir()
    found_by_name = 'Components("shape", package="reliabit.shapes", entry_points="reliabit.shapes")\n'
    (small / "entry.py").write_text(f"SHAPES = {found_by_name}")

    def added():
        forget()
        found = module_digests(["reliabit.entry"], package=small)
        return {key: digest for key, digest in found.items() if key not in ("__init__.py", "entry.py")}

    before = added()
    assert f"added 1.0: {path.relative_to(site).as_posix()}" in before
    assert all(key.startswith("added 1.0: ") for key in before)
    path.write_text(path.read_text() + "# A comment.\n")
    assert added() == before
    path.write_text(path.read_text() + CODE)
    assert set(added()) == set(before)
    assert added() != before
    information.rename(site / "added-1.1.dist-info")
    (site / "added-1.1.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: added\nVersion: 1.1\n")
    assert all(key.startswith("added 1.1: ") for key in added())
    (small / "entry.py").write_text("")
    assert added() == {}, "what looks for no components depends on none"


def test_the_names_that_packages_give_out_lazily_are_all_known():
    lazy = code_graph._read(PACKAGE / "quant" / "__init__.py").lazy
    assert lazy.keys() == set(quant.__all__)
    for name, home in lazy.items():
        assert getattr(import_module(home, "reliabit.quant"), name) is getattr(quant, name)
    held = {path for path in PACKAGE.rglob("__init__.py") if "__getattr__" in path.read_text()}
    assert all(code_graph._read(path).lazy for path in held)


def test_no_result_depends_on_a_module_that_a_value_names():
    """Such an import could not be followed; the task of a configuration and lazy names are all there is."""
    reached = {name for entries, by_value in SCOPES.values() for name in module_digests(entries, by_value=by_value)}
    naming = {name for name in reached if any(names_by_value(node) for node in ast.walk(tree_of(name)))}
    assert naming == {"components.py"}, "the modules that it imports are those that a literal names to it, see above"


def test_components_that_are_found_by_name_are_named_to_the_graph_by_literals():
    for path in PACKAGE.rglob("*.py"):
        for call in code_graph._calls(ast.parse(path.read_text()), "Components"):
            given = {word.arg: word.value for word in call.keywords}
            assert all(isinstance(given[name], ast.Constant) for name in ("package", "entry_points")), path


def tree_of(name):
    return ast.parse((PACKAGE / name).read_text())


def names_by_value(node):
    if not isinstance(node, ast.Call):
        return False
    called = getattr(node.func, "attr", getattr(node.func, "id", ""))
    literal = bool(node.args) and isinstance(node.args[0], ast.Constant)
    return called in ("import_module", "__import__", "exec", "instantiate", "get_class", "entry_points") and not literal


def test_what_a_configuration_names_to_be_called_computes_nothing():
    named = {}
    for path in conf_folder().rglob("*.yaml"):
        waiting = [yaml.safe_load(path.read_text())]
        while waiting:
            node = waiting.pop()
            waiting += node.values() if isinstance(node, dict) else node if isinstance(node, list) else []
            if isinstance(node, dict) and "_target_" in node:
                named[node["_target_"]] = path.relative_to(conf_folder()).as_posix()
    reached = set(module_digests(MEASURING, by_value=BY_VALUE))
    for target in named:
        module = target.rpartition(".")[0].removeprefix("reliabit.").replace(".", "/")
        assert f"{module}.py" not in reached, target
    assert "reliabit.jobs.BeforeRun" in named


def test_no_result_reads_its_own_source_or_documentation():
    """Comments and docstrings are free, so nothing may compute with them."""
    reached = {name for entries, by_value in SCOPES.values() for name in module_digests(entries, by_value=by_value)}
    for name in reached:
        # A package's stub is read for its names alone, which are followed.
        source = (PACKAGE / name).read_text().replace("attach_stub(__name__, __file__)", "")
        assert not any(word in source for word in ("__doc__", "getsource", "get_docstring", "__file__")), name


def test_what_identities_hold_as_values_is_plain_data():
    """The configuration is cut off the graph: it must hold fields, check them, and compute the places of files."""
    functions = {
        node.name
        for path in (PACKAGE / "config.py", PACKAGE / "settings.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) and hasattr(node, "name")
    }
    checks = {"choice", "component", "positive", "listed", "check", "check_template", "to_settings", "_check_choices"}
    checks |= {"_file_names"}
    assert functions == {*checks, "place", "training", "join", "recovering"}


def test_identities_are_computed_in_no_time():
    forget()
    start = time.process_time()
    for entries, by_value in SCOPES.values():
        module_digests(entries, by_value=by_value)
    first = time.process_time() - start
    for _ in range(100):
        module_digests(*SCOPES["run"][:1], by_value=SCOPES["run"][1])
    assert first < 2.0, "0.3 s on a quiet machine"
    assert time.process_time() - start - first < 0.1


RUNNING = """
import json, sys
from pathlib import Path
from omegaconf import OmegaConf
from reliabit.config import Config

folder, loaded = sys.argv[1], {}
loaded["configuration"] = [m.__file__ for name, m in sys.modules.items() if name.split(".")[0] == "reliabit"]
# They were checked by whoever composed them, with modules that would be found here otherwise.
plain, calibrated, trained = [
    OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(Config), config)) for config in json.load(sys.stdin)
]

def note(scope):
    loaded[scope] = [m.__file__ for name, m in sys.modules.items() if name.split(".")[0] == "reliabit"]

from datasets import Dataset
rows = json.loads(Path(folder, "rows.json").read_text())
image = Path(folder, "image.png").read_bytes()
questions = Dataset.from_list([{**row, "image": image} for row in rows])

from functools import partial
from reliabit.inference.chunks import chunks
from reliabit.inference.encoded_store import EncodedStore, encode
from reliabit.models.loading import load_checkpoint
model = plain.model
checkpoint = load_checkpoint(model)
(chunk,) = chunks(questions, size=8)
store = EncodedStore(Path(folder, "encoded"), identity="a", batch_size=8, questions=8, room=10**9)
for _ in range(2):
    encoding = partial(encode, checkpoint, chunk, batch_size=8, accelerator="cpu")
    assert store.encode(chunk, encoding) is not None
note("encoded")

from reliabit.inference.answer_store import AnswerStore
from reliabit.inference.features import FeatureSettings
from reliabit.tasks.runtime import set_up
set_up(calibrated)
from reliabit.tasks._model import chunk_answerer, load_quantized
answers = AnswerStore(Path(folder, "answers"), identity="a", chunk=8, features=FeatureSettings())
quantized = load_quantized(calibrated)
list(answers.ask(questions, chunk_answerer(calibrated, quantized, lambda: store)))
note("answers")

from reliabit.tasks._measurement import measure
measure(trained, folder=Path(folder), loaded=lambda model: None, logger_of=lambda name: False)
note("run")
print(json.dumps(loaded))
"""


def test_whatever_is_loaded_while_a_result_is_computed_is_part_of_its_identity(tmp_path):
    """A real tiny run in a process of its own: encoded, then calibrated, quantized and answered, then measured."""
    from PIL import Image

    Image.new("RGB", (64, 64), "red").save(tmp_path / "image.png")
    row = {"source": "s", "split": "test", "shift": "none", "image_id": "i", "question": "what color is it?"}
    row |= {"question_type": "color", "answer_type": "other", "answers": ["red"]}
    (tmp_path / "rows.json").write_text(json.dumps([{**row, "question_id": str(number)} for number in range(8)]))
    images = "{dev: 6, val: 6, cal: 6, test: 6}"
    common = [f"paths.data={tmp_path}/data", f"paths.cache={tmp_path}/cache", "trainer.progress_bar=false"]
    common += ["trainer.batch_size=8", f"data.splits={images}", f"data.ask={images}", "evaluation.resamples=20"]
    common += ["quant.calibration.images=6", "confidence.selector.epochs=1", "confidence.selector.seeds=[0]"]
    common += ["confidence.sampling.samples=2", "model.max_new_tokens=3"]
    chosen = (["quant=none"], ["quant=mbq", "quant.bits=4"], ["quant=hqq", "quant.bits=4", "confidence=all"])
    done = subprocess.run(
        [sys.executable, "-c", RUNNING, str(tmp_path)],
        input=json.dumps([composed(*common, *overrides) for overrides in chosen]),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    loaded = {
        scope: {Path(file).relative_to(PACKAGE).as_posix() for file in files}
        for scope, files in json.loads(done.stdout.splitlines()[-1]).items()
    }
    # Settings that only a configuration imports are in an identity by their values.
    settings = loaded.pop("configuration")
    for scope, names in loaded.items():
        entries, by_value = SCOPES[scope]
        assert len(names) > 30
        free = {*settings, *(name for name in names if name_of(name).startswith(tuple(BY_VALUE)))}
        # The questions of a calibration, which answers are known by, are drawn by modules of their own.
        free |= set(module_digests(ANSWERING_BY_VALUE, by_value=BY_VALUE)) if scope == "answers" else set()
        assert names - set(module_digests(entries, by_value=by_value)) <= free, scope


def composed(*overrides):
    # In this process: Hydra imports its plug-ins, which record runs.
    register()
    with initialize_config_dir(str(conf_folder()), version_base="1.3"):
        return dict(to_mapping(to_config(compose("config", overrides=list(overrides)))))


def name_of(path):
    return f"reliabit.{path.removesuffix('.py').removesuffix('/__init__').replace('/', '.')}"
