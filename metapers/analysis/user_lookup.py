"""Looking up similar users, and picking for a new user among the responses to a prompt.

PersonalLLM's baseline of learning across users, as selection and so without a language model: a
user is embedded by the responses that won or lost in their history; the nearest known users' wins
and losses, pooled, say what to pick.

Reference:
  Zollo et al. 2024, arXiv:2409.20296, section 4.2. Unlike there, a response is picked among those
  of the test prompt, the known users' prompts come from train, and no new user is a known one.
"""

import itertools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from metapers.analysis import drivers, sampling, study_frame
from metapers.analysis.sampling import Estimate
from metapers.analysis.slates import Slates
from metapers.analysis.study_frame import Cell, Whose
from metapers.core import population
from metapers.core.types import Bool, Float, Int
from metapers.populations import dirichlet

EMBEDDINGS = ('winning', 'losing', 'winning - losing')
OWN, POOLED, NEAREST = 'own history', 'all known users', 'nearest known users'
RANDOM, COMMON, MODEL = 'random response', 'best mean reward', 'most frequent winner'
GAIN, TOP = 'gain', 'best response picked'


class Grid(NamedTuple):
  """What is looked at. interactions: of the new user. neighbours: known users who are pooled.

  num_known: known users, each with num_history interactions. num_new: new users. num_prompts: to
  pick for, at most.
  """

  interactions: tuple[int, ...] = (1, 5, 10, 50)
  neighbours: tuple[int, ...] = (1, 5, 30, 100, 300)
  num_known: int = 1000
  num_history: int = 50
  num_new: int = 200
  num_prompts: int = 200


PAPER_LIKE = Grid()


class Known(NamedTuple):
  """Users with histories. weights: [U, B]. winning, losing: [U, N, D] features of responses."""

  weights: Float[np.ndarray, 'U B']
  winning: Float[np.ndarray, 'U N D']
  losing: Float[np.ndarray, 'U N D']


class Interactions(NamedTuple):
  """The best and the worst response to some prompts of each user: rows of prompts, responses."""

  prompts: Int[np.ndarray, 'U N']
  winning: Int[np.ndarray, 'U N']
  losing: Int[np.ndarray, 'U N']


class Choice(NamedTuple):
  """What users may pick. features: [P, R, D]. mask: [P, R]. rewards: [T, P, R] to each user."""

  features: Float[np.ndarray, 'P R D']
  mask: Bool[np.ndarray, 'P R']
  rewards: Float[np.ndarray, 'T P R']


def interactions(
  rng: np.random.Generator, given: Slates, weights: Float[np.ndarray, 'U B'], num_history: int
) -> Interactions:
  """Returns the best and the worst response to random prompts, each prompt once.

  Raises:
    ValueError: for more interactions than there are prompts.
  """
  if num_history > len(given.mask):
    raise ValueError(
      f'{num_history} interactions of a user need as many train prompts; there are '
      f'{len(given.mask)}'
    )
  prompts = np.argsort(rng.random((len(weights), len(given.mask))), 1)[:, :num_history]
  found = drivers.extremes(given.scores['z'], given.mask, weights)
  return Interactions(prompts, *(np.take_along_axis(each, prompts, 1) for each in found))


def known_users(
  weights: Float[np.ndarray, 'U B'], features: Float[np.ndarray, 'P R D'], history: Interactions
) -> Known:
  """Returns users with the features of the responses that won and lost in their history."""
  prompts, winning, losing = history
  return Known(weights, features[prompts, winning], features[prompts, losing])


def embed(users: Known, kind: str, num_interactions: int) -> Float[np.ndarray, 'U D']:
  """Returns the mean of what won, lost, or of both's difference, over first interactions."""
  winning, losing = (each[:, :num_interactions].mean(1) for each in (users.winning, users.losing))
  return {'winning': winning, 'losing': losing, 'winning - losing': winning - losing}[kind]


def nearest(
  own: Float[np.ndarray, 'T D'], known: Float[np.ndarray, 'U D']
) -> Int[np.ndarray, 'T U']:
  """Returns known users by cosine to each new user, nearest first."""
  unit = [each / np.maximum(np.linalg.norm(each, axis=1, keepdims=True), 1e-12)
          for each in (own, known)]  # fmt: skip
  return np.argsort(-(unit[0] @ unit[1].T), 1, kind='stable')


