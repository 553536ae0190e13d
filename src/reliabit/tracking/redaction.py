"""Keeping credentials out of what is recorded and said: by the names that hold them, by their form, in addresses.

What this process was given is a secret wherever it then appears: values of variables and arguments that are called like
one, and the passwords of addresses among them. Besides, every address loses its user, every `password=...` its value,
and every text that has the form of an access token goes.

Hydra itself would write the configuration as it was composed, before any of our code runs: the password of an address,
and every variable that a job is to set, as they are. So it is told to write nothing (`hydra.output_subdir: null`), and
what it leaves beside a job's output is written here.
"""

import functools
import json
import logging
import os
import re
import sys
import traceback
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote

from reliabit.files import replacing

if TYPE_CHECKING:
    from omegaconf import DictConfig

REDACTED = "[redacted]"

RECORDS = ".hydra"
"""The folder below a job's output that Hydra's own records have."""

SECRET_NAMES = re.compile(r"TOKEN|SECRET|PASSW|PASSPHRASE|KEY|CREDENTIAL|BEARER|_(?:PASS|PWD|PAT|AUTH)$", re.IGNORECASE)
"""Environment variables whose values are secrets."""

_WORDS = "token|secret|passw(?:or)?d|passphrase|pwd|(?:api|access|secret|private)[_-]?key|credentials?|bearer|auth"
_KEY = re.compile(rf"(?:^|[._-])(?:{_WORDS})$", re.IGNORECASE)
"""Keys whose values are secrets; a configuration has counts of tokens, too, which are none."""

ORDINARY = frozenset({"true", "false", "none", "null", "auto", "default", "enabled", "disabled", "always", "never"})
"""Values of such variables that are settings: TOKENIZERS_PARALLELISM=false must not redact every `false`."""

SHORTEST = 4
"""A shorter value cannot be told from ordinary text, and is no secret either."""

ANYWHERE = 8
"""A value of this length or more is redacted within words too; a shorter one where it stands by itself."""

_SCHEME = r"\b[a-z][a-z0-9+.-]*:"
_ADDRESSES = (
    # The part before the host, up to the last @ before a slash, as the standard has it.
    re.compile(rf"(?P<kept>{_SCHEME}//)[^\s/?#]*@", re.IGNORECASE),
    # Addresses of databases, whose passwords may hold slashes and more unquoted.
    re.compile(rf"(?P<kept>(?!https?:|file:|s3:){_SCHEME}//)[^\s:@/]*:\S*@", re.IGNORECASE),
    # Addresses with a slash, or the scheme, forgotten.
    re.compile(rf"(?P<kept>{_SCHEME}/?)[^\s:@/]+:[^\s@]+@", re.IGNORECASE),
    re.compile(r"(?P<kept>=)[^\s:@/=]+:[^\s/@=][^\s@=]*@(?=\w)"),
)
_PASSWORD = re.compile(r"(?:\b[a-z][a-z0-9+.-]*:/{0,2}|=|^)[^\s:@/=]*:(?!//)(?P<password>\S+)@", re.IGNORECASE)
_MODEL = re.compile(r"models:/[^\s:@/]+@[\w-]+")
"""MLflow's name of a version by its alias, which looks like a user with a password and is none."""
_QUERIES = re.compile(
    r"(?P<kept>[?&](?:access_?token|token|password|secret|sig|signature|api_?key|x-amz-[a-z-]+)=)[^&\s#]+",
    re.IGNORECASE,
)
_ASSIGNMENTS = re.compile(
    rf"(?P<kept>(?<![\w.-])(?:[\w.]*[._-])?(?:{_WORDS})=)(?!\[redacted\])(?P<value>'[^']*'|\"[^\"]*\"|[^\s,;&'\"\]}})]+)",
    re.IGNORECASE,
)
_FORMS = re.compile(
    r"\b(?:gh[opsur]_\w{20,}|github_pat_\w{20,}|glpat-[\w-]{16,}|hf_[A-Za-z0-9]{20,}|sk-[\w-]{20,}|xox[abeprs]-[\w-]{10,}"
    r"|(?:AKIA|ASIA)[0-9A-Z]{16}|AIza[\w-]{35}|eyJ[\w-]{10,}\.[\w-]{10,}\.[\w-]{10,})"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)"
)
"""Access tokens of GitHub, GitLab, Hugging Face, OpenAI, Slack, AWS and Google, those of JSON, and private keys."""


def redact(text: str, *, environ: Mapping[str, str] = os.environ, arguments: Sequence[str] | None = None) -> str:
    """A text without credentials.

    Args:
        text: The text.
        environ: The environment, whose secrets are redacted as they are, quoted for an address, and escaped for JSON.
        arguments: The command line, whose secrets are redacted as well; that of this process by default.

    Example:
        >>> redact("postgresql://me:hunter2@db/runs", environ={})
        'postgresql://[redacted]@db/runs'
        >>> redact("sent abcd-1234", environ={"API_TOKEN": "abcd-1234"})
        'sent [redacted]'
        >>> redact("host=db password=hunter2", environ={})
        'host=db password=[redacted]'
    """
    given = sys.argv if arguments is None else arguments
    pattern = _pattern(_secrets(environ, given))
    found = pattern.sub(REDACTED, text) if pattern is not None else text
    for address in _ADDRESSES:
        found = address.sub(rf"\g<kept>{REDACTED}@", found)
    found = _QUERIES.sub(rf"\g<kept>{REDACTED}", found)
    return _FORMS.sub(REDACTED, _ASSIGNMENTS.sub(_without_value, found))


