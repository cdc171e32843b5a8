"""Agreement of reward models and of users, as a part of the page."""

import functools
import itertools
from collections.abc import Sequence

import numpy as np
import pandas as pd

from metapers.analysis import agreement, slates, study_frame
from metapers.analysis.slates import CONVENTIONS, Slates
from metapers.analysis.study_frame import Whose, pick
from metapers.analysis.voters import DIRICHLET
from metapers.bench.studies import part
from metapers.bench.studies.part import Part, Shown
from metapers.evaluation import intervals
from metapers.io import panels
from metapers.io.panels import Line
from metapers.io.plots import Figure

TITLE = 'Agreement: between reward models, and between users'
TEXT = (
  'Correlations and disagreement are inside prompts: of all pairs of responses to a prompt, the '
  'share that two reward models, or two users, order differently. The order of the reward models '
  'is that of average linkage by 1 - correlation.',
  'The effective number of preferences is (Σλ)² / Σλ² of the eigenvalues of the correlations: 1 '
  'where all want the same, as many as there are reward models where nobody agrees with anybody. '
  'The distance of two users is the total variation of their weights, from 0 to 1.',
)
EFFECTIVE, FIRST = agreement.DIRECTIONS


def part_of(
  given: Slates,
  concentrations: Sequence[float],
  *,
  num_users: int,
  num_draws: int,
  seed: int = 0,
) -> Part:
  """Returns the part of the page.

  Args:
    given: the responses.
    concentrations: α of the Dirichlet users.
    num_users: U of each draw.
    num_draws: of users.
    seed: of all that is drawn.
  """
  size = {'num_draws': num_draws, 'num_users': num_users, 'num_models': len(given.reward_models)}
  frames = [
    agreement.models_study(given.scores[convention], given.mask, given.reward_models)
    for convention in CONVENTIONS[:1]  # neither sign nor correlation knows of units
  ]
  for convention, concentration in itertools.product(CONVENTIONS, concentrations):
    weights = slates.draw_users(concentration, **size, seed=seed)
    whose = Whose('agreement', DIRICHLET, concentration, convention)
    frames.append(
      agreement.users_study(weights, given.scores[convention], given.mask, whose, seed=seed)
    )
  frame = study_frame.joined(frames)
  matrices = agreement.matrices(given.scores['z'], given.mask)
  of_models = functools.partial(models_figure, matrices, given.reward_models)
  return Part(
    TITLE,
    frame,
    findings=sentences(frame),
    text=TEXT,
    figures={
      'reward_models': Shown(of_models, 'Reward models in the order of clustering.'),
      'users': Shown(functools.partial(users_figure, frame), 'Bands: 95 % intervals. z scores.'),
    },
    tables=tables_of(frame),
  )


def models_figure(
  found: agreement.Matrices, names: tuple[str, ...], *, is_narrow: bool = False
) -> Figure:
  """Returns correlation and disagreement of the reward models as matrices."""
  order = found.order
  own = [names[number] for number in order]
  height = max(2.4, 0.26 * len(own) + 1.2)
  correlation, disagreement = (
    matrix[np.ix_(order, order)] for matrix in (found.correlation, found.disagreement)
  )
  largest = max(0.5, float(disagreement.max()))
  parts = [
    panels.Panel(
      panels.matrix(correlation, own, low=-1.0, high=1.0), 'Correlation in prompts', height
    ),
    panels.Panel(
      panels.matrix(disagreement, own, high=largest, has_rows=is_narrow),
      'Share ordered differently',
      height,
    ),
  ]
  return panels.figure(parts, title='Reward models', described='see the table', is_narrow=is_narrow)


def users_of(frame: pd.DataFrame, convention: str = 'z') -> pd.DataFrame:
  """Returns the rows of Dirichlet users under one convention."""
  return pick(frame, population=DIRICHLET, convention=convention)


