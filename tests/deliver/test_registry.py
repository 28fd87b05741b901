"""The registry that our schemas go to: what its address may say."""

from __future__ import annotations

import base64
import urllib.error
import urllib.request
from typing import Any

import pytest

from broker.core.errors import Wait
from broker.core.schemas import latest
from broker.deliver.registry import Registry


def test_a_login_in_the_address_is_used_and_never_told(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[urllib.request.Request] = []

    def away(request: urllib.request.Request, **_: Any) -> None:
        asked.append(request)
        raise urllib.error.URLError("refused")

    monkeypatch.setattr(urllib.request, "urlopen", away)
    with pytest.raises(Wait, match=r"http://registry:8081/api is away") as caught:
        Registry("http://me:s%40cret@registry:8081/api/").frame("t", b"\0\0\0\0\1", latest("annotation").headers)
    assert "cret" not in str(caught.value)
    assert asked[0].full_url == "http://registry:8081/api/subjects/t-value/versions"
    assert asked[0].get_header("Authorization") == "Basic " + base64.b64encode(b"me:s@cret").decode()
