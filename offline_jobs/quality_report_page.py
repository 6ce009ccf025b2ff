"""The quality report as one page: no other file, no script, nothing loaded; it opens offline, light and dark.

Rows of a shop's files are hostile: every text that came from outside is escaped.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from html import escape

from offline_jobs import quality_report_plots as plots
from offline_jobs.quality_report import IngestReport

CSS = """
:root{color-scheme:light dark;--font:system-ui,-apple-system,'Segoe UI',Roboto,'Liberation Sans',sans-serif;
--page:#f6f7f9;--card:#fff;--ink:#1c2430;--soft:#5a6675;--line:#dfe3e8;--accent:#2f6fde;--second:#d9772b;--bad:#b3261e}
@media(prefers-color-scheme:dark){:root{--page:#12161c;--card:#1b212a;--ink:#e6eaf0;--soft:#9aa7b6;--line:#323b47;
--accent:#6ea2ff;--second:#f0a35e;--bad:#ff8a80}}
*{box-sizing:border-box}body{margin:0;background:var(--page);color:var(--ink);font:16px/1.5 var(--font)}
main{max-width:1080px;margin:0 auto;padding:32px 20px 64px}h1{font-size:28px;margin:0 0 4px}
h2{font-size:20px;margin:36px 0 12px}h3{font-size:15px;margin:0 0 6px}p{margin:6px 0}.soft{color:var(--soft)}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(150px,1fr));gap:12px;margin-top:20px}
.card{background:var(--card);border:1px solid var(--line);border-radius:10px;padding:14px 16px}
.tile b{display:block;font-size:24px;font-variant-numeric:tabular-nums}.tile span{color:var(--soft);font-size:14px}
.grid{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,440px),1fr));gap:14px}
.wide{grid-column:1/-1}svg{display:block;width:100%;height:auto}table{border-collapse:collapse;width:100%}
td,th{text-align:left;vertical-align:top;padding:6px 10px 6px 0;border-bottom:1px solid var(--line)}
th{font-weight:600;color:var(--soft);font-size:14px}td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}
td.n{white-space:nowrap}code{font:13px/1.45 ui-monospace,'Liberation Mono',monospace;overflow-wrap:anywhere}
.scroll{overflow-x:auto}.bad{color:var(--bad)}details{margin-top:10px}summary{cursor:pointer}
"""


def report_page(report: IngestReport) -> str:
    """The whole page as HTML."""
    title = f"Data quality: {escape(report.format)}"
    body = "\n".join((_head(report), _accounts(report), _interactions(report), _items(report), _refusals(report)))
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        f"<title>{title}</title><style>{CSS}</style></head>\n<body><main>\n<h1>{title}</h1>\n{body}\n</main></body></html>\n"
    )


def _head(report: IngestReport) -> str:
    files = ", ".join(f"{escape(name)} ({_bytes(size)})" for name, size in report.files.items())
    span = ""
    if report.time is not None:
        first, last = (datetime.fromtimestamp(t, UTC).date() for t in (report.time.first, report.time.last))
        span = f" From {first} to {last}, {report.time.days:,} days."
    rows, items, catalog = report.interactions, report.items, report.catalog
    refused = sum(rows.quarantined.values()) + sum(items.quarantined.values())
    with_image = catalog.items - catalog.missing["image"]
    return f'<p class="soft">Read from {files}.{span}</p><div class="tiles">' + "".join(
        f'<div class="card tile"><b>{value}</b><span>{name}</span></div>'
        for value, name in (
            (f"{rows.kept:,}", "interactions kept"),
            (f"{report.users:,}", "users"),
            (f"{catalog.items:,}", "items"),
            (_share(catalog.cold, catalog.items), "of items never bought"),
            (_share(with_image, catalog.items), "of items with an image"),
            (f"{refused:,}", "rows refused"),
        )
    ) + "</div>"  # fmt: skip


def _accounts(report: IngestReport) -> str:
    rows, items = report.interactions, report.items
    lines = [
        ("Interactions", rows.read, rows.kept, rows.duplicate, rows.conflicting, rows.outside_k_core, rows.quarantined),
        ("Items", items.read, items.kept, items.duplicate, items.conflicting, 0, items.quarantined),
    ]
    table = _table(
        ("", "read", "= kept", "+ duplicate", "(of these in conflict)", "+ outside the k-core", "+ refused"),
        [(name, *map(_number, numbers), _number(sum(refused.values()))) for name, *numbers, refused in lines],
        numbers=range(1, 7),
    )
    beyond = (
        f"<p>{items.only_in_interactions:,} items were bought but have no record of their own: they are in the catalog "
        "without texts.</p>"
        if items.only_in_interactions
        else ""
    )
    return f'<h2>What became of every row</h2><div class="card">{table}{beyond}</div>'


def _interactions(report: IngestReport) -> str:
    figures = report.figures
    cards = []
    if figures.per_period:
        unit = "day" if len(figures.per_period[0][0]) > len("2000-01") else "month"
        cards.append(_card(f"Interactions per {unit}", plots.periods(figures.per_period), wide=True))
    cards.append(_card("Users and items by degree", plots.degrees(figures.user_degrees, figures.item_degrees)))
    everything = (0, report.users, report.catalog.items - report.catalog.cold, report.distinct_pairs)
    sizes = [everything, *((core.k, core.users, core.items, core.interactions) for core in report.cores)]
    cards.append(_card("What a k-core would leave", plots.cores(sizes)))
    if figures.ratings:
        cards.append(_card("Ratings", plots.bars("ratings", {f"{value:g}": n for value, n in figures.ratings})))
    if "review" in figures.text_lengths:
        cards.append(_card("Length of reviews, as kept", _histogram(report, "review")))
    core_table = _table(
        ("", "users", "bought items", "distinct pairs"),
        [(f"{k}-core" if k else "all", *map(_number, ns)) for k, *ns in sizes],
        numbers=range(1, 4),
    )
    cards.append(_card("k-cores in numbers", core_table))
    return f'<h2>Interactions</h2><div class="grid">{"".join(cards)}</div>'


def _items(report: IngestReport) -> str:
    catalog, figures = report.catalog, report.figures
    sources = {"no image": catalog.missing["image"], **catalog.image_sources}
    cards = [
        _card("Items without a value", plots.bars("missing", catalog.missing, catalog.items)),
        _card("Images by kind", plots.bars("images", sources, catalog.items)),
    ]
    cards += [
        _card(f"Length of {name}s", _histogram(report, name))
        for name in ("title", "description")
        if name in figures.text_lengths
    ]
    if figures.prices is not None:
        cards.append(_card("Prices", plots.distribution("prices", figures.prices, "price")))
    return f'<h2>Items</h2><div class="grid">{"".join(cards)}</div>'


def _refusals(report: IngestReport) -> str:
    parts = []
    for table, reasons in (("interactions", report.interactions.quarantined), ("items", report.items.quarantined)):
        if reasons:
            shown = list(reasons.items())[:40]
            parts.append(f"<h3>Refused {table}, by reason</h3>")
            parts.append(
                _table(("rows", "reason"), [(_number(n), escape(reason)) for reason, n in shown], numbers=(0,))
            )
            examples = [
                (escape(f"{each.file}:{each.line}"), escape(each.reason), f"<code>{_visible(each.row)}</code>")
                for each in report.refused.get(table, [])
            ]
            rows = _table(("where", "reason", "row"), examples)
            parts.append(f"<details><summary>Examples</summary>{rows}</details>")
    if report.items.dropped:
        parts.append("<h3>Values left out of rows that were kept</h3>")
        dropped = [(_number(n), escape(reason)) for reason, n in report.items.dropped.items()]
        parts.append(_table(("rows", "reason"), dropped, numbers=(0,)))
    for table, conflicts in report.conflicts.items():
        parts.append(f"<h3>Conflicting {escape(table)}: the first in the files was kept</h3>")
        shown_conflicts = [
            tuple(_visible(text) for text in (each.key, each.field, each.kept, each.left_out)) for each in conflicts
        ]
        parts.append(_table(("key", "field", "kept", "left out"), shown_conflicts))
    cards = "".join(parts) or "<p>Nothing was refused, and no two rows disagree.</p>"
    hint = (
        '<p class="soft">Every refused row, with its file and line: <code>quarantine.jsonl</code> beside this page.</p>'
    )
    return f'<h2>Refused and conflicting rows</h2><div class="card">{cards}{hint}</div>'


def _histogram(report: IngestReport, name: str) -> str:
    return plots.distribution(f"{name}-length", report.figures.text_lengths[name], "characters")


def _card(title: str, content: str, *, wide: bool = False) -> str:
    return f'<section class="card{" wide" if wide else ""}"><h3>{title}</h3>{content}</section>'


def _table(head: Sequence[str], rows: Iterable[Sequence[str]], numbers: Iterable[int] = ()) -> str:
    """A table of cells that are HTML already; `numbers` are the columns to align to the right."""
    right = {column: ' class="n"' for column in numbers}
    top = "".join(f"<th{right.get(i, '')}>{name}</th>" for i, name in enumerate(head))
    body = "".join(
        "<tr>" + "".join(f"<td{right.get(i, '')}>{cell}</td>" for i, cell in enumerate(row)) + "</tr>" for row in rows
    )
    return f'<div class="scroll"><table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>'


def _visible(text: str) -> str:
    """Escaped, control characters and such as turn the direction of reading shown as codes, cut to 240 characters."""
    cut = text[:240] + ("…" if len(text) > 240 else "")
    return escape("".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in cut))


def _number(value: int) -> str:
    return f"{value:,}"


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.1%}" if whole else "0%"


def _bytes(size: int) -> str:
    return f"{size / 1e6:,.1f} MB" if size >= 100_000 else f"{size:,} bytes"
