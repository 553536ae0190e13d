"""`reliabit`: what is done about runs and models, rather than by them; and `reliabit run`, which makes runs.

Overrides are those of `src/run.py`, such as `tracking=offline` or `tracking.uri=...`. Commands, and all that they need,
are imported once it is known which one is meant: `--help` and a wrong option need none.
"""

import argparse
import math
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reliabit import __version__
from reliabit.commands import own_answers
from reliabit.process import rare_collections, run_and_leave

if TYPE_CHECKING:
    from reliabit.config import Config

REFUSED = 1
"""The status of a command that did its work and answers no."""

WHOLE = ("promoting.promote", "reporting.report")
"""The commands that read all of the configuration: a cell is made anew, or compared with others."""

COMPLETE = "--complete"
"""What bash is told to ask for completions: `complete -o default -C 'reliabit --complete' reliabit`."""

PORTS = range(2**16)

INTERRUPTED = 130
"""The status of a command that was stopped with Ctrl-C, as shells report it: 128 and the number of SIGINT."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command; what the user can put right ends in one line and status 2, Ctrl-C in one line and 130.

    Args:
        arguments: The command and its options. Those of the command line where it is `None`; then this is a process's
            whole work, which ends with it.
    """
    if arguments is None:
        run_and_leave(lambda: _run(sys.argv[1:]))
    _run(list(arguments))


def _run(arguments: list[str]) -> None:
    if arguments[:1] == [COMPLETE]:
        from reliabit.completion import complete

        complete(parser(), arguments[1:])
        return
    if arguments[:1] == ["run"]:
        run_hydra(arguments[1:])
        return
    options = parser().parse_args(arguments)
    try:
        with rare_collections():
            from reliabit.config_errors import check_plain_arguments, in_one_line, refusals
            from reliabit.disk_errors import plain_disk_errors
            from reliabit.tracking.redaction import print_redacted, redact

        sys.excepthook = print_redacted
        try:
            check_plain_arguments(options.overrides)
            with plain_disk_errors():
                with rare_collections():
                    module, _, name = options.command.partition(".")
                    command = getattr(import_module(f"reliabit.commands.{module}"), name)
                    needed = getattr(options, "needs_config", True)
                    config = compose_config(options.overrides, whole=options.command in WHOLE) if needed else None
                done = command(config, options)
        except refusals() as error:
            sys.stderr.write(redact(in_one_line(error)))
            sys.exit(2)
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        sys.exit(INTERRUPTED)
    if done is False:
        sys.exit(REFUSED)


def run_hydra(arguments: Sequence[str]) -> None:
    """Run a task as `src/run.py` does, which an installed package has not; its options and its help are Hydra's."""
    from reliabit.main import main as run

    sys.argv = ["reliabit run", *arguments]
    run()