def picks(direction: Float[np.ndarray, 'T D'], choice: Choice) -> Int[np.ndarray, 'T P']:
  """Returns the response whose features lie furthest in each user's direction."""
  scores = np.einsum('td,prd->tpr', direction, choice.features)
  return np.where(choice.mask, scores, -np.inf).argmax(-1)


def above_mean(
  values: Float[np.ndarray, 'T P R'], mask: Bool[np.ndarray, 'P R']
) -> Float[np.ndarray, 'T P R']:
  """Returns rewards over the mean of the prompt's real responses."""
  mean = np.where(mask, values, 0).sum(-1, keepdims=True) / mask.sum(-1)[:, None]
  return values - mean


def measured(choice: Choice, picked: Int[np.ndarray, 'T P']) -> tuple[Estimate, Estimate]:
  """Returns what picks gain, as a share of what the best response does, and how often it is it.

      gain = Σ (reward of the pick - mean reward) / Σ (reward of the best - mean reward)

  Errors are for new users and new prompts; that of the ratio is of its linearisation.
  """
  over = above_mean(choice.rewards, choice.mask)
  best = np.where(choice.mask, over, -np.inf).max(-1)
  taken = np.take_along_axis(over, picked[..., None], -1)[..., 0]
  ratio = taken.mean() / best.mean()
  error = sampling.two_way((taken - ratio * best) / best.mean()).standard_error
  return Estimate(float(ratio), error), sampling.two_way((taken >= best).astype(float))


def difference(
  choice: Choice, first: Int[np.ndarray, 'T P'], second: Int[np.ndarray, 'T P']
) -> Estimate:
  """Returns how much more first picks gain than second ones, on the same users and prompts."""
  over = above_mean(choice.rewards, choice.mask)
  best = np.where(choice.mask, over, -np.inf).max(-1)
  one, other = (np.take_along_axis(over, each[..., None], -1)[..., 0] for each in (first, second))
  ratio = (one - other).mean() / best.mean()
  error = sampling.two_way((one - other - ratio * best) / best.mean()).standard_error
  return Estimate(float(ratio), error)


def directions(users: Known, num_interactions: int) -> Float[np.ndarray, 'U D']:
  """Returns what each user's wins have over their losses, summed over first interactions."""
  return (users.winning - users.losing)[:, :num_interactions].sum(1)


def lookup_picks(
  new: Known, known: Known, choice: Choice, kind: str, num_interactions: int,
  neighbours: Sequence[int],
) -> Iterator[tuple[int, Int[np.ndarray, 'T P']]]:  # fmt: skip
  """Makes the picks by the nearest k known users, for each k."""
  all_history = known.winning.shape[1]
  order = nearest(embed(new, kind, num_interactions), embed(known, kind, all_history))
  theirs = directions(known, all_history)
  for count in neighbours:
    yield count, picks(theirs[order[:, :count]].sum(1), choice)


def scaled(
  train: Slates, test: Slates
) -> tuple[Float[np.ndarray, 'P R D'], Float[np.ndarray, 'Q R D']]:
  """Returns the features of both in sd of the train responses; z-scores where there are none."""
  if train.features is None or test.features is None:
    return train.scores['z'], test.scores['z']
  mean, scale = population.scaling_of(train.features[train.mask])
  one, other = ((each - mean) / scale for each in (train.features, test.features))
  return one.astype(np.float32), other.astype(np.float32)


class Drawn(NamedTuple):
  """New users, known users, and what the new ones may pick."""

  new: Known
  known: Known
  choice: Choice


def draw(
  train: Slates, test: Slates, concentration: float, *, grid: Grid = PAPER_LIKE, seed: int = 0
) -> Drawn:
  """Returns drawn users; histories are of train prompts, picks of the test slates.

  Raises:
    ValueError: for more interactions than train prompts.
  """
  rng = np.random.default_rng([seed, 5, round(1e6 * concentration)])
  of_train, of_test = scaled(train, test)
  num_models = len(train.reward_models)
  groups = (grid.num_known, grid.num_history), (grid.num_new, max(grid.interactions))
  users = []
  for size, num_history in groups:
    weights = np.exp(dirichlet.sample_log_weights(rng, size, concentration, num_models))
    users.append(known_users(weights, of_train, interactions(rng, train, weights, num_history)))
  known, new = users
  shown = slice(grid.num_prompts)
  rewards = np.einsum('prb,tb->tpr', test.scores['z'][shown], new.weights.astype(np.float32))
  return Drawn(new, known, Choice(of_test[shown], test.mask[shown], rewards))


