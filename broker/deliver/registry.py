"""Our schemas in a schema registry with Confluent's API, where there is one."""

from __future__ import annotations

import base64
import json
import urllib.error
import urllib.parse
import urllib.request

from broker.core.errors import Stop, Wait
from broker.core.schemas import HEADER, OwnSchema, by_fingerprint, frame_prefix

TIMEOUT_S = 10.0


class Registry:
    """Registers a schema at the first message of a topic and frames messages with the id that it got.

    Parameters
    ----------
    url : str
        Base of the API, for example ``http://localhost:8081``. A login before the host is used and never told.
    username, password : str or None
        Basic authentication.
    """

    def __init__(self, url: str, username: str | None = None, password: str | None = None) -> None:
        scheme, slashes, rest = url.rstrip("/").partition("://")
        authority, slash, path = rest.partition("/")
        userinfo, _, host = authority.rpartition("@")
        self._url = f"{scheme}{slashes}{host}{slash}{path}"
        self._login = f"{username}:{password or ''}" if username else urllib.parse.unquote(userinfo) or None
        self._prefixes: dict[tuple[str, bytes], bytes] = {}

    def frame(self, topic: str, value: bytes, headers: tuple[tuple[str, bytes], ...]) -> bytes:
        """Return ``value`` with the registry's id; a message without our schema header (a raw packet) as it is.

        Raises
        ------
        Wait
            The registry is away.
        Stop
            It refuses the schema.
        """
        fingerprint = dict(headers).get(HEADER)
        if fingerprint is None:
            return value
        prefix = self._prefixes.get((topic, fingerprint))
        if prefix is None:
            prefix = frame_prefix(self._register(f"{topic}-value", by_fingerprint()[fingerprint]))
            self._prefixes[topic, fingerprint] = prefix
        return prefix + value[5:]

    def _register(self, subject: str, schema: OwnSchema) -> int:
        request = urllib.request.Request(
            f"{self._url}/subjects/{subject}/versions",
            data=json.dumps({"schema": schema.text}).encode(),
            headers={"Content-Type": "application/vnd.schemaregistry.v1+json"},
            method="POST",
        )
        if self._login:
            request.add_header("Authorization", "Basic " + base64.b64encode(self._login.encode()).decode())
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:
                return int(json.load(answer)["id"])
        except urllib.error.HTTPError as error:
            text = error.read(500).decode(errors="replace")
            if error.code >= 500 or error.code == 429:
                raise Wait(f"the schema registry {self._url} answers {error.code}: {text}") from error
            what = f"{schema.name} {schema.version} for {subject}"
            raise Stop(f"the schema registry {self._url} refuses {what}: {error.code} {text}") from error
        except (OSError, ValueError, KeyError) as error:
            raise Wait(f"the schema registry {self._url} is away: {error}") from error
