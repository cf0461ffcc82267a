"""The style sheet of the HTML page, for light and dark."""

CSS = """
:root{--bg:#fff;--fg:#1c2330;--dim:#5a6475;--line:#d8dde6;--card:#f5f7fa;--bad:#b3261e;--good:#116b3a;
--behind:#b3261e14;--us:#1c2330}
@media (prefers-color-scheme:dark){:root{--bg:#12161d;--fg:#e6eaf1;--dim:#9aa5b6;--line:#323b49;
--card:#1a202a;--bad:#ff8a80;--good:#6fd99a;--behind:#ff8a801c;--us:#e6eaf1}}
*{box-sizing:border-box}
body{margin:0;background:var(--bg);color:var(--fg);font:16px/1.5 system-ui,sans-serif}
main{max-width:62rem;margin:0 auto;padding:1rem}
h1{font-size:1.7rem;margin:.5rem 0 0}h2{font-size:1.25rem;margin:2rem 0 .5rem}
h3{font-size:1rem;margin:.9rem 0 .2rem;font-weight:600}
small{color:var(--dim);font-weight:400;font-size:.9rem}
header p{margin:.2rem 0;color:var(--dim)}header .lead{font-size:1.15rem;color:var(--fg);margin:.7rem 0}
.tiles{display:flex;flex-wrap:wrap;gap:.6rem}
.tile{background:var(--card);border:1px solid var(--line);border-radius:.5rem;padding:.5rem .9rem}
.tile b{font-size:1.5rem;margin-right:.25rem}
.tile.met b,.badge.met,td.met{color:var(--good)}.tile.miss b,.badge.miss,td.miss{color:var(--bad)}
.badge{font-size:.8rem;border:1px solid currentColor;border-radius:.7rem;padding:.05rem .5rem;
white-space:nowrap;font-weight:600}
.badge.not-judged{color:var(--dim)}
.legend{list-style:none;display:flex;flex-wrap:wrap;gap:.3rem 1.1rem;padding:0;margin:.5rem 0}
.dot{display:inline-block;width:1.35rem;height:1.35rem;line-height:1.35rem;border-radius:50%;
text-align:center;font-size:.75rem;font-weight:700;color:#fff;background:#5b6472}
.row{margin:0 0 .9rem}.lead-by{margin:.1rem 0 0;color:var(--dim);font-size:.9rem}
svg{display:block;overflow:visible;font-family:inherit}
.axis text{fill:var(--dim);font-size:12px;text-anchor:middle}.axis .one{fill:var(--fg);font-weight:700}
.axis{position:sticky;top:0;background:var(--bg);z-index:1}
.strip{background:var(--card);border-radius:.3rem}
.strip .grid{stroke:var(--line)}.strip .us{stroke:var(--us);stroke-width:2}
.strip .behind{fill:var(--behind)}
.mark circle{fill:#5b6472;stroke:var(--bg);stroke-width:1.5}
.mark text{fill:#fff;font-size:11px;font-weight:700;text-anchor:middle}
.mark .whisker{stroke:var(--dim);stroke-width:4}
.s-functools circle{fill:#2b5fb8}.s-dict circle{fill:#7a4b12}.s-cachetools circle{fill:#86439b}
.s-cachebox circle,.s-cachebox-fifo circle{fill:#0d766e}.s-theine circle{fill:#a2364f}
.s-moka-py circle{fill:#5e5aa8}.s-lru-dict circle{fill:#99501b}.s-old-fastcache circle{fill:#4d6a1f}
.s-functools{background:#2b5fb8}.s-dict{background:#7a4b12}.s-cachetools{background:#86439b}
.s-cachebox,.s-cachebox-fifo{background:#0d766e}.s-theine{background:#a2364f}
.s-moka-py{background:#5e5aa8}.s-lru-dict{background:#99501b}.s-old-fastcache{background:#4d6a1f}
.scroll{overflow-x:auto;margin:1rem 0}
table{border-collapse:collapse;font-size:.88rem;font-variant-numeric:tabular-nums;min-width:100%}
caption{text-align:left;color:var(--dim);padding:.2rem 0}
th,td{padding:.3rem .55rem;border-bottom:1px solid var(--line);text-align:right;white-space:nowrap}
th[scope=row]{text-align:left;font-weight:500;position:sticky;left:0;background:var(--bg)}
.words{text-align:left;white-space:normal;min-width:19rem}
dl{display:grid;grid-template-columns:minmax(7rem,max-content) 1fr;gap:.25rem 1rem}
dt{color:var(--dim)}dd{margin:0;overflow-wrap:anywhere}li{overflow-wrap:anywhere}
@media (max-width:40rem){dl{display:block}dd{margin:0 0 .5rem}th[scope=row]{position:static}}
"""
