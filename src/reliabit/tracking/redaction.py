"""Keeping credentials out of what is logged: values that the environment calls secret, and user names in addresses."""

import functools
import json
import os
import re
from collections.abc import Mapping
from urllib.parse import quote

REDACTED = "[redacted]"

SECRET_NAMES = re.compile("TOKEN|SECRET|PASSW|KEY|CREDENTIAL", re.IGNORECASE)
"""Environment variables whose values are secrets."""

ORDINARY = frozenset({"true", "false", "none", "null", "auto", "default", "enabled", "disabled", "always", "never"})
"""Values of such variables that are settings: TOKENIZERS_PARALLELISM=false must not redact every `false`."""

SHORTEST = 4
"""A shorter value cannot be told from ordinary text, and is no secret either."""

ANYWHERE = 8
"""A value of this length or more is redacted within words too; a shorter one where it stands by itself."""

_ADDRESSES = (
    # The part before the host, up to the last @ before a slash, as the standard has it.
    re.compile(r"(?P<kept>\b[a-z][a-z0-9+.-]*://)[^\s/?#]*@", re.IGNORECASE),
    # Addresses of databases, whose passwords may hold slashes unquoted.
    re.compile(r"(?P<kept>\b(?!https?:|file:|s3:)[a-z][a-z0-9+.-]*://)[^\s:@/]*:[^\s@]*@", re.IGNORECASE),
)
_QUERIES = re.compile(
    r"(?P<kept>[?&](?:access_?token|token|password|secret|sig|signature|api_?key|x-amz-[a-z-]+)=)[^&\s#]+",
    re.IGNORECASE,
)


def redact(text: str, *, environ: Mapping[str, str] = os.environ) -> str:
    """A text without credentials.

    Redacts the values of environment variables named *TOKEN*, *SECRET*, *PASSW*, *KEY* or *CREDENTIAL* (as they are,
    quoted for an address, and escaped for JSON), the user part of every address, and secrets in queries.

    Example:
        >>> redact("postgresql://me:hunter2@db/runs", environ={})
        'postgresql://[redacted]@db/runs'
        >>> redact("sent abcd-1234", environ={"API_TOKEN": "abcd-1234"})
        'sent [redacted]'
    """
    pattern = _pattern(_secrets(environ))
    found = pattern.sub(REDACTED, text) if pattern is not None else text
    for address in _ADDRESSES:
        found = address.sub(rf"\g<kept>{REDACTED}@", found)
    return _QUERIES.sub(rf"\g<kept>{REDACTED}", found)


def redact_values(values: Mapping[str, str], *, environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Parameters or tags without credentials in their values.

    >>> redact_values({"uri": "https://me:pw@host/x"}, environ={})
    {'uri': 'https://[redacted]@host/x'}
    """
    return {key: redact(value, environ=environ) for key, value in values.items()}


def _secrets(environ: Mapping[str, str]) -> frozenset[str]:
    named = {value.strip() for name, value in environ.items() if SECRET_NAMES.search(name)}
    return frozenset(value for value in named if len(value) >= SHORTEST and value.lower() not in ORDINARY)


@functools.lru_cache(maxsize=8)
def _pattern(secrets: frozenset[str]) -> re.Pattern[str] | None:
    forms = {form for secret in secrets for form in (secret, quote(secret, safe=""), json.dumps(secret)[1:-1])}
    # Longest first, so that a secret that begins like another is redacted whole.
    parts = [
        re.escape(form) if len(form) >= ANYWHERE else rf"(?<!\w){re.escape(form)}(?!\w)"
        for form in sorted(forms, key=lambda form: (-len(form), form))
    ]
    return re.compile("|".join(parts)) if parts else None
