"""The image of the service: what its file says fits the project. That it builds and answers is tried by hand."""

import json
import re
import tomllib
from pathlib import Path

from reliabit.cli import parser

PROJECT = Path(__file__).parents[2]
DOCKERFILE = (PROJECT / "Dockerfile").read_text(encoding="utf-8")


def lines(instruction: str) -> list[str]:
    return re.findall(rf"^ *{instruction} +(.*)$", DOCKERFILE.replace("\\\n", " "), re.MULTILINE)


def test_it_runs_a_command_that_there_is_for_a_user_without_rights():
    program, *arguments = json.loads(lines("ENTRYPOINT")[0])
    options = parser().parse_args([*arguments, "--digest", "0" * 64, "trainer.threads=1"])
    assert (program, arguments[0]) == ("reliabit", "serve")
    assert (options.host, options.port, options.bundle) == ("0.0.0.0", int(lines("EXPOSE")[0]), Path("/bundle"))
    assert lines("USER") == ["reliabit"]
    assert re.search("KEY|TOKEN|PASSWORD|SECRET", DOCKERFILE) is None


def test_it_installs_what_serving_needs_in_the_versions_of_the_lock():
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    needed = [*project["dependencies"], *project["optional-dependencies"]["serve"]]
    locked = re.findall(r"^([\w.-]+)==", (PROJECT / "requirements.lock").read_text(encoding="utf-8"), re.MULTILINE)
    names = {re.match(r"[\w.-]+", requirement)[0] for requirement in needed}
    assert {plain(name) for name in names} - {plain(name) for name in locked} == set()


def plain(name: str) -> str:
    """As package indices compare names."""
    return re.sub(r"[-_.]+", "-", name).lower()


def test_the_builder_is_sent_what_the_package_is_built_from_and_nothing_of_a_users():
    kept = [
        line[1:] for line in (PROJECT / ".dockerignore").read_text(encoding="utf-8").splitlines() if line[:1] == "!"
    ]
    assert {name for name in kept if not (PROJECT / name).exists()} == set()
    build = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))
    folders = {name.split("/")[0] for name in build["tool"]["hatch"]["build"]["targets"]["wheel"]["only-include"]}
    assert {*kept} == {*folders, "LICENSE", "README.md", "pyproject.toml", "requirements.lock"}
