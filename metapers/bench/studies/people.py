"""Real people beside simulated users, as a part of the page."""

import functools
from typing import NamedTuple

import numpy as np
import pandas as pd

from metapers.analysis import people_statistics, sampling, simulated_people, study_frame
from metapers.analysis.people_statistics import RANK, REPEATED, STATISTICS, Answers
from metapers.analysis.simulated_people import CONCENTRATIONS, TEMPERATURES, Check, Likelihood
from metapers.analysis.slates import Slates
from metapers.analysis.study_frame import Cell, Whose
from metapers.bench.studies import part
from metapers.bench.studies.part import Part, Shown
from metapers.core import population
from metapers.core.tables import Histories
from metapers.evaluation import intervals
from metapers.io import panels
from metapers.io.panels import Line
from metapers.io.plots import Figure

TITLE = 'Real people beside simulated users'
NUM_PEOPLE = 1000  # at most, of a folder
NUM_SIMULATIONS = 3  # of every (α, temperature), whose mean and spread are shown
SIMULATED = 'simulated for {}'
UNITS = {
  people_statistics.DISAGREEMENT: 'share of pairs of answers',
  people_statistics.ENTROPY: 'nats',
  RANK: 'number of ways',
  REPEATED: 'share of pairs of answers',
}


class Folder(NamedTuple):
  """People of one folder. is_rated: whether their comparisons are implied by ratings."""

  name: str
  histories: Histories
  is_rated: bool


def part_of(given: Slates, folder: Folder, *, seed: int = 0) -> Part:
  """Returns the part of the page of one folder.

  Args:
    given: slates whose scores simulated users weight.
    folder: of people.
    seed: of all that is drawn.
  """
  answers = people_statistics.answers_of(
    folder.histories, max_users=NUM_PEOPLE, is_rated=folder.is_rated
  )
  columns = simulated_people.scored_columns(folder.histories.feature_names, given.reward_models)
  scores = scores_of(given, folder, columns, seed)
  found = {Whose('people', folder.name): people_statistics.with_errors(answers, seed=seed)}
  found |= simulations(answers, scores, SIMULATED.format(folder.name), seed=seed)
  frame = people_statistics.study(found, extra={folder.name: answers})
  if people_statistics.DISAGREEMENT not in people_rows(frame, folder.name):
    raise ValueError(f'too few pairs of {folder.name} were answered by two people to compare them')
  likelihood = None
  if columns is not None:
    likelihood = simulated_people.fit(answers, scores, seed=seed)
    frame = study_frame.joined([frame, likelihood_rows(likelihood, folder.name)])
  at = likelihood.best if likelihood else nearest(frame, folder.name)
  checks = simulated_people.predictive_checks(answers, scores, *at, seed=seed)
  frame = study_frame.joined([frame, check_rows(checks, folder.name, at)])
  return Part(
    f'{TITLE}: {folder.name}',
    frame,
    findings=[*sentences(frame, folder.name, likelihood), check_sentence(checks, folder.name, at)],
    text=text_of(folder, answers, is_scored=columns is not None),
    figures={
      f'people_{folder.name}': Shown(
        functools.partial(figure, frame, folder.name),
        'Lines: simulated users by α, one for each temperature; dashed: people. Bands: 95 %.',
      )
    },
    tables=[table_of(frame, folder.name)],
  )


def scores_of(given: Slates, folder: Folder, columns: np.ndarray | None, seed: int) -> np.ndarray:
  """Returns the scores of the items: their own where reward models score them, else of a store."""
  if columns is not None:
    own = np.asarray(folder.histories.features, np.float64)[:, columns]
    mean, scale = population.scaling_of(own)
    return (own - mean) / scale
  rng = np.random.default_rng([seed, 10])
  num_items = len(folder.histories.features)
  return simulated_people.items_of(given.scores['z'], given.mask, num_items, rng)


def simulations(
  answers: Answers, scores: np.ndarray, population: str, *, seed: int = 0
) -> dict[Whose, dict[str, tuple[float, float]]]:
  """Returns the statistics of simulated users who answer people's questions, with errors."""
  made = {}
  for concentration in CONCENTRATIONS:
    for temperature in TEMPERATURES:
      values = []
      for number in range(NUM_SIMULATIONS):
        rng = np.random.default_rng([seed, 11, number])
        size = answers.num_users, concentration, scores.shape[1]
        weights = simulated_people.draw_weights(rng, *size)
        drawn = simulated_people.answered(answers, scores, weights, temperature, rng)
        values.append(people_statistics.values_of(drawn, seed=number))
      whose = Whose('people', population, concentration, f'temperature {temperature:g}')
      made[whose] = {
        name: tuple(sampling.mean(known)) if len(known) else (np.nan, np.nan)
        for name in STATISTICS
        for known in [np.array([each[name] for each in values if np.isfinite(each[name])])]
      }
  return made


