"""The HTTP side of a schema registry with Confluent's API, for the survey's that we read and ours that we write to."""

from __future__ import annotations

import base64
import http.client
import json
import time
import urllib.error
import urllib.parse
import urllib.request
from typing import Any

from broker.core.errors import TocsinError, Wait

LONGEST_ANSWER = 1_000_000
_TOO_MANY = 429
_ABSENT = (40401, 40402, 40403)  # subject, version, schema


class Refused(Exception):
    """The registry understands us and says no.

    Attributes
    ----------
    code : int
        HTTP's.
    absent : bool
        It says in its own words (Confluent's ``error_code`` 404xx) that there is no such thing: a 404 of another kind
        comes from something that is no registry.
    """

    def __init__(self, code: int, text: str, absent: bool) -> None:
        super().__init__(f"{code} {text}".rstrip())
        self.code, self.absent = code, absent


class RegistryApi:
    """One registry: asked in JSON, answers of bounded size and time.

    Parameters
    ----------
    url : str
        Base of the API, for example ``https://registry:8081``. A login before the host is used, and never told.
    auth : (str, str), optional
        Basic-auth user name and password, for an address without a login.
    timeout_s : float
        For a connection and for each read; a whole answer may take ten times as long.

    Raises
    ------
    TocsinError
        The address is no web address.
    """

    def __init__(self, url: str, auth: tuple[str, str] | None = None, timeout_s: float = 5.0) -> None:
        self.url, login = split_login(url.rstrip("/"))
        if not self.url.startswith(("http://", "https://")):
            raise TocsinError(f"the schema registry's address must start with http:// or https://, not {self.url!r}")
        self._timeout_s = timeout_s
        self._login = ":".join(login or auth or ())

    def ask(self, path: str, body: dict[str, Any] | None = None, *, most: int = LONGEST_ANSWER) -> dict[str, Any]:
        """Return the JSON object at ``path``; with a ``body``, what it answers to that.

        Raises
        ------
        Refused
            It says no (4xx).
        Wait
            It is away, in trouble (5xx, 429), too slow, or what answers is no registry.
        ValueError
            The answer has more than ``most`` bytes.
        """
        try:
            with urllib.request.urlopen(self._request(path, body), timeout=self._timeout_s) as response:
                raw = self._read(response, most + 1)
            answer = json.loads(raw) if len(raw) <= most else None
        except urllib.error.HTTPError as error:
            self._take(error)
        except (OSError, ValueError, RecursionError, http.client.HTTPException) as error:
            raise Wait(f"the schema registry at {self.url} is away ({error}); trying again") from error
        if len(raw) > most:
            raise ValueError(f"the registry's answer to {path} has more than {most} bytes")
        if not isinstance(answer, dict):
            raise Wait(f"the schema registry at {self.url} answers no JSON object to {path}; trying again")
        return answer

    def _request(self, path: str, body: dict[str, Any] | None) -> urllib.request.Request:
        headers = {"Accept": "application/vnd.schemaregistry.v1+json, application/json"}
        if body is not None:
            headers["Content-Type"] = "application/vnd.schemaregistry.v1+json"
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data=data, headers=headers)
        if self._login:  # not for the host of a redirection
            login = base64.b64encode(self._login.encode()).decode()
            request.add_unredirected_header("Authorization", f"Basic {login}")
        return request

    def _take(self, error: urllib.error.HTTPError) -> None:
        """Raise what an answer that is no success means."""
        with error:
            text = error.read(2000).decode(errors="replace")
        if error.code >= 500 or error.code == _TOO_MANY or error.code < 400:
            raise Wait(f"the schema registry at {self.url} answers {error.code}; trying again") from error
        own = _own_words(text)
        absent = error.code == 404 and own.get("error_code") in _ABSENT
        raise Refused(error.code, " ".join(str(own.get("message") or text).split())[:500], absent) from error

    def _read(self, response: http.client.HTTPResponse, most: int) -> bytes:
        """Return at most ``most`` bytes; a server that drips them is away once ten times the time-out has passed."""
        deadline = time.monotonic() + 10 * self._timeout_s
        raw = b""
        while len(raw) < most and (piece := response.read1(most - len(raw))):
            raw += piece
            if time.monotonic() > deadline:
                raise TimeoutError("it answers too slowly")
        return raw


def split_login(url: str) -> tuple[str, tuple[str, str] | None]:
    """Return ``url`` without the login before its host, and that login, whatever letters it has."""
    scheme, separator, rest = url.partition("://") if "://" in url else ("", "", url)
    userinfo, at, place = rest.rpartition("@")
    user, _, password = map(urllib.parse.unquote, userinfo.partition(":"))
    return f"{scheme}{separator}{place}", (user, password) if at else None


def _own_words(text: str) -> dict[str, Any]:
    """Return a refusal as Confluent's API writes it, or nothing."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
