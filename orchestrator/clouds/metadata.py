"""A cloud's metadata server, asked over plain HTTP: link-local, so never through a proxy, and never waited for long."""

from __future__ import annotations

import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Final

_TIMEOUT_S: Final = 2.0
_MOST_BYTES: Final = 1 << 20
_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class NoAnswer(Exception):
    """The metadata server cannot be reached, or says something that it never should."""


class Missing(NoAnswer):
    """404: what was asked for is not there, which for some questions is the answer."""


class Unauthorized(NoAnswer):
    """401: the token is not valid, or not valid any more."""


def ask(url: str, headers: Mapping[str, str], *, method: str = "GET") -> str:
    """The body of the answer.

    Raises:
        NoAnswer: in its three kinds.
    """
    request = urllib.request.Request(url, headers=dict(headers), method=method)  # noqa: S310 -- http, by the config
    try:
        with _opener.open(request, timeout=_TIMEOUT_S) as reply:
            body: bytes = reply.read(_MOST_BYTES)
    except urllib.error.HTTPError as error:
        kinds = {401: Unauthorized, 404: Missing}
        raise kinds.get(error.code, NoAnswer)(f"{url} answers {error.code}") from error
    except (OSError, ValueError) as error:
        message = f"{url} does not answer: {error}"
        raise NoAnswer(message) from error
    return body.decode("utf-8", errors="replace")
