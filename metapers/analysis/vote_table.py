"""The table of how much voters disagree, number by number with its sampling error.

Reference:
  Zollo et al. 2024, arXiv:2409.20296, section 2 and its figure of the diversity of preferences.
"""

from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd
from scipy import special

from metapers.analysis import diversity, sampling, slates, study_frame, voters
from metapers.analysis.diversity import PAPER, TOP_SHARES, WINNERS, Diversity
from metapers.analysis.slates import Slates
from metapers.analysis.study_frame import NONE, Cell
from metapers.analysis.voters import DIRICHLET, Voters
from metapers.core.tables import RewardTable
from metapers.core.types import Float, Int
from metapers.data import personal_llm_constants

TOP, NUM_WINNERS, WINS, ENTROPY = 'top share', 'number of winners', 'wins', 'entropy'
FITS = ('mean absolute difference', 'largest difference')


def entropies(counts: Int[np.ndarray, '*shape R']) -> Float[np.ndarray, '*shape']:
  """Returns the entropy of the vote, -Σ_r p_r log p_r, in nats."""
  share = counts / counts.sum(-1, keepdims=True)
  return special.entr(share).sum(-1)


def by_prompt(
  counts: Int[np.ndarray, 'draws P R'],
  response_model: Int[np.ndarray, 'P R'],
  response_models: tuple[str, ...],
) -> dict[tuple[str, str], Float[np.ndarray, 'draws P']]:
  """Returns what each prompt adds to each number of the table, in percent; entropies in nats.

  Returns:
    (group, statistic) -> values whose mean over prompts is the number.
  """
  num_users = counts.sum(-1)
  top, winners = 100 * counts.max(-1) / num_users, np.clip((counts > 0).sum(-1), 2, 6)
  found = {(f'<={share}%', TOP): 100.0 * (top <= share) for share in TOP_SHARES}
  found |= {
    (name, NUM_WINNERS): 100.0 * (winners == number) for number, name in enumerate(WINNERS, 2)
  }
  for model, name in enumerate(response_models):
    own = (counts * (response_model == model)).sum(-1)
    found[name, WINS] = 100 * own / num_users
  return found | {('all prompts', ENTROPY): entropies(counts)}


def percentages(
  counts: Int[np.ndarray, 'draws P R'],
  response_model: Int[np.ndarray, 'P R'],
  response_models: tuple[str, ...],
) -> dict[tuple[str, str], float]:
  """Returns (group, statistic) -> number, in the order of the published table, all in percent."""
  found = by_prompt(counts, response_model, response_models)
  return {name: float(each.mean()) for name, each in found.items() if name[1] != ENTROPY}


def as_text(table: RewardTable) -> str:
  """Returns the table of simulated users for each published concentration, in percent.

  The mean of several draws of users, who vote on a store's test prompts by z-scores. It stands
  beside the paper's where the response models have the names of the paper's, else alone.
  """
  given = slates.slates_of(table)
  is_comparable = set(given.response_models) == set(personal_llm_constants.RESPONSE_MODELS)
  num_draws, num_users = voters.NUM_DRAWS, diversity.NUM_USERS
  size = {'num_draws': num_draws, 'num_users': num_users, 'num_models': len(given.reward_models)}
  users = f'{num_draws} draws of {num_users} users for each concentration'
  lines, differences = [f'source: {table.source}; {users}'], []
  for concentration, paper in PAPER.items():
    weights = slates.draw_users(concentration, **size)
    counts = voters.votes_of(given.scores['z'], given.mask, weights)
    known = of_paper(paper) if is_comparable else {}
    columns = ('ours', 'paper', 'minus') if known else ('ours',)
    lines.append(f'concentration {concentration:<31}' + ''.join(f'{name:>8}' for name in columns))
    ours = percentages(counts, given.response_model, given.response_models)
    for (group, statistic), value in ours.items():
      cells = [value]
      if known:
        other = known[group, statistic]
        cells += [other, value - other]
        differences.append(abs(value - other))
      lines.append(f'  {statistic} {group}'.ljust(45) + ''.join(f'{cell:8.1f}' for cell in cells))
  if not differences:
    return '\n'.join([*lines, 'nothing is published for these response models'])
  mean, largest = np.mean(differences), max(differences)
  lines.append(f'mean absolute difference {mean:.2f} points, largest {largest:.2f}')
  return '\n'.join(lines)