def redact_values(values: Mapping[str, str], *, environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Parameters or tags without credentials in their values.

    >>> redact_values({"uri": "https://me:pw@host/x", "api_key": "abc"}, environ={})
    {'uri': 'https://[redacted]@host/x', 'api_key': '[redacted]'}
    """
    return {key: _redacted(key, value, environ=environ) for key, value in values.items()}


def redact_config(config: Any, *, environ: Mapping[str, str] = os.environ) -> Any:
    """Nested plain data, such as a configuration, without credentials in any text of it.

    >>> redact_config({"store": {"uri": "https://me:pw@host/x", "token": "abc"}, "seed": [0, "a"]}, environ={})
    {'store': {'uri': 'https://[redacted]@host/x', 'token': '[redacted]'}, 'seed': [0, 'a']}
    """
    if isinstance(config, Mapping):
        return {
            key: _redacted(str(key), value, environ=environ)
            if isinstance(value, str)
            else redact_config(value, environ=environ)
            for key, value in config.items()
        }
    if isinstance(config, list | tuple):
        return [redact_config(value, environ=environ) for value in config]
    return redact(config, environ=environ) if isinstance(config, str) else config


class RedactingFormatter(logging.Formatter):
    """Writes log records without credentials; Hydra logs the overrides of every cell."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as a text, its traceback included."""
        return redact(super().format(record))


def print_redacted(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print what nobody caught, as `sys.excepthook` does, without credentials."""
    sys.stderr.write(redact("".join(traceback.format_exception(kind, error, trace))))


def write_records(config: "DictConfig", folder: Path) -> None:
    """Write what was composed for a job, what Hydra was told, and the overrides.

    Args:
        config: The composed configuration, Hydra's own included.
        folder: Where the three files go.
    """
    from omegaconf import OmegaConf

    task = OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])
    records = {"config.yaml": task, "hydra.yaml": OmegaConf.masked_copy(config, ["hydra"])}
    for name, record in {**records, "overrides.yaml": config.hydra.overrides.task}.items():
        write_redacted(record, folder / name)


def write_redacted(config: Any, path: Path) -> None:
    """Write a configuration, references unresolved, as Hydra does, but without credentials."""
    from omegaconf import OmegaConf

    told = OmegaConf.create(redact_config(OmegaConf.to_container(config, resolve=False)))
    with replacing(path) as unfinished:
        unfinished.write_text(OmegaConf.to_yaml(told), encoding="utf-8")


def _redacted(key: str, value: str, *, environ: Mapping[str, str]) -> str:
    called = _KEY.search(key) or (key.isupper() and SECRET_NAMES.search(key) and len(value) >= SHORTEST)
    if called and value and value.lower() not in ORDINARY:
        return REDACTED
    return redact(value, environ=environ)


def _without_value(found: re.Match[str]) -> str:
    return found[0] if found["value"].strip("'\"").lower() in ORDINARY else f"{found['kept']}{REDACTED}"


def _secrets(environ: Mapping[str, str], arguments: Sequence[str]) -> frozenset[str]:
    named = {value.strip() for name, value in environ.items() if SECRET_NAMES.search(name)}
    named = {value for value in named if len(value) >= SHORTEST and value.lower() not in ORDINARY}
    return frozenset({*named, *_given(environ.values()), *_given(arguments)})


def _given(texts: Iterable[str]) -> Iterator[str]:
    """Passwords in addresses, and values of arguments that are called like secrets; short ones might be any word."""
    for text in texts:
        for found in _PASSWORD.finditer(text) if "@" in text and not _MODEL.fullmatch(text) else ():
            yield from (one for one in {found["password"], unquote(found["password"])} if len(one) >= ANYWHERE)
        name, _, value = text.partition("=")
        if value and _KEY.search(name):
            yield from (one for one in {value.strip("'\"")} if len(one) >= ANYWHERE)


@functools.lru_cache(maxsize=8)
def _pattern(secrets: frozenset[str]) -> re.Pattern[str] | None:
    forms = {form for secret in secrets for form in (secret, quote(secret, safe=""), json.dumps(secret)[1:-1])}
    # Longest first, so that a secret that begins like another is redacted whole.
    parts = [
        re.escape(form) if len(form) >= ANYWHERE else rf"(?<!\w){re.escape(form)}(?!\w)"
        for form in sorted(forms, key=lambda form: (-len(form), form))
    ]
    return re.compile("|".join(parts)) if parts else None
