"""How a report looks: on a phone, on a desk, and on paper."""

BEFORE, AFTER = "#9aa5b1", "#1f6feb"
SERIES = (AFTER, "#d1570b", "#15803d", "#8b3fc4", "#b4232c", "#0e7c86")

STYLE = """
:root { color-scheme: light; --ink: #1c2733; --soft: #5b6875; --line: #d9dfe5; --blue: #1f6feb;
  --before: #9aa5b1; --good: #15803d; --bad: #b4232c; }
* { box-sizing: border-box; }
body { margin: 0; color: var(--ink); background: #fff; overflow-wrap: anywhere;
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif; }
main { max-width: 1080px; margin: 0 auto; padding: 20px 16px 60px; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: 0 0 4px; }
header p, .note { color: var(--soft); margin: 0 0 12px; }
.note { font-size: .9rem; max-width: 72ch; }
section { margin-top: 36px; }
h2 { font-size: 1.2rem; margin: 0 0 6px; padding-top: 12px; border-top: 2px solid var(--ink); }
h3 { font-size: 1rem; margin: 18px 0 6px; }
.numbers { display: flex; flex-wrap: wrap; gap: 12px; margin: 16px 0; }
.card { border: 1px solid var(--line); border-radius: 8px; padding: 10px 16px; min-width: 130px;
  flex: 0 1 auto; }
.card span, .card b { display: block; }
.card .name, .card .below { color: var(--soft); font-size: .85rem; }
.card .value { font-size: 1.7rem; line-height: 1.2; font-variant-numeric: tabular-nums; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .92rem; }
th, td { padding: 5px 12px; text-align: right; border-bottom: 1px solid var(--line);
  white-space: nowrap; }
th { color: var(--soft); font-weight: 600; border-bottom-color: var(--soft); }
th:first-child, td:first-child { text-align: left; padding-left: 0; white-space: normal;
  min-width: 9em; }
tr.strong td { font-weight: 600; }
.said td, .said th { text-align: left; white-space: normal; min-width: 9em; vertical-align: top; }
details { margin: 8px 0; }
summary { cursor: pointer; color: var(--blue); }
.bars { display: grid; gap: 5px 10px; align-items: center; font-size: .88rem;
  grid-template-columns: minmax(5.5em, 12em) minmax(80px, 1fr) minmax(6.2em, auto); }
.bars .name { line-height: 1.2; }
.bars svg { display: block; width: 100%; height: 11px; }
.bars svg + svg { margin-top: 2px; }
.bars .value { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
.chart { max-width: 620px; }
.chart svg { display: block; width: 100%; height: auto; }
svg text { font-family: inherit; fill: var(--ink); }
.heat svg { display: block; }
.key { display: flex; flex-wrap: wrap; gap: 3px 14px; font-size: .85rem; margin: 6px 0; }
.key span { display: inline-flex; align-items: baseline; }
.key i { flex: none; width: 12px; height: 12px; border-radius: 3px; margin-right: 5px;
  border: 1px solid #0003; }
.items { display: grid; gap: 18px; grid-template-columns: repeat(auto-fill, minmax(300px, 1fr)); }
.items.broad { grid-template-columns: repeat(auto-fill, minmax(min(100%, 500px), 1fr)); }
.item { border: 1px solid var(--line); border-radius: 8px; padding: 10px 12px; }
.item h4 { margin: 0 0 8px; font-size: .92rem; }
.views { display: flex; gap: 6px; }
.views figure { margin: 0; flex: 1 1 0; min-width: 0; }
.views img { width: 100%; display: block; border-radius: 4px; background: #eef1f4; }
.views figcaption { font-size: .78rem; color: var(--soft); }
.item p { margin: 8px 0 0; font-size: .9rem; }
.hit { background: #d6f0dc; } .false { background: #fadadb; } .missed { border-bottom: 2px dashed
  var(--bad); }
.hit, .false, .missed { padding: 0 3px; border-radius: 3px; }
.gain { color: var(--good); } .loss { color: var(--bad); }
@media (max-width: 640px) {
  body { font-size: 15px; }
  .items, .items.broad { grid-template-columns: 1fr; }
  .card { flex: 1 1 40%; }
  .views { flex-wrap: wrap; }
  .views figure { flex: 1 1 45%; }
  th, td { padding: 5px 7px; }
  .bars { grid-template-columns: minmax(5em, 8em) minmax(60px, 1fr) minmax(5.6em, auto); }
}
@media print {
  * { -webkit-print-color-adjust: exact; print-color-adjust: exact; }
  main { max-width: none; padding: 0; }
  body { font-size: 11pt; }
  section, .item, .card, tr { break-inside: avoid; }
  section { break-inside: auto; }
  h2, h3, .note { break-after: avoid; }
  .chart { max-width: 420px; }
  .wide { overflow: visible; }
  details:not([open]) { display: none; }
}
"""