def parser() -> argparse.ArgumentParser:
    """The commands and their options."""
    about = "Run tasks, and look after recorded runs and promoted models."
    top = argparse.ArgumentParser(prog="reliabit", description=about)
    top.add_argument("--version", action="version", version=f"Reliabit {__version__}")
    commands = top.add_subparsers(required=True, metavar="command")

    def command(name: str, function: str, text: str, **named: str) -> argparse.ArgumentParser:
        one = commands.add_parser(name, help=text, description=text)
        for argument, help_text in named.items():
            one.add_argument(argument, help=help_text)
        one.add_argument("overrides", nargs="*", help="overrides of the configuration, such as tracking.uri=...")
        one.set_defaults(command=function)
        return one

    commands.add_parser("run", help="run a task, or with -m a sweep; `reliabit run --help` shows the configuration")
    command("reap", "upkeep.reap_runs", "close the runs of dead processes")
    sync = command("sync", "upkeep.sync", "record the runs of an offline journal and of the versioned pipeline, once")
    sync.add_argument("--journal", type=Path, help="a journal's folder; mlruns/journal and results by default")
    sync.add_argument("--results", type=Path, help="a folder of the pipeline's results")
    doctor = command(
        "doctor", "upkeep.doctor", "show what is shared below paths.cache, make room, ask a service for drift"
    )
    doctor.add_argument("--keep-gib", type=gibibytes, help="remove what was of no use for longest, down to so much")
    doctor.add_argument("--service", help="the address of a running service, such as http://127.0.0.1:8000")

    promote = command("promote", "promoting.promote", "put the best configuration of a sweep through the gate")
    promote.add_argument("--sweep", default="last", help="the parent run of the sweep; the last one by default")
    promote.add_argument("--run", help="a cell of that sweep, instead of the best by the policy")
    promote.add_argument("--dry-run", action="store_true", help="explain, and change nothing")
    rollback = command("rollback", "versions.roll_back", "give the alias champion back to an earlier version")
    rollback.add_argument("--to", help="the version; the champion before this one by default")
    rollback.add_argument("--reason", default="", help="why, for the history")
    text = "write one page of a sweep, to pass on"
    report = commands.add_parser("report", help=text, description=text)
    about = "the parent run of the sweep, the last one by default; then overrides such as tracking.uri=..."
    report.add_argument("words", nargs="*", metavar="sweep", action=SweepAndOverrides, help=about)
    report.add_argument("--file", type=Path, default=Path("report.html"), help="where to; report.html by default")
    report.add_argument("--without-pictures", action="store_true", help="leave out the pictures that were asked about")
    report.set_defaults(command="reporting.report", sweep="last", overrides=[])
    command("history", "versions.show_history", "list every attempt to change the champion")
    command("delete", "versions.delete", "delete a version that no alias names", version="its number, such as 3")
    pull = command(
        "pull",
        "versions.pull_bundle",
        "fetch a promoted bundle, every file checked",
        uri="models:/<name>@<alias> or models:/<name>/<version>",
        folder="the folder to make",
    )
    pull.add_argument("--replace", action="store_true", help="put it in the place of another bundle")
    serve = command("serve", "serving.serve", "serve the champion, or a pulled bundle, over HTTP")
    serve.add_argument("--bundle", type=Path, help="a pulled bundle, instead of whatever is champion")
    serve.add_argument("--digest", help="the SHA-256 of that bundle's manifest, as `reliabit pull` showed it")
    serve.add_argument(
        "--client-connections", type=int, help="open at once from one address; more where a proxy stands before all"
    )
    serve.add_argument("--host", default="127.0.0.1", help="the address to listen at")
    serve.add_argument("--port", type=port, default=8000, help="the port; 0 for any that is free")
    own_answers.add_parser(commands)
    return top


class SweepAndOverrides(argparse.Action):
    """Words of which the first may name a sweep; those with an equals sign are overrides."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        """Part them."""
        words = [str(word) for word in values or ()]
        named = words[:1] if words and "=" not in words[0] else []
        namespace.sweep, namespace.overrides = (named or ["last"])[0], words[len(named) :]


def port(text: str) -> int:
    """A port on the command line; 0 is any that is free.

    >>> port("8000")
    8000
    """
    try:
        number = int(text)
    except ValueError:
        number = -1
    if number not in PORTS:
        raise argparse.ArgumentTypeError(f"{text!r} is no port; choose one of 1 to 65535, or 0 for any that is free")
    return number


def gibibytes(text: str) -> float:
    """A size on the command line, in GiB.

    >>> gibibytes("0.5")
    0.5
    """
    try:
        size = float(text)
    except ValueError:
        size = math.nan
    # In bytes it has to be a number as well.
    if not 0 <= size * 2**30 < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is no size; give a number of GiB, 0 or more")
    return size


def compose_config(overrides: Sequence[str], *, whole: bool) -> "Config":
    """The configuration that overrides describe, or the groups of it that look after runs and models."""
    if not whole:
        from reliabit.quick_composition import compose_groups

        if (groups := compose_groups(overrides)) is not None:
            return groups
    from hydra import compose, initialize_config_dir

    from reliabit.composition import register, to_config
    from reliabit.config_errors import check_arguments
    from reliabit.paths import conf_folder

    register()
    check_arguments(overrides)
    with initialize_config_dir(str(conf_folder()), version_base="1.3"):
        return to_config(compose("config", overrides=list(overrides)))
