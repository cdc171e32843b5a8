"""Diversity of preferences, as a part of the page."""

import functools
from collections.abc import Mapping

import pandas as pd

from metapers.analysis import study_frame, vote_table
from metapers.analysis.slates import CONVENTIONS, Slates
from metapers.analysis.study_frame import pick
from metapers.analysis.voters import DIRICHLET, UNIFORM, Voters
from metapers.bench.studies import part
from metapers.bench.studies.part import Part, Shown
from metapers.io import panels
from metapers.io.plots import Figure
from metapers.io.report import Table

TITLE = 'Diversity: how much users disagree on the best response'
TEXT = (
  'Each user votes for the response of largest weighted reward. A top share says on how many of '
  'the prompts the most popular response gets at most that part of the vote; the number of '
  'winners, how many responses get a vote at all; wins, whose responses are voted for.',
  'Both ways of weighting reward models are shown: z-scored by the train prompts, and raw, where '
  'a model whose scores vary more weighs more. ± is half a 95 % interval for new prompts and a new '
  'draw of users.',
)


def part_of(given: Slates, voted: list[Voters]) -> Part:
  """Returns the part of the page.

  Args:
    given: what was voted on.
    voted: by whom, such as `voters.voters` makes.
  """
  frame = vote_table.study(given, voted)
  fits = vote_table.fit(frame)
  best = vote_table.best_convention(fits) or CONVENTIONS[0]
  return Part(
    TITLE,
    study_frame.joined([frame, fits]),
    findings=[*sentences(frame, best), fit_in_words(frame, fits)],
    text=TEXT,
    figures={'diversity': Shown(functools.partial(figure, frame, best), caption(frame, best))},
    tables=[table_of(frame, convention) for convention in CONVENTIONS],
  )


def caption(frame: pd.DataFrame, convention: str) -> str:
  """Returns how to read the figure."""
  crosses = ' Crosses: published.' if frame['published'].notna().any() else ''
  return f'Users weight {convention} scores. Lines: 95 % intervals.{crosses}'


def users_of(frame: pd.DataFrame, convention: str) -> pd.DataFrame:
  """Returns the rows of Dirichlet users under one convention, with a name of each population."""
  own = pick(frame, population=DIRICHLET, convention=convention)
  return own.assign(name=own['concentration'].map(part.alpha))


def figure(frame: pd.DataFrame, convention: str, *, is_narrow: bool = False) -> Figure:
  """Returns the three rows of the published figure, by concentration."""
  own = users_of(frame, convention)

  def series(statistic: str) -> dict[str, panels.Numbers]:
    rows = own[own['statistic'] == statistic]
    return {str(name): part.numbers(each) for name, each in rows.groupby('name', sort=False)}

  def crosses(statistic: str) -> dict[str, dict[str, float]]:
    rows = own[(own['statistic'] == statistic) & own['published'].notna()]
    return {
      str(name): dict(zip(each['group'], each['published']))
      for name, each in rows.groupby('name', sort=False)
    }

  names = {key: key.rpartition('/')[2] for key in series(vote_table.WINS).popitem()[1]}
  wins = {name: renamed(values, names) for name, values in series(vote_table.WINS).items()}
  wins_marks = {name: renamed(values, names) for name, values in crosses(vote_table.WINS).items()}
  parts = [
    panels.Panel(
      panels.bars(series(statistic), '% of prompts', marks=crosses(statistic)),
      title,
    )
    for statistic, title in (
      (vote_table.TOP, 'Top response gets'),
      (vote_table.NUM_WINNERS, 'Number of winners'),
    )
  ]
  parts.append(panels.Panel(panels.rows(wins, '% of wins', marks=wins_marks), 'Wins', 3.2))
  return panels.figure(
    parts, title='Diversity of preferences', described='see the table', is_narrow=is_narrow
  )


def renamed(values: Mapping, names: dict[str, str]) -> dict:
  """Returns a mapping under other names."""
  return {names.get(key, key): value for key, value in values.items()}


def table_of(frame: pd.DataFrame, convention: str) -> Table:
  """Returns the table of all populations, and of what is published of them."""
  own = frame[frame['convention'].isin([convention, ''])]
  is_user = own['population'] == DIRICHLET
  own = own.assign(
    row=own['statistic'] + ' ' + own['group'].str.rpartition('/')[2],
    column=own['population'].where(~is_user, own['concentration'].map(part.alpha)),
  )
  known = own[own['published'].notna()]
  known = known.assign(
    value=known['published'], standard_error=float('nan'), column='published ' + known['column']
  )
  return part.table(
    pd.concat([own, known]),
    caption=f'{convention} scores: percent of prompts or wins; entropy in nats',
    down='row',
    across='column',
    digits=2,
    note='α = concentration of the Dirichlet users; the others are baselines',
  )


def sentences(frame: pd.DataFrame, convention: str) -> list[str]:
  """Returns what was found, in words."""
  own = users_of(frame, convention)
  half = own[(own['statistic'] == vote_table.TOP) & (own['group'] == '<=50%')]
  listed = ', '.join(
    f'{part.written(value, error)} % ({name})'
    for name, value, error in zip(half['name'], half['value'], half['standard_error'])
  )
  entropy = own[own['statistic'] == vote_table.ENTROPY]
  uniform = pick(frame, population=UNIFORM, statistic=vote_table.ENTROPY)['value'].iloc[0]
  said = ', '.join(
    f'{value:.2f} ({name})' for name, value in zip(entropy['name'], entropy['value'])
  )
  return [
    f'On this share of the prompts no response gets more than half of the vote: {listed}; on none '
    'where all users want what one reward model wants, or all weight the models alike.',
    f'The entropy of the vote is {said} nats; users who choose at random would have {uniform:.2f}.',
  ]


def fit_in_words(frame: pd.DataFrame, fits: pd.DataFrame) -> str:
  """Returns which convention fits what is published, or how far both are apart."""
  best = vote_table.best_convention(fits)
  if not best:
    return (
      'Nothing is published of this store; z-scored and raw scores differ by at most '
      f'{vote_table.largest_gap(frame):.1f} points in any share of the diversity table.'
    )
  sizes = ', '.join(
    f'{convention} scores by {own["value"].iloc[0]:.2f} points on average, '
    f'{own["value"].iloc[1]:.2f} at most'
    for convention, own in fits.groupby('convention', sort=False)
  )
  return f'{best} scores fit the published diversity table best: it is missed under {sizes}.'
