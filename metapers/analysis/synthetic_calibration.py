"""The constants of the synthetic store, found by calibration.

1. Loadings and habits, by least squares on the published table of diversity, over fresh prompts and
   over the test prompts of the default store, with common random numbers. They are shrunk towards a
   random draw: the table alone has far fewer cells than there are parameters.
2. The noise of the features, by bisection on the held-out R² of a ridge regression.
"""

import typing
from collections.abc import Callable, Iterable, Mapping

import numpy as np
from absl import logging
from scipy import optimize

from metapers.analysis import diversity, vote_table
from metapers.core.types import Float
from metapers.data import personal_llm_constants, reward_table, ridge, synthetic
from metapers.data.synthetic import Parameters
from metapers.populations import dirichlet

NUM_DRAWS = 6  # independent sets of 1,000 prompts and users
NUM_STORE_DRAWS = 3  # sets of users who vote on the default store's test prompts
NUM_FACTORS = 7
SHRINKAGE = 0.3  # points of the table that one unit of distance to the start costs
DIFFERENCE = 0.1  # of finite differences: far above the steps in which shares move


def random_start(seed: int) -> Parameters:
  """Returns a random start where factor 0 is quality: liked by all, and had by frequent winners."""
  rng = np.random.default_rng(seed)
  loadings = 0.5 * rng.standard_normal((len(personal_llm_constants.REWARD_MODELS), NUM_FACTORS))
  habits = 0.2 * rng.standard_normal((synthetic.NUM_RESPONSES, NUM_FACTORS))
  wins = diversity.PAPER[0.05].wins
  loadings[:, 0] = 0.7
  habits[:, 0] = 0.8 * np.log(wins / wins.mean())
  return Parameters(loadings, habits)


def pack(parameters: Parameters) -> Float[np.ndarray, 'N']:
  """Returns parameters as one vector."""
  return np.concatenate([x.ravel() for x in parameters])


def unpack(vector: Float[np.ndarray, 'N']) -> Parameters:
  """Returns the parameters of a vector that `pack` made."""
  rows = vector.reshape(-1, NUM_FACTORS).astype(np.float32)
  return Parameters(rows[: -synthetic.NUM_RESPONSES], rows[-synthetic.NUM_RESPONSES :])


def calibrate(
  first: Parameters,
  centre: Parameters,
  *,
  num_steps: int,
  seed: int,
  log: Callable[[str], None] = logging.info,
) -> Parameters:
  """Returns loadings and habits fitted to the published table; two minutes a step on one core.

  Args:
    first: where to start.
    centre: towards which they are shrunk.
    num_steps: of least squares, at most.
    seed: of prompts and users.
    log: called with a line for each step.
  """

  def residuals(vector: np.ndarray) -> np.ndarray:
    return np.concatenate([table_error(unpack(vector), seed), SHRINKAGE * (vector - pack(centre))])

  def jacobian(vector: np.ndarray) -> np.ndarray:
    here = residuals(vector)
    size = np.abs(here[: -len(vector)])
    log(f'mean difference {size.mean():.2f} points, largest {size.max():.2f}')
    moved = [residuals(vector + DIFFERENCE * axis) for axis in np.eye(len(vector))]
    return (np.stack(moved, 1) - here[:, None]) / DIFFERENCE

  fit = optimize.least_squares(residuals, pack(first), jacobian, max_nfev=num_steps)  # pyright: ignore
  return unpack(fit.x)


def table_error(
  parameters: Parameters,
  seed: int,
  *,
  num_draws: int = NUM_DRAWS,
  num_store_draws: int = NUM_STORE_DRAWS,
) -> Float[np.ndarray, 'cells']:
  """Returns ours minus the published table, in points: on fresh prompts, then on the store's.

  Both are means over several draws of users: the weights of a thousand move a cell by a point.
  """
  own = store_scores(parameters)
  store_draws = range(num_draws, num_draws + num_store_draws)
  fresh = _mean_table(seed, range(num_draws), lambda rng: draw_scores(rng, parameters, 1000)[1])
  stored = _mean_table(seed, store_draws, lambda rng: own)
  paper = [np.concatenate(table) for table in diversity.PAPER.values()]
  return np.ravel([fresh - paper, stored - paper])


