"""Looking up similar users, as a part of the page."""

import functools
from collections.abc import Sequence

import numpy as np
import pandas as pd

from metapers.analysis import study_frame, user_lookup
from metapers.analysis.slates import Slates
from metapers.analysis.study_frame import Whose
from metapers.analysis.user_lookup import (
  EMBEDDINGS,
  GAIN,
  OWN,
  PAPER_LIKE,
  POOLED,
  TOP,
  Drawn,
  Grid,
)  # fmt: skip
from metapers.analysis.voters import DIRICHLET
from metapers.bench.studies import lookup_learners, part
from metapers.bench.studies.part import Part, Shown
from metapers.evaluation import intervals
from metapers.io import panels
from metapers.io.panels import Line
from metapers.io.plots import Figure

TITLE = 'Lookup: picking for a new user by what similar users liked'
PAPER_CONCENTRATION = 0.05
LEARNED = 'learner {}, n = {}'


def part_of(
  train: Slates,
  test: Slates,
  concentrations: Sequence[float],
  *,
  seed: int = 0,
  grid: Grid = PAPER_LIKE,
  learners: Sequence[str] = tuple(lookup_learners.LEARNERS),
) -> Part:
  """Returns the part of the page.

  Args:
    train: slates of histories.
    test: slates that are picked from.
    concentrations: α, of which the one nearest to the paper's is taken.
    seed: of all that is drawn.
    grid: what is looked at.
    learners: of `lookup_learners`, which are trained on the known users.

  Raises:
    ValueError: for more interactions than train prompts.
  """
  concentration = min(concentrations, key=lambda value: abs(value - PAPER_CONCENTRATION))
  drawn = user_lookup.draw(train, test, concentration, grid=grid, seed=seed)
  winner = user_lookup.most_frequent_winner(train, drawn.known.weights)
  whose = Whose('lookup', DIRICHLET, concentration, 'z')
  looked = user_lookup.study(drawn, test, whose, winner=winner, grid=grid, seed=seed)
  learned, reasons = learned_of(drawn, whose, learners, grid, seed)
  frame = study_frame.joined([looked, learned])
  said = [sentence_of_learners(frame, grid)] if len(learned) else []
  return Part(
    TITLE,
    frame,
    findings=[sentence(looked, grid, concentration), *said],
    text=[*text_of(train, grid, concentration, train.response_models[winner]), *reasons],
    figures={
      'lookup_grid': Shown(
        functools.partial(grid_figure, frame, grid),
        '% of what the best response gains over the mean one; n comparisons of the new user, k '
        'nearest known users.',
      ),
      'lookup': Shown(functools.partial(lines_figure, frame, grid), 'Bands: 95 % intervals.'),
    },
    tables=[table_of(frame)],
  )


def learned_of(
  drawn: Drawn, whose: Whose, learners: Sequence[str], grid: Grid, seed: int
) -> tuple[pd.DataFrame, list[str]]:
  """Returns the rows of learners of the bench, and why some have none."""
  cells, reasons = [], []
  for name in learners:
    try:
      picked = lookup_learners.picks(name, drawn, grid.interactions, seed=seed)
    except ValueError as error:
      reasons.append(f'{name}: left out, {error}.')
      continue
    for count, each in picked.items():
      own = user_lookup.picks(user_lookup.directions(drawn.new, count), drawn.choice)
      label = LEARNED.format(name, count)
      cells += user_lookup.personal_cells(label, drawn.choice, each, own)
  return study_frame.rows(whose, cells), reasons


def text_of(train: Slates, grid: Grid, concentration: float, winner: str) -> list[str]:
  """Returns what was done, in paragraphs."""
  features = 'z-scores (the store has no features)' if train.features is None else 'features'
  return [
    f'{grid.num_known:,} known users with {grid.num_history} best and worst responses each to '
    f'train prompts, and {grid.num_new} new users of {part.alpha(concentration)}, none of them '
    f'known. A user is the mean of the {features} of what won, lost, or of the difference; of the '
    'k nearest known users by cosine, wins minus losses are summed, and the response furthest in '
    'that direction is picked. Own history: the same sum over the n comparisons of the user alone.',
    f'Gain: reward of the pick over that of the mean response, as a share of what the best one '
    f'gains. The most frequent winner is {winner}.',
    'Learners of the bench are trained on the comparisons of the known users, adapt to the same n '
    'comparisons of the new user, and pick the response of largest expected utility.',
  ]


def grid_figure(frame: pd.DataFrame, grid: Grid, *, is_narrow: bool = False) -> Figure:
  """Returns the grid of gains by comparisons, neighbours and embedding."""
  values = {kind: 100 * user_lookup.grid_values(frame, kind, grid) for kind in EMBEDDINGS}
  low, high = (function(list(values.values())) for function in (np.min, np.max))
  shown = [
    panels.Panel(
      panels.matrix(
        each, [f'n = {n}' for n in grid.interactions], columns=[f'{k}' for k in grid.neighbours],
        low=max(float(low), 0.0), high=float(high), form='{:.0f}',
        has_rows=is_narrow or kind == EMBEDDINGS[0],
      ),
      kind, 1.9,
    )
    for kind, each in values.items()
  ]  # fmt: skip
  return panels.figure(
    shown,
    title='Gain in % by number of neighbours k',
    described='see the table',
    is_narrow=is_narrow,
  )


