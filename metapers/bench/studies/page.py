"""What a study's command writes: the page, the table of numbers, and each figure by itself."""

import pathlib
from collections.abc import Mapping, Sequence

import pandas as pd

from metapers.analysis import study_frame
from metapers.bench.studies.part import Part, Shown
from metapers.core import files
from metapers.io import plots
from metapers.io import report as pages
from metapers.io.report import Drawing, Section

PAGE, NUMBERS, FIGURES = 'report.html', 'analysis.csv', 'figures'
KINDS = ('png', 'svg')
TITLE = 'metapers: is the population like people?'


def write(
  workdir: pathlib.Path,
  parts: Sequence[Part],
  *,
  source: str,
  summary: Mapping[str, object],
  warnings: Sequence[str] = (),
) -> list[pathlib.Path]:
  """Writes everything to a folder and returns the paths, the page first.

  Args:
    workdir: the folder; made if missing.
    parts: in the order of the page.
    source: where the data come from.
    summary: name -> value of how this was made.
    warnings: what is to be known first.
  """
  figures = {name: shown for part in parts for name, shown in part.figures.items()}
  folder = workdir / FIGURES
  folder.mkdir(parents=True, exist_ok=True)
  paths = [
    plots.save(shown.draw(), folder / f'{name}.{kind}')
    for name, shown in figures.items()
    for kind in KINDS
  ]
  page = pages.render(
    TITLE,
    [section_of(part) for part in parts],
    source=source,
    summary=summary,
    lead=[sentence for part in parts for sentence in part.findings],
    warnings=warnings,
  )
  table = numbers(parts).to_csv(index=False)
  return [
    pages.save(workdir / PAGE, page), files.write_atomically(workdir / NUMBERS, table), *paths
  ]  # fmt: skip


def numbers(parts: Sequence[Part]) -> pd.DataFrame:
  """Returns the numbers of all parts, with `study_frame.COLUMNS`."""
  return study_frame.joined([part.frame for part in parts])


def section_of(part: Part) -> Section:
  """Returns a part as a section of the page."""
  return Section(
    part.title,
    text=part.text,
    figures=[drawing(shown) for shown in part.figures.values()],
    tables=part.tables,
  )


def drawing(shown: Shown) -> Drawing:
  """Returns a figure for wide screens and for narrow ones."""
  wide, narrow = (plots.inline_svg(shown.draw(is_narrow=is_narrow)) for is_narrow in (False, True))
  return Drawing(wide, narrow, shown.caption)
