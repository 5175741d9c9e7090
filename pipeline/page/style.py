"""The look of the report: one style sheet, light or dark as the reader's system says, one column on a phone."""

CSS = """
:root { color-scheme: light dark;
  --page: #f6f6f3; --card: #ffffff; --ink: #1c1f23; --soft: #666c75; --rule: #e2e2dc; --accent: #2e5fd0;
  --kept: #2f9e62; --dropped: #d99a2b; --failed: #d24b4b; --unknown: #8a63c9; --deferred: #3d8fc4; }
@media (prefers-color-scheme: dark) { :root {
  --page: #14161a; --card: #1d2025; --ink: #e7e8ea; --soft: #9aa1ab; --rule: #31353c; --accent: #86a8ff;
  --kept: #4cc287; --dropped: #e3b155; --failed: #ef7676; --unknown: #b394ea; --deferred: #68b4e3; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink); font: 16px/1.5 system-ui, sans-serif; }
main { max-width: 1080px; margin: 0 auto; padding: 28px 18px 64px; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 4px; letter-spacing: -0.01em; }
h2 { font-size: 1.25rem; margin: 44px 0 4px; }
h3 { font-size: 1rem; margin: 0 0 8px; font-weight: 600; }
p { margin: 0 0 12px; } .soft { color: var(--soft); }
.card { background: var(--card); border: 1px solid var(--rule); border-radius: 10px; padding: 14px 16px; }
.grid { display: grid; gap: 14px; margin-top: 12px;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, var(--least)), 1fr)); }
.fact b { display: block; font-size: 1.5rem; line-height: 1.25; font-variant-numeric: tabular-nums; }
.fact span { font-size: 0.85rem; color: var(--soft); display: block; }
.wide { overflow-x: auto; margin-top: 12px; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; font-size: 0.92rem; }
th, td { text-align: right; padding: 6px 8px; border-bottom: 1px solid var(--rule); white-space: nowrap; }
th { font-weight: 500; color: var(--soft); } tr:last-child td { border-bottom: 0; }
th:first-child, td:first-child { text-align: left; } td.zero { color: var(--soft); opacity: 0.55; }
td.share { width: 34%; min-width: 140px; }
.bar { display: flex; gap: 1px; height: 12px; border-radius: 3px; overflow: hidden; background: var(--rule); }
.bar i { min-width: 3px; }
.kept { --state: var(--kept); } .dropped { --state: var(--dropped); } .failed { --state: var(--failed); }
.unknown { --state: var(--unknown); } .deferred { --state: var(--deferred); }
.bar i, .dot { background: var(--state); }
.dot { display: inline-block; width: 9px; height: 9px; border-radius: 2px; margin-right: 6px; }
.reasons { display: flex; flex-wrap: wrap; gap: 6px 18px; margin-top: 14px; font-size: 0.88rem; }
.reasons b { font-variant-numeric: tabular-nums; font-weight: 600; }
code { font: 0.92em ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; overflow-wrap: anywhere; }
.chip { display: inline-block; font-size: 0.8rem; padding: 1px 8px;
  border-radius: 99px; border: 1px solid var(--state); }
.alarm { color: var(--failed); font-weight: 600; }
.chart { display: block; width: 100%; height: auto; }
.chart text { font-size: 12px; fill: var(--soft); } .chart .rule { stroke: var(--rule); stroke-width: 1; }
.chart .line { fill: none; stroke-width: 2; stroke-linejoin: round; stroke-linecap: round; }
.line-0 { --line: var(--accent); } .line-1 { --line: var(--dropped); } .line-2 { --line: var(--kept); }
.line-3 { --line: var(--unknown); } .chart .line { stroke: var(--line); } .key i { background: var(--line); }
.key { font-size: 0.82rem; color: var(--soft); display: flex; flex-wrap: wrap; gap: 2px 14px; margin-top: 4px; }
.key i { display: inline-block; width: 14px; height: 3px;
  border-radius: 2px; margin-right: 6px; vertical-align: middle; }
img { image-rendering: pixelated; display: block; background: #000; border-radius: 3px; }
.triple { display: grid; grid-template-columns: repeat(3, 1fr); gap: 4px 6px; }
.triple img { width: 100%; } .triple span { font-size: 0.75rem; color: var(--soft); text-align: center; }
.drawn { display: grid; gap: 6px; grid-template-columns: repeat(auto-fill, minmax(46px, 1fr)); }
.drawn img { width: 100%; }
.sample { display: flex; flex-direction: column; gap: 8px; } .sample p { margin: 0; overflow-wrap: anywhere; }
.sample audio { width: 100%; height: 38px; } .sample img { width: 72px; } .sample small { color: var(--soft); }
.sample .media { margin-top: auto; }
@media (max-width: 560px) { main { padding: 20px 12px 48px; } .card { padding: 12px 11px; }
  tr { display: grid; grid-template-columns: minmax(0, 1.2fr) repeat(6, minmax(0, 1fr));
    border-bottom: 1px solid var(--rule); }
  th, td { border: 0; padding: 5px 1px; font-size: 0.8rem; } th { font-size: 0.62rem; } th:last-child { display: none; }
  td:first-child { white-space: normal; overflow-wrap: anywhere; } td.share { grid-column: 1 / -1; width: auto; } }
@media print { .card { break-inside: avoid; } }
"""