def lines_figure(frame: pd.DataFrame, grid: Grid, *, is_narrow: bool = False) -> Figure:
  """Returns the gain by comparisons: own history, pooled, lookups at their middle k, learners."""
  gains = frame[frame['statistic'] == GAIN].set_index('group')
  middle = grid.neighbours[len(grid.neighbours) // 2]
  own = {OWN: OWN + ', n = {}'}
  lookups = {f'{kind}, k = {middle}': f'{kind}, n = {{}}, k = {middle}' for kind in EMBEDDINGS}
  learned = {name: LEARNED.format(name, '{}') for name in learners_of(frame)}
  levels = {name: 100 * float(gains['value'][name]) for name in (POOLED, user_lookup.COMMON)}

  def panel(forms, title):
    series = {label: line_of(gains, form, grid) for label, form in forms.items()}
    drawn = panels.lines(
      series, 'comparisons n of the new user', 'gain, %', is_log=True, ticks=grid.interactions,
      levels=levels,
    )  # fmt: skip
    return panels.Panel(drawn, title, 3.4)

  shown = [panel(own | lookups, 'Lookup')]
  shown += [panel(own | learned, 'Learners of the bench')] if learned else []
  return panels.figure(
    shown,
    title='Gain of the pick by what is known of the user',
    described='see the table',
    is_narrow=is_narrow,
  )


def line_of(gains: pd.DataFrame, form: str, grid: Grid) -> Line:
  """Returns the gain of one rule over the comparisons, in percent."""
  rows = gains.loc[[form.format(n) for n in grid.interactions]]
  half = 100 * intervals.NORMAL * rows['standard_error'].to_numpy()
  return Line(np.array(grid.interactions, float), 100 * rows['value'].to_numpy(), half)


def learners_of(frame: pd.DataFrame) -> list[str]:
  """Returns the learners of which there are rows."""
  found = frame['group'].str.extract(r'^learner (.+), n = \d+$')[0].dropna()
  return list(dict.fromkeys(found))


def table_of(frame: pd.DataFrame):
  """Returns the table of all rules."""
  return part.table(
    frame,
    caption='picks for new users, in percent',
    down='group',
    across='statistic',
    scale=100,
    note=(
      f'{GAIN}: share of what the best response gains over the mean one; {TOP}: how often; '
      f'{GAIN} over {OWN}: paired, on the same users, prompts and comparisons'
    ),
  )


def sentence(frame: pd.DataFrame, grid: Grid, concentration: float) -> str:
  """Returns what was found, in words."""
  gains = frame[frame['statistic'] == GAIN].set_index('group')
  rows = part.numbers(frame[frame['statistic'] == GAIN])

  def said(name: str) -> str:
    value, error = rows[name]
    return part.written(value, error, scale=100)

  few = 5 if 5 in grid.interactions else grid.interactions[0]
  looked = gains[gains.index.str.contains(f', n = {few}, k = ')]
  best = str(looked['value'].idxmax())
  over = frame[(frame['group'] == best) & (frame['statistic'] == f'{GAIN} over {OWN}')].iloc[0]
  means = [
    f'{kind} {100 * looked[looked.index.str.startswith(f"{kind}, ")]["value"].mean():.1f}'
    for kind in EMBEDDINGS
  ]
  return (
    f'After {few} comparisons of a new user ({part.alpha(concentration)}) the best of '
    f'{len(looked)} lookups ({best}) picks responses that gain {said(best)} % of what the best '
    f'ones would; the own history gains {said(f"{OWN}, n = {few}")} %, all known users pooled '
    f'{said(POOLED)} %, the best mean reward, which reads the scores themselves, '
    f'{said(user_lookup.COMMON)} %. Lookup minus own history: '
    f'{part.written(over["value"], over["standard_error"], scale=100)} points, the best of a grid '
    f'and so flattered. Means over k by embedding: {", ".join(means)} %.'
  )


def sentence_of_learners(frame: pd.DataFrame, grid: Grid) -> str:
  """Returns what learners of the bench gain on the same task, in words."""
  few = 5 if 5 in grid.interactions else grid.interactions[0]
  rows = part.numbers(frame[frame['statistic'] == GAIN])
  gained = [
    f'{name} {part.written(*rows[LEARNED.format(name, few)], scale=100)}'
    for name in learners_of(frame)
  ]
  return (
    f'On the same picks after the same {few} comparisons, learners trained on the same known users '
    f'gain: {", ".join(gained)} %.'
  )
