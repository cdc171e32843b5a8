"""A self-contained page of results: text, figures and tables; nothing is loaded from elsewhere."""

import functools
import importlib.resources
import itertools
import os
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jinja2
import markupsafe

from metapers.core import files

TAG, NAMED = re.compile(r'<[^>]*>'), re.compile(r'(\bid="|href="#|url\(#)')


class Table(NamedTuple):
  """Rows of text under a header; the first column names the row.

  caption: what is shown. note: lines that explain it, such as what a metric means.
  """

  caption: str
  header: Sequence[str]
  body: Sequence[Sequence[str]]
  note: str = ''


class Drawing(NamedTuple):
  """A figure as SVG elements, put in as they are: one for wide screens, one for narrow ones.

  caption: a line that says how to read it.
  """

  wide: str
  narrow: str
  caption: str = ''


class Section(NamedTuple):
  """One part of a page. text: paragraphs."""

  title: str
  text: Sequence[str] = ()
  figures: Sequence[Drawing] = ()
  tables: Sequence[Table] = ()


def render(
  title: str,
  sections: Sequence[Section],
  *,
  source: str,
  summary: Mapping[str, object],
  lead: Sequence[str] = (),
  warnings: Sequence[str] = (),
) -> str:
  """Returns a whole page.

  Args:
    title: of the page.
    sections: in their order.
    source: where the data come from, shown under the title ('synthetic ...').
    summary: name -> value of the configuration.
    lead: what was found, in sentences, shown above everything else; the first stands out.
    warnings: what is to be known before that.
  """
  numbers = itertools.count(1)
  own = [
    section._replace(
      figures=[
        one._replace(
          wide=_distinct(one.wide, f'figure-{next(numbers)}-'),
          narrow=_distinct(one.narrow, f'figure-{next(numbers)}-'),
        )
        for one in section.figures
      ]
    )
    for section in sections
  ]
  return _template().render(
    title=title, sections=own, source=source, summary=summary, lead=lead, warnings=warnings
  )


def save(path: str | os.PathLike, page: str) -> pathlib.Path:
  """Writes a page, whole or not at all, and returns the path."""
  return files.write_atomically(path, page)


def _distinct(svg: str, prefix: str) -> markupsafe.Markup:
  """Returns an SVG element for HTML, its ids under a prefix: no two of one page may be the same."""
  return markupsafe.Markup(TAG.sub(lambda tag: NAMED.sub(rf'\g<1>{prefix}', tag[0]), svg))


@functools.cache
def _template() -> jinja2.Template:
  text = importlib.resources.files('metapers.io').joinpath('report.html').read_text('utf-8')
  return jinja2.Environment(
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
  ).from_string(text)
