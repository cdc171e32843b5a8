"""One study as a part of the page: its numbers, what they say, its figures and tables."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from metapers.analysis import study_frame
from metapers.evaluation import intervals
from metapers.io.plots import Figure
from metapers.io.report import Table

NO_FIGURES: Mapping[str, 'Shown'] = {}


class Shown(NamedTuple):
  """A figure. draw: `(is_narrow=) -> Figure`. caption: how to read it."""

  draw: Callable[..., Figure]
  caption: str = ''


class Part(NamedTuple):
  """One study.

  title: of its section. frame: its numbers, as `study_frame.COLUMNS`. findings: sentences for the
  top of the page. text: paragraphs. figures: name of the file -> figure. tables: under them.
  warnings: what is to be known first.
  """

  title: str
  frame: pd.DataFrame
  findings: Sequence[str] = ()
  text: Sequence[str] = ()
  figures: Mapping[str, Shown] = NO_FIGURES
  tables: Sequence[Table] = ()
  warnings: Sequence[str] = ()


def left_out(title: str, reason: str) -> Part:
  """Returns the part of a study that could not be made, which says why."""
  said = f'{title}: left out, {reason}'
  return Part(title, study_frame.joined([]), text=[f'Left out: {reason}'], warnings=[said])


def written(value: float, error: float, *, digits: int = 1, scale: int | float = 1) -> str:
  """Returns a number with half its 95 % interval, as text; '' for NaN."""
  if np.isnan(value):
    return ''
  shown = f'{scale * value:z.{digits}f}'
  return shown if np.isnan(error) else f'{shown} ± {scale * intervals.NORMAL * error:.{digits}f}'


def table(
  frame: pd.DataFrame,
  *,
  caption: str,
  down: str,
  across: str,
  note: str = '',
  digits: int = 1,
  scale: int | float = 1,
) -> Table:
  """Returns a table of a study's numbers, with half their 95 % intervals.

  Args:
    frame: rows of a study, at most one for each cell.
    caption: of the table.
    down: column of the frame whose values name the rows.
    across: column whose values name the columns.
    note: lines under the caption.
    digits: behind the point.
    scale: of the numbers.
  """
  columns = list(dict.fromkeys(frame[across]))
  body = []
  for name, own in frame.groupby(down, sort=False):
    cells = {
      key: written(value, error, digits=digits, scale=scale)
      for key, value, error in zip(own[across], own['value'], own['standard_error'])
    }
    body.append([str(name), *(cells.get(column, '') for column in columns)])
  return Table(caption, ['', *map(str, columns)], body, note)


def numbers(frame: pd.DataFrame, by: str = 'group') -> dict[str, tuple[float, float]]:
  """Returns name -> value and standard error, of rows that differ in one column."""
  keys = frame[by].astype(str)
  return dict(zip(keys, zip(frame['value'].tolist(), frame['standard_error'].tolist())))


def alpha(concentration: float) -> str:
  """Returns a concentration as it is named in figures and tables."""
  return f'α = {concentration:g}'
