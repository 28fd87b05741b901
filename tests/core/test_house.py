"""The house in numbers: small functions, flat files, one list of names."""

import ast
from pathlib import Path

ROOT = Path(__file__).parents[2]
FILES = sorted([*ROOT.glob("broker/**/*.py"), *ROOT.glob("models/**/*.py")])


def bodies(path: Path) -> list[tuple[int, str]]:
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            body = node.body[1:] if ast.get_docstring(node) and len(node.body) > 1 else node.body
            lines = (body[-1].end_lineno or 0) - body[0].lineno + 1
            found.append((lines, f"{path.relative_to(ROOT)}:{node.lineno} {node.name}"))
    return found


def test_functions_are_small() -> None:
    table = sorted(body for path in FILES for body in bodies(path))
    assert table[int(0.9 * (len(table) - 1))][0] <= 25, table[int(0.9 * len(table)) :]
    assert [row for row in table if row[0] > 60] == []


def test_files_are_flat() -> None:
    assert [str(p) for p in FILES if len(p.read_text().splitlines()) > 500] == []