def likelihood_rows(found: Likelihood, name: str) -> pd.DataFrame:
  """Returns the log-likelihoods of the people's answers and the region, as rows."""
  blocks = []
  for row, column in np.ndindex(found.log_evidence.shape):
    convention = f'temperature {found.temperatures[column]:g}'
    whose = Whose('people', name, found.concentrations[row], convention)
    cells = [
      Cell('fit', 'log-likelihood', float(found.log_evidence[row, column])),
      Cell('fit', 'in the 95 % region', float(found.inside[row, column])),
    ]
    blocks.append(study_frame.rows(whose, cells))
  return study_frame.joined(blocks)


def nearest(frame: pd.DataFrame, name: str) -> tuple[float, float]:
  """Returns the α and temperature whose simulated users disagree most nearly as people do."""
  value, _ = people_rows(frame, name)[people_statistics.DISAGREEMENT]
  drawn = simulated_rows(frame, name)
  own = drawn[drawn['statistic'] == people_statistics.DISAGREEMENT]
  row = own.iloc[int((own['value'] - value).abs().argmin())]
  return float(row['concentration']), float(str(row['convention']).rpartition(' ')[2])


def check_rows(checks: list[Check], name: str, at: tuple[float, float]) -> pd.DataFrame:
  """Returns posterior predictive checks as rows."""
  whose = Whose('people', name, at[0], f'temperature {at[1]:g}')
  cells = []
  for one in checks:
    cells += [
      Cell('predictive check', one.statistic, one.value),
      Cell('predictive check', f'{one.statistic}, replicated', *sampling.mean(one.replicated)),
      Cell('predictive check', f'{one.statistic}, p', one.p),
    ]
  return study_frame.rows(whose, cells)


def check_sentence(checks: list[Check], name: str, at: tuple[float, float]) -> str:
  """Returns what the posterior predictive checks found, in words."""
  who = f'simulated users of {part.alpha(at[0])} and temperature {at[1]:g}'
  wrong = [one for one in checks if one.p < 0.05 / len(checks)]
  if not wrong:
    return f'Predictive checks: {who} could have answered as people of {name} did.'
  listed = '; '.join(
    f'{one.statistic} {one.value:.3f} (replicated {one.replicated.min():.3f} to '
    f'{one.replicated.max():.3f})'
    for one in wrong
  )
  return f'Predictive checks: {who} could not have answered as people of {name} did: {listed}.'


def text_of(folder: Folder, answers: Answers, *, is_scored: bool) -> list[str]:
  """Returns what was compared, in paragraphs."""
  items = (
    'the scores that reward models give to the very items'
    if is_scored
    else "random responses of the store in the items' place, for no reward model scores these items"
  )
  said = [
    f'{answers.num_users:,} people of {folder.name} ({len(answers.user):,} answers), and simulated '
    f'users who answer the same questions, with {items}; scores count around their prompts, in sd. '
    'Noise: P(first) = sigmoid(difference of rewards / temperature).',
    'Disagreement: how often two people differ about one pair. Entropy: of the answers about a '
    'pair. Split-half effective rank: number of ways in which people differ, by products of halves '
    'of their answers, which noise does not enter; it is left out where noise leaves nothing.',
  ]
  if folder.is_rated:
    said.append(
      'The answers are implied by ratings. Halves are divided by item, for two answers that read '
      f'one rating share its noise; what is left tells at most {people_statistics.NUM_WAYS} ways.'
    )
  if not is_scored:
    said.append(
      'Noise makes people disagree as different preferences do, and no model scores their items: '
      'which α they are like cannot be told, and no (α, noise) is fitted. What is shown is whether '
      'any of them reaches the people’s numbers.'
    )
  return said


def simulated_rows(frame: pd.DataFrame, name: str) -> pd.DataFrame:
  """Returns the rows of the simulated users of a folder."""
  return frame[frame['population'] == SIMULATED.format(name)]


def whole(frame: pd.DataFrame, name: str) -> pd.DataFrame:
  """Returns the rows of the statistics of all people, without those of checks."""
  own = (frame['population'] == name) & (frame['group'] == '')
  return frame[own & frame['statistic'].isin(STATISTICS)]


