"""The table of all rows is made from their files and results: each stands in it, and its figures come out again."""

import pytest

from broker.models.survey import bench, registry, serve, table
from broker.models.survey.row import Capability, Finding, Row
from broker.models.survey.trust import speed


def test_every_variant_and_service_has_a_result() -> None:
    assert table.missing(table.read_results(table.results_root())) == []


def test_the_page_is_what_the_results_give() -> None:
    root = table.results_root()
    assert (root / "survey.md").read_text() == table.text(table.read_results(root))


@pytest.mark.parametrize("name", ["subhalo-nn@sim", "pz-mlp@sim"])
def test_figures_come_out_again(name: str) -> None:
    row, variant = registry.find(name)
    found = table.read_results(table.results_root())[row.id, variant]
    examples = bench.fresh(row, variant, found["seed"])
    made = bench.figures(row, serve.load(name).fitted.answer(examples.columns), examples)
    assert made == pytest.approx({metric: figure["model"] for metric, figure in found["metrics"].items()}, rel=0.01)


def test_a_toy_is_called_one() -> None:
    found = table.read_results(table.results_root())
    page = table.text(found).splitlines()
    for row in registry.rows().values():
        if isinstance(row, Row):
            for name in (name for name, variant in row.variants.items() if not variant.real):
                (line,) = (line for line in page if line.startswith(f"| {row.id} | {name}:"))
                assert ("**toy**" in line) == row.variants[name].make(8, 0, None).data.toy


def test_x_speed_counts_the_rows_that_are_slower() -> None:
    told = speed.said([{"model": 30.0, "forest": 1000.0, "prior": 1e9}, {"model": 90.0, "fit": 0.5, "formula": 80.0}])
    assert "0.03 to 180 times" in told
    assert "1 of 2 are slower. Beside the fastest method, often a formula or a linear fit, 1 of them are." in told


def test_what_has_no_result_is_named() -> None:
    row = registry.row("x-speed")
    assert isinstance(row, Capability)
    result = table.shown(row, [Finding("speed", "records/s", "more", 2.0, 1.0, (1.9, 2.1))], "twice", 1, 3.0)
    left = table.missing({(result["row"], result["variant"]): result})
    assert "x-speed" not in left
    assert {"x-bench", "pz-mdn@dc2"} <= set(left)
    assert "| x-speed | speed [records/s] | 2 | 1 | twice |" in table.text({("x-speed", "shown"): result})