def by_distance(own: pd.DataFrame) -> Line:
  """Returns the mean disagreement of two users by the distance of their weights."""
  rows = own[own['group'].str.startswith('distance') & (own['statistic'] == 'disagreement')]
  rows = rows[rows['value'].notna()]
  low = rows['group'].str.extract(r'distance ([\d.]+)')[0].astype(float)
  half = intervals.NORMAL * rows['standard_error'].fillna(0).to_numpy()
  return Line(low.to_numpy() + 0.05, 100 * rows['value'].to_numpy(), 100 * half)


def by_concentration(frame: pd.DataFrame, statistic: str, scale: int) -> dict[str, Line]:
  """Returns a statistic of all or of two users over the concentration, by convention."""
  made = {}
  for convention in CONVENTIONS:
    own = users_of(frame, convention)
    own = own[(own['statistic'] == statistic) & ~own['group'].str.startswith('distance')]
    own = own.sort_values('concentration')
    half = intervals.NORMAL * own['standard_error'].to_numpy()
    made[f'{convention} scores'] = Line(
      own['concentration'].to_numpy(), scale * own['value'].to_numpy(), scale * half
    )
  return made


def users_figure(frame: pd.DataFrame, *, is_narrow: bool = False) -> Figure:
  """Returns disagreement by distance, and how the concentration moves agreement."""
  own = users_of(frame)
  distances = {
    name: by_distance(own[own['concentration'].map(part.alpha) == name])
    for name in own['concentration'].map(part.alpha).unique()
  }
  ticks = sorted(own['concentration'].unique())
  over_alpha = functools.partial(panels.lines, x_label='concentration α', is_log=True, ticks=ticks)
  parts = [
    panels.Panel(
      panels.lines(distances, 'distance of weights', '% of pairs ordered differently'),
      'By distance',
    ),
    panels.Panel(
      over_alpha(by_concentration(frame, 'disagreement', 100), y_label='% ordered differently'),
      'Two users disagree',
    ),
    panels.Panel(
      over_alpha(by_concentration(frame, EFFECTIVE, 1), y_label='effective number'),
      'Preferences in all',
    ),
  ]
  return panels.figure(
    parts, title='Agreement of users', described='see the table', is_narrow=is_narrow
  )


def tables_of(frame: pd.DataFrame) -> list:
  """Returns the tables of users by concentration, and of pairs of reward models."""
  users = frame[(frame['population'] == DIRICHLET) & ~frame['group'].str.startswith('distance')]
  names = users['concentration'].map(part.alpha) + ', ' + users['convention']
  pairs = frame[frame['statistic'].isin(['correlation', 'disagreement'])]
  pairs = pairs[pairs['population'] == 'reward models']
  return [
    part.table(
      users.assign(column=names, row=users['statistic'] + ', ' + users['group']),
      caption='users by concentration and convention of scores',
      down='row',
      across='column',
      digits=3,
    ),
    part.table(
      pairs,
      caption='pairs of reward models',
      down='group',
      across='statistic',
      digits=3,
      note='inside prompts; a disagreement of .5 is that of strangers',
    ),
  ]


def sentences(frame: pd.DataFrame) -> list[str]:
  """Returns what was found, in words."""
  own = users_of(frame)
  two = pick(own, group='two users', statistic='disagreement')
  number = own[own['statistic'] == EFFECTIVE]
  said = ', '.join(
    f'{part.written(value, error, scale=100)} % ({part.alpha(concentration)})'
    for value, error, concentration in zip(
      two['value'], two['standard_error'], two['concentration']
    )
  )
  effective = ', '.join(f'{value:.2f}' for value in number['value'])
  of_models = study_frame.value_of(frame, population='reward models', statistic=EFFECTIVE)
  pairs = pick(frame, population='reward models', statistic='correlation')
  ends = pairs.loc[[pairs['value'].idxmax(), pairs['value'].idxmin()]]
  most, least = (f'{group} ({value:+.2f})' for group, value in zip(ends['group'], ends['value']))
  return [
    f'Two users order {said} of the pairs of responses differently; the effective number of '
    f'preferences among them is {effective}, among reward models {of_models:.2f}.',
    f'Inside prompts {most} agree most of all reward models, {least} least.',
  ]