def people_rows(frame: pd.DataFrame, name: str) -> dict[str, tuple[float, float]]:
  """Returns statistic -> value and standard error of the people; without what noise hides."""
  own = whole(frame, name)
  found = part.numbers(own, 'statistic')
  return {key: value for key, value in found.items() if abs(value[0]) > intervals.NORMAL * value[1]}


def figure(frame: pd.DataFrame, name: str, *, is_narrow: bool = False) -> Figure:
  """Returns each statistic of simulated users by α and temperature, beside the people's."""
  drawn = simulated_rows(frame, name)
  shown = []
  for statistic, (value, _) in people_rows(frame, name).items():
    series = {}
    for label, own in drawn[drawn['statistic'] == statistic].groupby('convention', sort=False):
      series[str(label)] = Line(
        own['concentration'].to_numpy(),
        own['value'].to_numpy(),
        intervals.NORMAL * own['standard_error'].fillna(0).to_numpy(),
      )
    lines = panels.lines(
      series, 'concentration α', UNITS[statistic], is_log=True, ticks=CONCENTRATIONS[::2],
      is_log_y=statistic == RANK,
      levels={'people': value},
    )  # fmt: skip
    shown.append(panels.Panel(lines, statistic.capitalize(), 3.1))
  return panels.figure(
    shown,
    title=f'{name}: people and simulated users',
    described='see the table',
    is_narrow=is_narrow,
  )


def table_of(frame: pd.DataFrame, name: str):
  """Returns the table of people's statistics and of simulated users'."""
  people = whole(frame, name)
  drawn = simulated_rows(frame, name)
  labels = drawn['concentration'].map(part.alpha) + ', ' + drawn['convention']
  rows = pd.concat([people.assign(row='people'), drawn.assign(row=labels)])
  return part.table(
    rows[rows['value'].notna()],
    caption=f'{name}: people, and simulated users who answer the same questions',
    down='row',
    across='statistic',
    digits=3,
  )


def unreached(frame: pd.DataFrame, name: str) -> list[str]:
  """Returns the statistics that no simulated users reach, with the range that they have."""
  drawn, said = simulated_rows(frame, name), []
  for statistic, (value, error) in people_rows(frame, name).items():
    own = drawn[(drawn['statistic'] == statistic) & drawn['value'].notna()]
    if own.empty:
      continue
    low, high = own['value'].min(), own['value'].max()
    slack = intervals.NORMAL * float(np.hypot(error, np.nan_to_num(own['standard_error']).max()))
    if not low - slack <= value <= high + slack:
      said.append(f'{statistic} {value:.3g} (simulated: {low:.3g} to {high:.3g})')
  return said


def alike(frame: pd.DataFrame, name: str) -> list[str]:
  """Returns which simulated users are within sampling error of people in every statistic."""
  drawn, known = simulated_rows(frame, name), people_rows(frame, name)
  found = []
  for keys, own in drawn.groupby(['concentration', 'convention'], sort=False):
    simulated = part.numbers(own, 'statistic')
    gaps = [
      abs(value - simulated[statistic][0])
      <= intervals.NORMAL * np.hypot(error, np.nan_to_num(simulated[statistic][1]))
      for statistic, (value, error) in known.items()
    ]
    if all(gaps):
      found.append(f'α = {keys[0]:g}, {keys[1]}')  # type: ignore[index]
  return found


def sentences(frame: pd.DataFrame, name: str, likelihood: Likelihood | None) -> list[str]:
  """Returns what was found, in words."""
  known = people_rows(frame, name)
  value, error = known[people_statistics.DISAGREEMENT]
  said = [f'Two people of {name} differ about {part.written(value, error, scale=100)} % of pairs.']
  hidden = set(STATISTICS[:3]) - set(known)
  if hidden:
    said.append(f'Noise hides the {", ".join(hidden)} of {name}.')
  missed, same = unreached(frame, name), alike(frame, name)
  if missed:
    said.append(f'No simulated users are like people of {name} in: {"; ".join(missed)}.')
  elif same:
    said.append(
      f'In all {len(known)} statistics at once simulated users are within sampling error of people '
      f'of {name} at {"; ".join(same)}.'
    )
  else:
    said.append(
      f'Each statistic of {name} is reached by some simulated users, all at once by none of those '
      'tried.'
    )
  if likelihood is not None:
    concentration, temperature = likelihood.best
    said.append(
      f'Likeliest for the answers of {name} are {part.alpha(concentration)} and temperature '
      f'{temperature:g}; the 95 % region holds {int(likelihood.inside.sum())} of '
      f'{likelihood.inside.size} pairs tried.'
    )
  return said
