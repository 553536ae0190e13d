"""Asking a running service whether its answers have drifted."""

import http.client
import json
from dataclasses import dataclass
from urllib.parse import urlsplit

from reliabit.errors import ReliabitError
from reliabit.serving.drift.watch import DriftEvidence, DriftReport


@dataclass(frozen=True)
class ServedDrift:
    """What a service says of itself.

    Attributes:
        version: The version that it serves.
        report: Its drift watch.
    """

    version: str
    report: DriftReport


def fetch_drift(url: str, *, key: str = "", seconds: float = 5.0) -> ServedDrift:
    """Ask a service for its drift watch.

    Args:
        url: Of the service, such as `http://127.0.0.1:8000`.
        key: The service's, if it has one.
        seconds: How long to wait.

    Raises:
        ReliabitError: It cannot be reached, wants another key, serves no model yet, or is no service of Reliabit.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ReliabitError(f"{url} is no address of a service; give one like http://127.0.0.1:8000")
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    try:
        connection = kind(parts.hostname, parts.port, timeout=seconds)
        try:
            headers = {"Authorization": f"Bearer {key}"} if key else {}
            connection.request("GET", f"{parts.path.rstrip('/')}/drift", headers=headers)
            answer = connection.getresponse()
            values = json.loads(answer.read())
        finally:
            connection.close()
        if answer.status == http.client.SERVICE_UNAVAILABLE:
            raise ReliabitError(f"the service at {url} has no model loaded yet; ask again later")
        if answer.status == http.client.UNAUTHORIZED:
            raise ReliabitError(f"the service at {url} wants its key; set RELIABIT_API_KEY to it")
        version = str(values.pop("model_version"))
        tests = {name: DriftEvidence(**test) for name, test in values.pop("tests").items()}
        return ServedDrift(version, DriftReport(**values, tests=tests))
    except (OSError, http.client.HTTPException) as error:
        raise ReliabitError(
            f"the service at {url} cannot be reached ({error}); start it, or correct the address"
        ) from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ReliabitError(f"what answers at {url} is no service of Reliabit; correct the address") from error
