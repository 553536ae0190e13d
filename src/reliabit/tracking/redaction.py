"""Keeping credentials out of what is recorded and said: by the names that hold them, by their form, in addresses.

What this process was given is a secret wherever it then appears: values of variables and arguments that are called like
one, and the passwords of addresses among them. Besides, every address loses its user, every `password=...` its value,
and every text that has the form of an access token goes.

Hydra itself would write the configuration as it was composed, before any of our code runs: the password of an address,
and every variable that a job is to set, as they are. So it is told to write nothing (`hydra.output_subdir: null`), and
what it leaves beside a job's output is written here.
"""

import base64
import functools
import html
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
from urllib.parse import quote, quote_plus, unquote

from reliabit.files import replacing

if TYPE_CHECKING:
    from omegaconf import DictConfig

REDACTED = "[redacted]"

RECORDS = ".hydra"
"""The folder below a job's output that Hydra's own records have."""

SECRET_NAMES = re.compile(r"TOKEN|SECRET|PASSW|PASSPHRASE|KEY|CREDENTIAL|BEARER|_(?:PASS|PWD|PAT|AUTH)$", re.IGNORECASE)
"""Environment variables whose values are secrets."""

_WORDS = (
    "token|secret|passw(?:or)?d|passphrase|pwd|(?:api|access|account|secret|private)[_-]?key|credentials?|bearer|auth"
    "|authorization"
)
_KEY = re.compile(rf"(?:^|[._-])(?:{_WORDS})$", re.IGNORECASE)
"""Keys whose values are secrets; a configuration has counts of tokens, too, which are none."""

USER, PASSWORD = "USERNAME", "PASSWORD"
"""How the names of variables end that go together, as MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD do."""

ORDINARY = frozenset({"true", "false", "none", "null", "auto", "default", "enabled", "disabled", "always", "never"})
"""Values of such variables that are settings: TOKENIZERS_PARALLELISM=false must not redact every `false`."""

SHORTEST = 4
"""A shorter value cannot be told from ordinary text, and is no secret either."""

ANYWHERE = 8
"""A value of this length or more is redacted within words too; a shorter one where it stands by itself."""

_LETTERS = "[a-z0-9+.-]"


def _scheme(excluded: str = "") -> str:
    """From where the letters of a scheme begin, so that no letter of a long text is tried twice, to its colon."""
    return rf"(?<!{_LETTERS})(?>{_LETTERS}*?\b{excluded}[a-z]){_LETTERS}*+:"


_WITHOUT_SPACES = re.compile(r"\S++")
_ADDRESSES = (
    # The part before the host, up to the last @ before a slash, as the standard has it.
    re.compile(rf"(?P<kept>{_scheme()}//)[^\s/?#]*@", re.IGNORECASE),
    # Addresses of databases, whose passwords may hold slashes and more unquoted.
    re.compile(rf"(?P<kept>{_scheme('(?!https?:|file:|s3:)')}//)[^\s:@/]*:\S*@", re.IGNORECASE),
    # Addresses with a slash, or the scheme, forgotten.
    re.compile(rf"(?P<kept>{_scheme()}/?)[^\s:@/]+:[^\s@]+@", re.IGNORECASE),
)
_USER = re.compile(r"(?P<kept>=)[^\s:@/=]+:[^\s/@=][^\s@=]*@(?=\w)")
_PASSWORD = re.compile(
    rf"(?:^[a-z]{_LETTERS}*+:/{{0,2}}|=|^|{_scheme()}/{{0,2}})[^\s:@/=]*:(?!//)(?P<password>\S+)@", re.IGNORECASE
)
_MODEL = re.compile(r"models:/[^\s:@/]+@[\w-]+")
"""MLflow's name of a version by its alias, which looks like a user with a password and is none."""
_QUERIES = re.compile(
    r"(?P<kept>[?&](?:access_?token|token|password|secret|sig|signature|api_?key|x-(?:amz|goog)-[a-z-]+)=)"
    # What is redacted already stays as it is, and so does what stands after it, such as a quote that JSON needs.
    r"(?!\[redacted\](?![^&\s#'\"]))[^&\s#]+",
    re.IGNORECASE,
)
_VALUE = r"(?!['\"]?\[redacted\])(?P<value>'[^']*'|\"[^\"]*\"|['\"]?[^\s,;&'\"\]})]+)"
_NAME = rf"(?<![\w.-])-{{0,2}}(?:[\w.]*[._-])?(?:{_WORDS})"
_ASSIGNMENTS = (
    re.compile(rf"(?P<kept>{_NAME}[ \t]?=[ \t]?){_VALUE}", re.IGNORECASE),
    # Arguments of commands, and what JSON and Python write of a mapping.
    re.compile(rf"(?P<kept>(?<![\w-])--(?:[\w-]*-)?(?:{_WORDS})[ \t]){_VALUE}", re.IGNORECASE),
    re.compile(rf"(?P<kept>(?P<quote>['\"])[\w.-]*(?:{_WORDS})(?P=quote):[ \t]?){_VALUE}", re.IGNORECASE),
    # Headers of HTTP.
    re.compile(
        r"(?P<kept>\b(?:(?:proxy-)?authorization:[ \t]*(?:(?:basic|bearer|digest|token)[ \t]+)?+|x-api-key:[ \t]*"
        rf"|(?:set-)?cookie:[ \t]*[\w.-]+=)){_VALUE}",
        re.IGNORECASE,
    ),
)
_FORMS = re.compile(
    r"\b(?:gh[opsur]_\w{20,}|github_pat_\w{20,}|glpat-[\w-]{16,}|hf_[A-Za-z0-9]{20,}|sk-[\w-]{20,}|xox[abeprs]-[\w-]{10,}"
    r"|pypi-[\w-]{20,}|npm_\w{20,}|[rs]k_(?:live|test)_\w{16,}|dapi[0-9a-f]{32}|(?:AKIA|ASIA)[0-9A-Z]{16}|AIza[\w-]{35}|eyJ[\w-]{10,16384}\.[\w-]{10,}\.[\w-]{10,})"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)"
)
"""Access tokens of GitHub, GitLab, Hugging Face, OpenAI, Slack, registries of packages, Stripe, Databricks, AWS and
Google, those of JSON (as long as a header of HTTP may be), and private keys."""


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
    if "@" in found:
        found = _USER.sub(rf"\g<kept>{REDACTED}@", _WITHOUT_SPACES.sub(_without_users, found))
    found = _QUERIES.sub(rf"\g<kept>{REDACTED}", found)
    for assignment in _ASSIGNMENTS:
        found = assignment.sub(_without_value, found)
    return _FORMS.sub(REDACTED, found)


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
            redact(key, environ=environ) if isinstance(key, str) else key: _redacted_below(str(key), value, environ)
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