def baselines(
  drawn: Drawn, test: Slates, winner: int, *, seed: int = 0
) -> dict[str, Int[np.ndarray, 'T P']]:
  """Returns the picks of those who know nothing of the user.

  Args:
    drawn: the users.
    test: the slates that they pick from.
    winner: index of the response model that is always picked, where its response is real.
    seed: of random picks.
  """
  choice = drawn.choice
  shape, rng = choice.rewards.shape, np.random.default_rng([seed, 6])
  scores, models = test.scores['z'][: shape[1]], test.response_model[: shape[1]]
  rules = {
    RANDOM: rng.random(shape),
    COMMON: np.broadcast_to(scores.mean(-1), shape),
    MODEL: np.broadcast_to(models == winner, shape) + 1e-6 * rng.random(shape),
  }
  found = {name: np.where(choice.mask, each, -np.inf).argmax(-1) for name, each in rules.items()}
  pooled = directions(drawn.known, drawn.known.winning.shape[1]).sum(0, keepdims=True)
  return found | {POOLED: picks(np.repeat(pooled, shape[0], 0), choice)}


def study(
  drawn: Drawn, test: Slates, whose: Whose, *, winner: int, grid: Grid = PAPER_LIKE, seed: int = 0
) -> pd.DataFrame:
  """Returns the gain of every rule and of the whole grid, as `study_frame.COLUMNS`.

  Args:
    drawn: of `draw`.
    test: the same slates.
    whose: what users these are.
    winner: index of the response model that wins most among known users.
    grid: as of `draw`.
    seed: of random picks.
  """
  cells = []
  for name, picked in baselines(drawn, test, winner, seed=seed).items():
    cells += cells_of(name, drawn.choice, picked)
  for count in grid.interactions:
    own = picks(directions(drawn.new, count), drawn.choice)
    cells += cells_of(f'{OWN}, n = {count}', drawn.choice, own)
    for kind in EMBEDDINGS:
      made = lookup_picks(drawn.new, drawn.known, drawn.choice, kind, count, grid.neighbours)
      for neighbours, picked in made:
        name = f'{kind}, n = {count}, k = {neighbours}'
        cells += personal_cells(name, drawn.choice, picked, own)
  return study_frame.rows(whose, cells)


def personal_cells(
  name: str, choice: Choice, picked: Int[np.ndarray, 'T P'], own: Int[np.ndarray, 'T P']
) -> list[Cell]:
  """Returns the rows of a rule that knows something of the user, with its gain over `own` picks."""
  over = Cell(name, f'{GAIN} over {OWN}', *difference(choice, picked, own))
  return [*cells_of(name, choice, picked), over]


def cells_of(name: str, choice: Choice, picked: Int[np.ndarray, 'T P']) -> list[Cell]:
  """Returns the rows of one rule: how much its picks gain, and how often they are the best."""
  gain, top = measured(choice, picked)
  return [Cell(name, GAIN, *gain), Cell(name, TOP, *top)]


def most_frequent_winner(train: Slates, weights: Float[np.ndarray, 'U B']) -> int:
  """Returns the response model whose responses most users like best on train prompts."""
  found = drivers.extremes(train.scores['z'], train.mask, weights[:100])
  prompts = np.arange(len(train.mask))
  models = np.concatenate([train.response_model[prompts, best] for best in found.best])
  return int(np.bincount(models, minlength=len(train.response_models)).argmax())


def grid_values(frame: pd.DataFrame, kind: str, grid: Grid) -> Float[np.ndarray, 'n k']:
  """Returns the gains of one embedding: interactions down, neighbours across."""
  own = frame[frame['statistic'] == GAIN].set_index('group')['value']
  names = itertools.product(grid.interactions, grid.neighbours)
  flat = [own[f'{kind}, n = {n}, k = {k}'] for n, k in names]
  return np.array(flat).reshape(len(grid.interactions), len(grid.neighbours))
