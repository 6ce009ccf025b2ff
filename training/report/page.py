"""The page: one HTML file without a script, nothing loaded; it opens offline, light and dark, phone and paper."""

from __future__ import annotations

from training.report.attention import attention_section
from training.report.beyond_section import beyond_section
from training.report.cost import cost_section
from training.report.curves import curves_section
from training.report.headline import headline
from training.report.ladder import ladder_section
from training.report.markup import html
from training.report.method import method_section
from training.report.published_section import published_section
from training.report.run_results import RunResults
from training.report.seeds import seeds_section
from training.report.slices_section import slices_section

CSS = """
:root{color-scheme:light dark;--font:system-ui,-apple-system,'Segoe UI',Roboto,'Liberation Sans',sans-serif;
--page:#f6f7f9;--card:#fff;--ink:#1c2430;--soft:#5a6675;--line:#dfe3e8;
--c1:#2f6fde;--c2:#c75d12;--c3:#13806b;--c4:#8a3fb8;--c5:#b8336a;--c6:#5a6675}
@media(prefers-color-scheme:dark){:root{--page:#12161c;--card:#1b212a;--ink:#e6eaf0;--soft:#9aa7b6;--line:#323b47;
--c1:#6ea2ff;--c2:#f0a35e;--c3:#4fd1b3;--c4:#c893f5;--c5:#ff8ab3;--c6:#9aa7b6}}
*{box-sizing:border-box}body{margin:0;background:var(--page);color:var(--ink);font:16px/1.5 var(--font)}
main{max-width:1080px;margin:0 auto;padding:32px 20px 64px}h1{font-size:28px;line-height:1.25;margin:0 0 4px}
h2{font-size:20px;margin:44px 0 2px}h3{font-size:15px;margin:0 0 8px}p{margin:6px 0}.soft{color:var(--soft)}
section>p{max-width:75ch;margin-bottom:12px}h1,h2,h3,p,li,figcaption{overflow-wrap:anywhere}
nav{display:flex;flex-wrap:wrap;gap:4px 16px;margin:12px 0 0;font-size:15px}a{color:var(--c1)}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(150px,1fr));gap:12px;margin:20px 0 14px}
.card{background:var(--card);border:1px solid var(--line);border-radius:10px;padding:14px 16px;margin:0;min-width:0}
.tile b{display:block;font-size:24px;font-variant-numeric:tabular-nums}.tile span{color:var(--soft);font-size:14px}
.claim{font-size:20px;line-height:1.4;font-weight:600;margin:2px 0 10px}
.grid{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,440px),1fr));gap:14px;align-items:start}
.wide{grid-column:1/-1}svg{display:block;width:100%;max-width:620px;height:auto;margin:0 auto}
figcaption{color:var(--soft);font-size:14px;margin-top:8px}ul{margin:6px 0;padding-left:20px}
.scroll{overflow-x:auto}table{border-collapse:collapse;width:100%;font-size:15px}
caption{text-align:left;color:var(--soft);font-size:14px;padding-bottom:4px}
td{overflow-wrap:anywhere}
td,th{text-align:left;vertical-align:top;padding:5px 14px 5px 0;border-bottom:1px solid var(--line)}
thead th{font-weight:600;color:var(--soft);font-size:14px;vertical-align:bottom}
tbody th{font-weight:400;min-width:8em;position:sticky;left:0;
background:var(--card)}
.n{text-align:right;font-variant-numeric:tabular-nums}
td.n,small{white-space:nowrap}small{display:block;color:var(--soft);font-size:12.5px}
details{margin-top:8px;font-size:15px}summary{cursor:pointer;color:var(--soft)}
pre{overflow-x:auto;font:13px/1.5 ui-monospace,'Liberation Mono',monospace;margin:0}
.share{display:inline-block;height:.7em;min-width:1px;background:var(--c1);border-radius:2px}
@media(max-width:560px){main{padding:20px 12px 40px}.tiles{grid-template-columns:1fr 1fr}.card{padding:12px}
h1{font-size:24px}}
@media print{.card{break-inside:avoid}nav{display:none}
details::details-content{content-visibility:visible;block-size:auto}}
"""
PARTS = (
    ("ladder", "Ladder"),
    ("published", "Published"),
    ("seeds", "Seeds"),
    ("slices", "Cold and rare"),
    ("beyond", "Beyond accuracy"),
    ("curves", "Learning"),
    ("cost", "Time and memory"),
    ("attention", "Attention"),
    ("method", "How it was measured"),
)


def report_page(run: RunResults, *, title: str = "") -> str:
    """The whole page as HTML, the same bytes for the same results."""
    name = html(title or f"Recommendation models on {run.dataset}")
    told = run.provenance
    when = html(f"Measured on {told.date}, {told.counted_cores} ({told.machine}).") if told else ""
    links = "".join(f'<a href="#{anchor}">{text}</a>' for anchor, text in PARTS)
    body = "\n".join(
        (
            headline(run),
            ladder_section(run),
            published_section(run),
            seeds_section(run),
            slices_section(run),
            beyond_section(run),
            curves_section(run),
            cost_section(run),
            attention_section(run.attention),
            method_section(run),
        )
    )
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        f"<title>{name}</title><style>{CSS}</style></head>\n<body><main>\n<h1>{name}</h1>\n<p class=soft>{when}</p>"
        f"<nav aria-label=Sections>{links}</nav>\n{body}\n</main></body></html>\n"
    )