def _redacted_below(key: str, value: Any, environ: Mapping[str, str]) -> Any:
    """A value of any kind, with all texts and numbers below the key of a secret taken out."""
    if isinstance(value, Mapping) and _KEY.search(key):
        return {name: _redacted_below(key, one, environ) for name, one in value.items()}
    if isinstance(value, list | tuple) and _KEY.search(key):
        return [_redacted_below(key, one, environ) for one in value]
    if isinstance(value, str) or (isinstance(value, int | float) and not isinstance(value, bool) and _KEY.search(key)):
        return _redacted(key, str(value), environ=environ)
    return redact_config(value, environ=environ)


def _redacted(key: str, value: str, *, environ: Mapping[str, str]) -> str:
    called = _KEY.search(key) or (key.isupper() and SECRET_NAMES.search(key) and len(value) >= SHORTEST)
    if called and value and value.lower() not in ORDINARY:
        return REDACTED
    return redact(value, environ=environ)


def _without_users(found: re.Match[str]) -> str:
    """Addresses without their users, of what is written without spaces; what follows its last @ can be none's user."""
    before, at, after = found[0].rpartition("@")
    if not at:
        return found[0]
    for address in _ADDRESSES:
        before = address.sub(rf"\g<kept>{REDACTED}@", f"{before}@")[:-1]
    return f"{before}@{after}"


def _without_value(found: re.Match[str]) -> str:
    if found["value"].strip("'\"").lower() in ORDINARY:
        return found[0]
    # JSON stays JSON.
    quote_mark = found["value"][0] if found.groupdict().get("quote") and found["value"][0] in "'\"" else ""
    return f"{found['kept']}{quote_mark}{REDACTED}{quote_mark}"


def _secrets(environ: Mapping[str, str], arguments: Sequence[str]) -> frozenset[str]:
    named = {value.strip() for name, value in environ.items() if SECRET_NAMES.search(name)}
    named = {value for value in named if len(value) >= SHORTEST and value.lower() not in ORDINARY}
    # How a password goes over HTTP, where its user is known.
    passwords = [name for name in environ if name.endswith(PASSWORD) and environ[name]]
    pairs = [f"{environ.get(name.removesuffix(PASSWORD) + USER, '')}:{environ[name]}" for name in passwords]
    basic = {base64.b64encode(pair.encode()).decode() for pair in pairs}
    return frozenset({*named, *basic, *_given(environ.values()), *_given(arguments)})


def _given(texts: Iterable[str]) -> Iterator[str]:
    """Passwords in addresses, and values of arguments that are called like secrets; short ones might be any word."""
    for text in texts:
        for found in _passwords(text) if "@" in text and not _MODEL.fullmatch(text) else ():
            yield from (one for one in {found["password"], unquote(found["password"])} if len(one) >= ANYWHERE)
        name, _, value = text.partition("=")
        if value and _KEY.search(name):
            yield from (one for one in {value.strip("'\"")} if len(one) >= ANYWHERE)


def _passwords(text: str) -> Iterator[re.Match[str]]:
    for found in _WITHOUT_SPACES.finditer(text):
        # As far as an @, so that what begins like an address finds its end.
        yield from _PASSWORD.finditer(text, found.start(), found.start() + found[0].rfind("@") + 1)


def _forms_of(secret: str) -> Iterator[str]:
    """A secret as it is, in an address (whose escapes some write small), in JSON, as Python shows it, and in HTML."""
    addressed = (quote(secret), quote(secret, safe=""), quote_plus(secret, safe=""))
    yield from (secret, json.dumps(secret)[1:-1], repr(secret)[1:-1], repr(secret.encode())[2:-1], html.escape(secret))
    yield from (*addressed, *(re.sub("%..", lambda found: found[0].lower(), one) for one in addressed))


@functools.lru_cache(maxsize=8)
def _pattern(secrets: frozenset[str]) -> re.Pattern[str] | None:
    forms = {form for secret in secrets for form in _forms_of(secret)}
    # Longest first, so that a secret that begins like another is redacted whole.
    parts = [
        re.escape(form) if len(form) >= ANYWHERE else rf"(?<!\w){re.escape(form)}(?!\w)"
        for form in sorted(forms, key=lambda form: (-len(form), form))
    ]
    return re.compile("|".join(parts)) if parts else None