def published(given: Slates, concentration: float) -> dict[tuple[str, str], float]:
  """Returns the published numbers of one concentration; none for another store or another α."""
  if not given.is_personal_llm or concentration not in PAPER:
    return {}
  found = of_paper(PAPER[concentration])
  if concentration == diversity.ENTROPY_CONCENTRATION:
    found['all prompts', ENTROPY] = diversity.ENTROPY
  return found


def of_paper(paper: Diversity) -> dict[tuple[str, str], float]:
  """Returns (group, statistic) -> number, of one published table."""
  found = dict(zip([(f'<={share}%', TOP) for share in TOP_SHARES], paper.top_share.tolist()))
  found |= dict(zip([(name, NUM_WINNERS) for name in WINNERS], paper.winners.tolist()))
  names = personal_llm_constants.RESPONSE_MODELS
  return found | dict(zip([(name, WINS) for name in names], paper.wins.tolist()))


def study(given: Slates, voted: Iterable[Voters]) -> pd.DataFrame:
  """Returns the diversity of each population of voters, as `study_frame.COLUMNS`.

  Args:
    given: what they voted on.
    voted: such as `voters.voters` makes.
  """
  blocks = []
  for one in voted:
    known = {}
    if one.whose.population == DIRICHLET:
      known = published(given, one.whose.concentration)
    values = by_prompt(one.counts, given.response_model, given.response_models)
    cells = [
      Cell(*name, *sampling.two_way(each), published=known.get(name, NONE))
      for name, each in values.items()
    ]
    blocks.append(study_frame.rows(one.whose, cells))
  return study_frame.joined(blocks)


def fit(frame: pd.DataFrame) -> pd.DataFrame:
  """Returns how far a table is from what is published, by convention; no rows if nothing is.

  In points over all cells in percent, as `study_frame.COLUMNS`.
  """
  known = frame[frame['published'].notna() & (frame['statistic'] != ENTROPY)]
  blocks = []
  for convention, own in known.groupby('convention', sort=False):
    away = (own['value'] - own['published']).abs()
    sizes = zip(FITS, (away.mean(), away.max()))
    whose = study_frame.Whose('diversity', DIRICHLET, convention=str(convention))
    cells = [Cell('all cells', name, float(size)) for name, size in sizes]
    blocks.append(study_frame.rows(whose, cells))
  return study_frame.joined(blocks)


def best_convention(fits: pd.DataFrame) -> str:
  """Returns the convention of the least mean difference to what is published; '' of none."""
  means = fits[fits['statistic'] == FITS[0]]
  return '' if means.empty else str(means['convention'].iloc[int(means['value'].argmin())])


def largest_gap(frame: pd.DataFrame) -> float:
  """Returns the largest difference of any percentage between conventions, NaN without both."""
  percent = frame[(frame['statistic'] != ENTROPY) & (frame['convention'] != '')]
  keys = ['population', 'concentration', 'group', 'statistic']
  wide = percent.pivot_table(index=keys, columns='convention', values='value', dropna=False)
  if not {'z', 'raw'} <= set(wide):
    return float('nan')
  return float((wide['z'] - wide['raw']).abs().max())


def shares(frame: pd.DataFrame, statistic: str) -> Mapping[str, tuple[float, float]]:
  """Returns group -> value and standard error of one population's statistic."""
  own = frame[frame['statistic'] == statistic]
  return {
    str(group): (float(value), float(error))
    for group, value, error in zip(own['group'], own['value'], own['standard_error'])
  }
