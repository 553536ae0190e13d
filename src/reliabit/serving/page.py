"""Pages of one HTML file each, which may load nothing from anywhere, and the policy that says so."""

import base64
import re
from dataclasses import dataclass
from hashlib import sha256
from importlib.resources import files


@dataclass(frozen=True)
class Page:
    """A self-contained page.

    Attributes:
        html: The page.
        policy: The Content-Security-Policy that allows its own script and style by their hashes, and nothing else.
    """

    html: str
    policy: str


def page_of(html: str) -> Page:
    """A page with the policy that fits it.

    >>> page_of("<style>p {}</style>").policy.split("; ")[:2]
    ["default-src 'none'", "style-src 'sha256-...'"]
    """
    allowed = [f"{tag}-src {hashes}" for tag in ("script", "style") if (hashes := _hashes(html, tag))]
    return Page(
        html,
        "; ".join(
            [
                "default-src 'none'",
                *allowed,
                "img-src blob: data:",
                "connect-src 'self'",
                "form-action 'none'",
                "base-uri 'none'",
                "frame-ancestors 'none'",
            ]
        ),
    )


def _hashes(html: str, tag: str) -> str:
    parts = re.findall(rf"<{tag}>(.*?)</{tag}>", html, flags=re.DOTALL)
    return " ".join(f"'sha256-{base64.b64encode(sha256(part.encode()).digest()).decode()}'" for part in parts)


PAGE = page_of(files("reliabit.serving").joinpath("page.html").read_text(encoding="utf-8"))
