"""The look of the page: its papers are those of the figures' themes."""

from jaxnets.report.figure import DARK, LIGHT

CSS = f"""
:root {{
  color-scheme: light dark;
  --paper: {LIGHT.paper}; --ink: {LIGHT.ink}; --quiet: #59606a; --line: #e1e4e8;
  --card: #f5f7f9; --accent: {LIGHT.colours[0]}; --shade: #0003;
}}
@media (prefers-color-scheme: dark) {{
  :root {{
    --paper: {DARK.paper}; --ink: {DARK.ink}; --quiet: #a3a8b0; --line: #34383f;
    --card: #23262b; --accent: {DARK.colours[0]}; --shade: #fff4;
  }}
}}
* {{ box-sizing: border-box; }}
html {{ scroll-behavior: smooth; }}
body {{
  margin: 0 auto; padding: 2rem 1.25rem 4rem; max-width: 72rem; background: var(--paper);
  color: var(--ink); font: 1rem/1.55 system-ui, sans-serif; overflow-wrap: anywhere;
}}
h1 {{ font-size: 1.75rem; line-height: 1.2; margin: 0 0 .35rem; }}
h2 {{ font-size: 1.3rem; line-height: 1.3; margin: 0 0 .4rem; }}
h3 {{ font-size: 1.08rem; margin: 0 0 .4rem; }}
h4 {{ font-size: 1rem; font-weight: 600; margin: 0 0 .5rem; }}
h4 .quiet {{ font-weight: 400; font-size: .9rem; }}
p {{ margin: 0 0 1rem; max-width: 46rem; }}
.quiet, figcaption {{ color: var(--quiet); }}
a {{ color: var(--accent); text-decoration-thickness: 1px; text-underline-offset: .15em; }}
section {{ padding-top: 1.6rem; margin-top: 1.6rem; border-top: 1px solid var(--line); }}
.tiles {{
  display: grid; grid-template-columns: repeat(auto-fit, minmax(8.4rem, 1fr)); gap: .7rem;
  margin: 1.2rem 0; padding: 0;
}}
.tiles div {{ background: var(--card); border-radius: .55rem; padding: .7rem .9rem; }}
.tiles dt {{ color: var(--quiet); font-size: .84rem; }}
.tiles dd {{ margin: 0; font-size: 1.32rem; font-weight: 600; font-variant-numeric: tabular-nums; }}
nav {{ background: var(--card); border-radius: .55rem; padding: .7rem .9rem; }}
nav h2 {{ font-size: .84rem; font-weight: 500; color: var(--quiet); margin: 0; }}
nav ul {{ list-style: none; margin: 0; padding: 0; }}
nav > ul {{ display: flex; flex-wrap: wrap; gap: .1rem 1.1rem; }}
nav ul ul {{ display: flex; flex-wrap: wrap; gap: 0 1rem; padding-left: 1rem; font-size: .92rem; }}
nav li.run {{ flex-basis: 100%; }}
nav a {{ display: inline-block; padding: .22rem 0; text-decoration: none; }}
nav a:hover {{ text-decoration: underline; }}
.figures {{ display: flex; flex-wrap: wrap; gap: 1rem 1.5rem; align-items: flex-start; }}
.figures > div {{ flex: 1 1 24rem; min-width: 0; }}
.figures > div:empty {{ display: none; }}
figure {{ margin: 0; flex: 0 1 auto; width: 22rem; min-width: 0; }}
figure:only-of-type {{ width: 28rem; }}
figure img {{ display: block; width: 100%; height: auto; }}
div.wide figure, div.huge figure {{ overflow-x: auto; width: 100%; }}
.figures > div.wide {{ flex: 0 1 34rem; }}
div.wide img {{ min-width: 34rem; }}
.figures > div.huge {{ flex-basis: 100%; }}
div.huge img {{ min-width: 96rem; }}
.hint {{ color: var(--quiet); font-size: .84rem; margin: 0 0 .3rem; }}
div.wide > .hint {{ display: none; }}
/* Shadows at those edges of a table behind which there is more of it. */
.scroll {{
  overflow-x: auto; margin-bottom: 1rem;
  background:
    linear-gradient(90deg, var(--paper) 40%, transparent) 0 0 / 2.5rem 100% local,
    linear-gradient(270deg, var(--paper) 40%, transparent) 100% 0 / 2.5rem 100% local,
    linear-gradient(90deg, var(--shade), transparent) 0 0 / .9rem 100% scroll,
    linear-gradient(270deg, var(--shade), transparent) 100% 0 / .9rem 100% scroll;
  background-repeat: no-repeat;
}}
.facts {{ margin: 0 0 1rem; max-width: 60rem; }}
.facts div {{ display: grid; grid-template-columns: 9rem 1fr; gap: .8rem; padding: .22rem 0; }}
.facts dt {{ color: var(--quiet); }}
.facts dd {{ margin: 0; }}
table {{ border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .94rem; }}
th, td {{ padding: .32rem .8rem; text-align: right; border-bottom: 1px solid var(--line); }}
th:first-child {{ text-align: left; padding-left: 0; }}
thead th {{
  color: var(--quiet); font-weight: 500; white-space: nowrap; overflow-wrap: normal;
}}
tbody th {{ font-weight: 500; min-width: 7rem; }}
td {{ white-space: nowrap; }}
table.wrap td, table.wrap thead th {{ white-space: normal; text-align: left; min-width: 6rem; }}
table.wrap thead th {{ overflow-wrap: anywhere; }}
table.wrap tbody th {{ min-width: 5rem; }}
summary {{ cursor: pointer; color: var(--accent); margin-bottom: .6rem; }}
.gallery {{
  list-style: none; margin: 0 0 1.2rem; padding: 0; display: grid; gap: .8rem;
  grid-template-columns: repeat(auto-fill, minmax(7.6rem, 1fr));
}}
.gallery li {{ min-width: 0; font-size: .8rem; line-height: 1.35; }}
.gallery span {{ display: block; margin-top: .25rem; }}
.thumb {{
  display: block; width: 100%; max-width: 8rem; aspect-ratio: 1; border-radius: .3rem;
  image-rendering: pixelated;
}}
.gallery.small {{ grid-template-columns: repeat(6, minmax(0, 6rem)); gap: .5rem; }}
.pairs {{
  display: grid; gap: 0 1.5rem;
  grid-template-columns: repeat(auto-fit, minmax(min(24rem, 100%), 1fr));
}}
.samples {{ width: 100%; max-width: 50rem; table-layout: fixed; font-size: .8rem; }}
.samples th, .samples td {{
  padding: .2rem; border: 0; text-align: left; white-space: normal; min-width: 0;
}}
.samples td {{ vertical-align: top; }}
.samples .thumb {{ max-width: none; }}
footer {{ margin-top: 3rem; color: var(--quiet); font-size: .84rem; }}
@media (max-width: 40rem) {{
  body {{ padding: 1.1rem .85rem 3rem; }}
  h1 {{ font-size: 1.45rem; }}
  .gallery {{ grid-template-columns: repeat(3, minmax(0, 1fr)); }}
  .gallery.small {{ grid-template-columns: repeat(6, minmax(0, 1fr)); }}
  figure, figure:only-of-type {{ width: 100%; }}
  .figures > div {{ flex-basis: 100%; }}
  th, td {{ padding: .3rem .28rem; }}
  table {{ font-size: .82rem; }}
  thead th {{ white-space: normal; }}
  tbody th {{ min-width: 4rem; }}
  div.wide > .hint {{ display: block; }}
  .facts div {{ grid-template-columns: 6.2rem 1fr; }}
  .samples thead th {{ padding: .1rem 0; font-size: .7rem; }}
}}
@media print {{ section {{ break-inside: avoid-page; }} nav {{ display: none; }} }}
"""
