"""A self-contained page of results: text, figures and tables; nothing is loaded from elsewhere."""

import html
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from metapers.core import files

CSS = """
:root { color-scheme: light dark; --line: #8884; --soft: #8881; --dim: #888; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; margin-bottom: .3rem; } h2 { font-size: 1.2rem; margin-top: 2.5rem; }
.source { display: inline-block; border: 1px solid var(--line); border-radius: 1rem;
  padding: .1rem .8rem; font-size: .85rem; }
nav { max-height: 18rem; overflow-y: auto; }
nav ul { columns: 2; padding-left: 1.2rem; font-size: .9rem; }
figure { margin: 1rem 0; } figure svg { width: 100%; height: auto; max-width: 48rem; }
.scroll { overflow-x: auto; margin: 1.2rem 0; }
table { border-collapse: collapse; font-size: .85rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; padding: .3rem .6rem; color: var(--dim); }
th, td { padding: .25rem .6rem; text-align: right; white-space: nowrap; }
th:first-child { text-align: left; } thead th { border-bottom: 2px solid var(--line); }
tbody tr { border-bottom: 1px solid var(--line); } tbody tr:hover { background: var(--soft); }
tbody th { font-weight: 500; }
details { margin-top: 2.5rem; } dl { display: grid; grid-template-columns: max-content 1fr;
  gap: .1rem 1rem; font-size: .85rem; } dt { color: var(--dim); } dd { margin: 0; }
"""


class Table(NamedTuple):
  """Rows of text under a header; the first column names the row."""

  caption: str
  header: Sequence[str]
  body: Sequence[Sequence[str]]


class Section(NamedTuple):
  """One part of a page. text: paragraphs. figures: SVG elements, put in as they are."""

  title: str
  text: Sequence[str] = ()
  figures: Sequence[str] = ()
  tables: Sequence[Table] = ()


def table_html(table: Table) -> str:
  """Writes one table, its text escaped."""
  header = ''.join(f'<th scope="col">{html.escape(cell)}</th>' for cell in table.header)
  lines = []
  for name, *cells in table.body:
    values = ''.join(f'<td>{html.escape(cell)}</td>' for cell in cells)
    lines.append(f'<tr><th scope="row">{html.escape(name)}</th>{values}</tr>')
  body = '\n'.join(lines)
  return (
    f'<div class="scroll"><table><caption>{html.escape(table.caption)}</caption>\n'
    f'<thead><tr>{header}</tr></thead>\n<tbody>\n{body}\n</tbody></table></div>'
  )


def section_html(section: Section, anchor: str) -> str:
  """Writes one section: title, paragraphs, figures, tables."""
  parts = [f'<h2>{html.escape(section.title)}</h2>']
  parts += [f'<p>{html.escape(paragraph)}</p>' for paragraph in section.text]
  parts += [f'<figure>{svg}</figure>' for svg in section.figures]
  parts += [table_html(table) for table in section.tables]
  return f'<section id="{anchor}">\n' + '\n'.join(parts) + '\n</section>'


def contents_html(titles: Sequence[str], anchors: Sequence[str]) -> str:
  """Writes the list of sections; empty for a page of one."""
  if len(titles) < 2:
    return ''
  links = [f'<li><a href="#{a}">{html.escape(t)}</a></li>' for t, a in zip(titles, anchors)]
  return '<nav><ul>\n' + '\n'.join(links) + '\n</ul></nav>'


def summary_html(summary: Mapping[str, object]) -> str:
  """Writes names and values of how the page came about, folded away."""
  items = [
    f'<dt>{html.escape(str(name))}</dt><dd>{html.escape(str(value))}</dd>'
    for name, value in summary.items()
  ]
  return (
    '<details><summary>How this was made</summary><dl>\n' + '\n'.join(items) + '\n</dl></details>'
  )


def render(
  title: str, sections: Sequence[Section], *, source: str, summary: Mapping[str, object]
) -> str:
  """Returns a whole page.

  Args:
    title: of the page.
    sections: in their order.
    source: where the data come from, shown under the title ('synthetic ...').
    summary: name -> value of the configuration.
  """
  anchors = [f'section-{number}' for number in range(1, len(sections) + 1)]
  body = [section_html(section, anchor) for section, anchor in zip(sections, anchors)]
  return '\n'.join(
    [
      '<!doctype html>',
      '<html lang="en"><head><meta charset="utf-8">',
      '<meta name="viewport" content="width=device-width, initial-scale=1">',
      f'<title>{html.escape(title)}</title><style>{CSS}</style></head><body>',
      f'<h1>{html.escape(title)}</h1>',
      f'<p class="source">data: {html.escape(source)}</p>',
      contents_html([section.title for section in sections], anchors),
      *body,
      summary_html(summary),
      '</body></html>\n',
    ]
  )


def save(path: str | os.PathLike, page: str) -> pathlib.Path:
  """Writes a page, whole or not at all."""
  return files.write_atomically(path, page)
