"""The papers: links lead somewhere, and nothing is left to fill in."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAPERS = ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md", "models/README.md"]


@pytest.mark.parametrize("paper", PAPERS)
def test_links_and_pictures_are_there(paper: str) -> None:
    text = (ROOT / paper).read_text()
    for target in re.findall(r"\]\(([^)#]+)\)", text):
        if target.startswith("https://"):  # a paper that is cited
            continue
        assert (ROOT / paper).parent.joinpath(target).exists(), target
    assert not re.search(r"@[A-Z_]+@|\bTODO\b|\bFIGURES\b", text)


def test_pictures_fetch_nothing() -> None:
    for picture in (ROOT / "models" / "results").glob("*.svg"):
        assert "url(" not in re.sub(r"url\(#", "", picture.read_text())
