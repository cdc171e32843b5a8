"""What drives preference, as a part of the page."""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from metapers.analysis import drivers, slates, study_frame
from metapers.analysis.drivers import ALONE, TOGETHER, Collinearity, Fitted
from metapers.analysis.slates import Slates
from metapers.analysis.study_frame import Whose, pick
from metapers.analysis.voters import DIRICHLET
from metapers.bench.studies import part
from metapers.bench.studies.part import Part, Shown
from metapers.core.types import Float
from metapers.evaluation import intervals
from metapers.io import panels
from metapers.io.plots import Figure

TITLE = 'What drives preference: features of the text'
PAPER_CONCENTRATION = 0.05
TEXT = (
  'For each user one ridge-stabilised logistic regression of the best against the worst response '
  'to every prompt, on features standardised over all responses. Box plots are over users: '
  'quartiles, whiskers at 5 % and 95 %; grey: 90 % of what chance gives, where best and worst are '
  'exchanged by a coin.',
  'Features that go together share their effect in any way: where the variance inflation is large '
  '(10 and more), the sign of a coefficient says nothing by itself, and the right panel, each '
  'feature alone, is the one to read.',
)


class Family(NamedTuple):
  """Features of one kind. values: [P, R, F] of the slates. names: of the F features."""

  name: str
  values: Float[np.ndarray, 'P R F']
  names: tuple[str, ...]


def part_of(
  given: Slates,
  families: Sequence[Family],
  missing: Sequence[str],
  concentrations: Sequence[float],
  *,
  num_users: int,
  seed: int = 0,
) -> Part:
  """Returns the part of the page.

  Args:
    given: the responses.
    families: of features, at least one.
    missing: why other families are not there.
    concentrations: α, of which the one nearest to the paper's is taken.
    num_users: U.
    seed: of all that is drawn.
  """
  concentration = min(concentrations, key=lambda value: abs(value - PAPER_CONCENTRATION))
  weights = slates.draw_users(
    concentration, num_draws=1, num_users=num_users, num_models=len(given.reward_models), seed=seed
  )
  found = drivers.extremes(given.scores['z'], given.mask, weights[0])
  frames, figures, tables, findings = [], {}, [], []
  for family in families:
    fitted = drivers.fit(family.values, given.mask, found, seed=seed)
    tied = drivers.collinearity(family.values, given.mask)
    whose = Whose('drivers', DIRICHLET, concentration, 'z')
    is_paper = given.is_personal_llm and concentration == PAPER_CONCENTRATION
    frame = drivers.study(fitted, tied, family.names, whose, has_published=is_paper)
    frames.append(frame)
    draw = functools.partial(figure, fitted, tied, family)
    caption = f'{num_users:,} users of {part.alpha(concentration)}, z scores.'
    figures[f'drivers_{family.name}'] = Shown(draw, caption)
    tables.append(table_of(frame, family))
    findings.append(sentence(frame, family, concentration))
  return Part(
    TITLE, study_frame.joined(frames), findings, [*TEXT, *missing], figures, tables, missing
  )


def figure(
  fitted: Fitted, tied: Collinearity, family: Family, *, is_narrow: bool = False
) -> Figure:
  """Returns coefficients over users, together and alone, and how the features go together."""
  low, high = np.quantile(fitted.by_chance, [0.05, 0.95], axis=0)
  bands = dict(zip(family.names, zip(low.tolist(), high.tolist())))
  height = 1.3 + 0.28 * len(family.names)
  columns = [f'{number}' for number in range(1, len(family.names) + 1)]
  numbered = [f'{name} ({number})' for name, number in zip(family.names, columns)]
  together, alone = (
    dict(zip(numbered if is_narrow else names, values.T))
    for values, names in (
      (fitted.together, numbered),
      (fitted.alone, [number.rjust(2) for number in columns]),
    )
  )
  bands = dict(zip(together, bands.values()))
  parts = [
    panels.Panel(panels.boxes(together, 'coefficient', bands=bands), 'All together', height),
    panels.Panel(panels.boxes(alone, 'coefficient'), 'Each alone', height),
    panels.Panel(
      panels.matrix(
        tied.correlation, numbered, columns=columns, low=-1.0, high=1.0, form='{:.1f}',
        has_rows=is_narrow,
      ),
      'Correlation',
      height,
    ),
  ]  # fmt: skip
  return panels.figure(
    parts,
    title=f'{family.name.capitalize()} features of preferred responses',
    described='see the table',
    is_narrow=is_narrow,
  )


def table_of(frame: pd.DataFrame, family: Family):
  """Returns the table of coefficients over users."""
  names = {
    f'{TOGETHER}, lower quartile': 'lower quartile',
    f'{TOGETHER}, median': 'median',
    f'{TOGETHER}, upper quartile': 'upper quartile',
    f'{ALONE}, median': 'median alone',
    'share of users above 0': 'users above 0',
    'variance inflation': 'variance inflation',
  }
  own = frame[frame['statistic'].isin(list(names))]
  own = own.assign(column=own['statistic'].map(names))
  known = own[own['published'].notna()]
  known = known.assign(
    value=known['published'], standard_error=study_frame.NONE, column='published median'
  )
  return part.table(
    pd.concat([own, known]),
    caption=f'{family.name} features: coefficients over users',
    down='group',
    across='column',
    digits=2,
    note='per standard deviation of the feature; ± is half a 95 % interval',
  )


def sentence(frame: pd.DataFrame, family: Family, concentration: float) -> str:
  """Returns what was found of one family, in words."""
  alone = frame[frame['statistic'] == f'{ALONE}, median']
  clear = alone[alone['value'].abs() > intervals.NORMAL * alone['standard_error']]
  order = clear['value'].abs().sort_values(ascending=False).index[:3]
  listed = ', '.join(
    f'{group} ({value:+.2f})'
    for group, value in zip(clear.loc[order, 'group'], clear.loc[order, 'value'])
  )
  inflation = pick(frame, statistic='variance inflation')
  worst = inflation.iloc[int(inflation['value'].argmax())]
  said = (
    f'By themselves, these {family.name} features tell what the median user prefers most '
    f'({part.alpha(concentration)}, per sd): {listed}.'
    if listed
    else f'No {family.name} feature by itself tells what the median user prefers.'
  )
  if worst['value'] < 10:
    return said
  return (
    f'{said} Together they cannot be told apart: the variance of the coefficient of '
    f'{worst["group"]} is inflated {worst["value"]:.0f}-fold.'
  )