def _mean_table(
  seed: int, draws: Iterable[int], scores_of: Callable[[np.random.Generator], np.ndarray]
) -> np.ndarray:
  tables = []
  for draw in draws:
    rng = np.random.default_rng([seed, draw])
    scores_z = scores_of(rng)
    tables.append([draw_diversity(rng, scores_z, alpha) for alpha in diversity.PAPER])
  return np.mean(tables, 0)


def draw_diversity(
  rng: np.random.Generator, scores_z: Float[np.ndarray, 'P R B'], concentration: float
) -> Float[np.ndarray, 'cells']:
  """Returns the table of the diversity of as many users as were published, flat."""
  names = personal_llm_constants.RESPONSE_MODELS
  models = np.tile(np.arange(len(names)), (len(scores_z), 1))
  log_weights = dirichlet.sample_log_weights(
    rng, diversity.NUM_USERS, concentration, scores_z.shape[-1]
  )
  counts = diversity.votes(scores_z, np.ones(models.shape, bool), np.exp(log_weights))
  return np.array(list(vote_table.percentages(counts[None], models, names).values()))


def draw_scores(
  rng: np.random.Generator, parameters: Parameters, num_prompts: int
) -> tuple[Float[np.ndarray, 'P R F'], Float[np.ndarray, 'P R B']]:
  """Returns drawn factors and z-scores."""
  factors = synthetic.sample_factors(rng, num_prompts, parameters.habits)
  return factors, _z_scored(synthetic.sample_scores(rng, factors, parameters.loadings))


def store_scores(parameters: Parameters) -> Float[np.ndarray, 'P R B']:
  """Returns the z-scores of the default store's test prompts, were these its parameters."""
  size = reward_table.NUM_PROMPTS
  factors = synthetic.sample_factors(np.random.default_rng([0, 0]), size, parameters.habits)
  scores = synthetic.sample_scores(np.random.default_rng([0, 1]), factors, parameters.loadings)
  return _z_scored(scores)[-reward_table.NUM_TEST :]


def _z_scored(scores: np.ndarray) -> np.ndarray:
  return (scores - scores.mean((0, 1))) / scores.std((0, 1))


def calibrate_noise(
  parameters: Parameters,
  feature_r2: float,
  seed: int,
  *,
  num_prompts: int = reward_table.NUM_PROMPTS,
) -> float:
  """Returns the sd of feature noise at which ridge regression explains `feature_r2`.

  Args:
    parameters: of the store.
    feature_r2: share of the variance of scores inside the last tenth of the prompts.
    seed: of prompts and noise.
    num_prompts: P.
  """
  factors, scores_z = draw_scores(np.random.default_rng(seed), parameters, num_prompts)
  mask = np.ones(scores_z.shape[:2], bool)
  held_out = np.arange(len(mask)) >= 0.9 * len(mask)

  def excess(noise: float) -> float:
    features = synthetic.sample_features(np.random.default_rng(seed), factors, noise)
    return float(ridge.held_out_r2(features, scores_z, mask, held_out).mean()) - feature_r2

  return typing.cast(float, optimize.bisect(excess, 0, 5, xtol=0.005))


def source_text(parameters: Parameters, feature_noise: Mapping[float, float]) -> str:
  """Returns the constants as they stand in `metapers/data/synthetic.py`."""
  blocks = []
  for name, matrix in zip(('LOADINGS', 'HABITS'), parameters, strict=True):
    rows = ['  (' + ', '.join(f'{x:.3f}' for x in row) + '),' for row in matrix]
    blocks += [f'{name} = (', *rows, ')']
  return '\n'.join([*blocks, f'FEATURE_NOISE = {dict(feature_noise)}'])
