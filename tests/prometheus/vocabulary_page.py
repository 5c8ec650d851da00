"""The generated tables of docs/vocabulary.md.

python -m tests.prometheus.vocabulary_page writes them into the page.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

import yaml

from tests.harness import grafana
from tests.prometheus.losses import lives, living
from tests.prometheus.metric_names import DATA, OWN, ROOT, read_by, sources
from tests.rules.catalogue import RECORDS, rules
from tests.rules.exposition import VOCABULARY, samples

PAGE = ROOT / "docs/vocabulary.md"
OURS, DCGM, SMI = "our exporter, GPU", "dcgm-exporter", "nvidia_gpu_exporter"
PARTS = ("cards", "nodes", "losses")


def tables() -> dict[str, str]:
    """Each generated part of the page, by the name in its markers."""
    return {"cards": cards(), "nodes": nodes(), "losses": losses()}


def within(page: str, parts: Mapping[str, str]) -> str:
    """Put the parts between their markers."""
    for name, text in parts.items():
        begin, end = f"<!-- {name} -->\n", f"<!-- /{name} -->"
        before, found, rest = page.partition(begin)
        assert found, begin
        _, found, after = rest.partition(end)
        assert found, end
        page = f"{before}{begin}{text}\n{end}{after}"
    return page


def cards() -> str:
    """What feeds each series of a card: by source, in the order of preference."""
    by_source = sources()
    new, old = _names("dcgm-exporter-4.9.prom"), _names("dcgm-exporter-4.8.prom")
    rows = []
    for record in sorted(VOCABULARY, key=lambda record: record.name):
        if not record.name.startswith("node_gpu:"):
            continue
        ordered = _in_order(record.expr)
        dcgm = [name for name in ordered if name in by_source[DCGM]]
        cells = (
            [name for name in ordered if name in by_source[OURS]],
            [name for name in dcgm if name in new],
            [name for name in dcgm if name in old],
            [name for name in ordered if name in by_source[SMI]],
        )
        rows.append((f"`{record.name}`", *map(_cell, cells)))
    head = ("series", "1. our exporter", "2. DCGM 4.9", "2. DCGM 4.8", f"3. {SMI}")
    return _table(head, rows)


def nodes() -> str:
    """What each series of a node or of the fleet is made of."""
    rows = [
        (f"`{record.name}`", record.group, _cell(_in_order(record.expr)))
        for record in sorted(VOCABULARY, key=lambda record: record.name)
        if not record.name.startswith("node_gpu:")
    ]
    return _table(("series", "group", "made of"), rows)


def losses() -> str:
    """What falls silent when a source is missing everywhere."""
    by_source = sources()
    rows = [
        (source, *(_cell(gone) or "nothing" for gone in lost(source).values()))
        for source in by_source
    ]
    return _table(("missing", "series", "alerts", "signals", "panels"), rows)


def lost(source: str) -> dict[str, list[str]]:
    """What nothing else fills: series, alerts, signals, panels."""
    by_source = sources()
    everything = OWN.union(*by_source.values())
    rest = OWN.union(*(found for name, found in by_source.items() if name != source))
    records = {record.name: record.expr for record in RECORDS}
    before = everything | living(records, everything)
    after = rest | living(records, rest)

    def silent(queries: Iterable[tuple[str, str]]) -> list[str]:
        gone = {
            name
            for name, expr in queries
            if lives(expr, before) and not lives(expr, after)
        }
        return sorted(gone)

    return {
        "series": sorted((before - after) & records.keys()),
        "alerts": silent((rule.name, rule.expr) for rule in rules() if rule.alert),
        "signals": silent(_signals()),
        "panels": silent(_panels()),
    }


def _signals() -> list[tuple[str, str]]:
    text = (ROOT / "router/signals.yml").read_text()
    return [(each["name"], each["query"]) for each in yaml.safe_load(text)["signals"]]


def _panels() -> list[tuple[str, str]]:
    return [
        query
        for dashboard in grafana.dashboards().values()
        for query in grafana.queries(dashboard)
    ]


def _names(file: str) -> set[str]:
    text = (DATA / "exported" / file).read_text()
    return {sample.name for sample in samples(text)}


def _in_order(expr: str) -> list[str]:
    """The names that an expression reads, as it first mentions them."""
    return sorted(
        read_by(expr), key=lambda name: len(re.split(rf"\b{name}\b", expr)[0])
    )


def _cell(names: Iterable[str]) -> str:
    """Series as code, titles as they are."""
    series = re.compile(r"\w+:[\w:]+|[a-zA-Z]+_\w+")
    return "<br>".join(
        f"`{name}`" if series.fullmatch(name) else name for name in names
    )


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    first = tuple(head)
    lines = [first, ("---",) * len(first), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main() -> None:
    """Write the tables into the page."""
    PAGE.write_text(within(PAGE.read_text(), tables()))


if __name__ == "__main__":
    main()
