"""The catalogue of GPU metrics: documented, and all of it seen in a golden exposition.

`pytest tests/exporters/gpu/test_catalogue.py --golden` writes the table of the page.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from exporters.gpu.catalogue import CATALOGUE, SUFFIXES, exposed
from exporters.gpu.probes import FieldsProbe
from exporters.gpu.readings import FAST, SLOW_TABLE
from exporters.gpu.rows import Row
from tests.exporters.conftest import GOLDEN

PAGE = Path(__file__).parents[3] / "docs/exporters.md"
BEGIN, END = "<!-- catalogue: begin -->\n", "<!-- catalogue: end -->\n"


def labels_seen() -> dict[str, set[str]]:
    """Return the labels of each metric in the golden expositions, `uuid` apart."""
    seen: dict[str, set[str]] = {}
    for path in GOLDEN.glob("nvml*.prom"):
        for family in text_string_to_metric_families(path.read_text()):
            for sample in family.samples:
                name = sample.name
                for suffix in SUFFIXES:
                    name = name.removesuffix(suffix)
                found = seen.setdefault(name, set())
                found |= set(sample.labels) - {"uuid", "le"}
    return seen


def table() -> str:
    seen = labels_seen()
    lines = ["| metric | type | what |\n", "|---|---|---|\n"]
    for each in CATALOGUE:
        labels = ",".join(sorted(seen[each.name]))
        braces = f"{{{labels}}}" if labels else ""
        lines.append(f"| `{each.name}{braces}` | {each.kind} | {each.help} |\n")
    return "".join(lines)


def test_every_metric_is_seen_in_a_golden_exposition() -> None:
    """What no golden exposition shows, no rule and no panel can be tested with."""
    seen = labels_seen()
    assert [each.name for each in CATALOGUE if each.name not in seen] == []


def test_the_page_lists_the_catalogue(request) -> None:
    """Name, type, labels and meaning of each metric, as they are exposed."""
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    listed, _, after = rest.partition(END)
    if request.config.getoption("--golden", default=False):
        PAGE.write_text(before + BEGIN + table() + END + after, encoding="utf-8")
        listed = table()
    assert listed == table()


def test_what_is_not_in_the_catalogue_cannot_be_exposed() -> None:
    """A series without a type and a help text is a mistake of ours."""
    with pytest.raises(KeyError):
        list(exposed([Row("inferops_gpu_made_up", 1.0)]))


def test_no_list_of_fields_ends_with_nvlinks():
    """Behind one the driver reads on, and the exporter died of it on two cards."""
    lists = [probe for probe in (*FAST, *SLOW_TABLE) if isinstance(probe, FieldsProbe)]
    assert any("nvlink" in field.name for probe in lists for field in probe.fields)
    assert not any("nvlink" in probe.fields[-1].name for probe in lists)
