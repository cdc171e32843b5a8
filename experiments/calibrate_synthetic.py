"""Finds the constants of the synthetic store, and prints them for synthetic_constants.py.

python -m experiments.calibrate_synthetic [--restart]  (two minutes a step on one core)

1. Loadings and habits, by least squares on the published table of diversity, over fresh prompts and
   over the test prompts of the default store, with common random numbers. They are shrunk towards a
   random draw: the table alone has far fewer cells than there are parameters.
2. The noise of the features, by bisection on the held-out R² of a ridge regression.
"""

import typing

import numpy as np
from absl import app, flags, logging
from scipy import optimize

from metapers.analysis import diversity
from metapers.data import (
  personal_llm_constants,
  reward_table,
  ridge,
  synthetic,
)
from metapers.data.synthetic import Parameters
from metapers.populations import dirichlet

RESTART = flags.DEFINE_bool('restart', False, 'Starts anew, not from the committed constants.')

NUM_DRAWS = 6  # independent sets of 1,000 prompts and users
NUM_STORE_DRAWS = 3  # sets of users who vote on the default store's test prompts
STEPS = 12  # of least squares, at most
SEED = 2  # of prompts and users
CENTRE_SEED = 1
NUM_FACTORS = 7
SHRINKAGE = 0.3  # points of the table that one unit of distance to the start costs
FEATURE_R2 = (0.3, 0.5, 0.8)
DIFFERENCE = 0.1  # of finite differences: far above the steps in which shares move


def random_start(rng: np.random.Generator) -> Parameters:
  """Draws a start where the first factor is quality: liked by all, and had by frequent winners."""
  loadings = 0.5 * rng.standard_normal((len(personal_llm_constants.REWARD_MODELS), NUM_FACTORS))
  habits = 0.2 * rng.standard_normal((synthetic.NUM_RESPONSES, NUM_FACTORS))
  wins = diversity.PAPER[0.05].wins
  loadings[:, 0] = 0.7
  habits[:, 0] = 0.8 * np.log(wins / wins.mean())
  return Parameters(loadings, habits)


def pack(parameters: Parameters) -> np.ndarray:
  """Flattens parameters into one vector."""
  return np.concatenate([x.ravel() for x in parameters])


def unpack(vector: np.ndarray) -> Parameters:
  """Undoes `pack`."""
  rows = vector.reshape(-1, NUM_FACTORS).astype(np.float32)
  return Parameters(rows[: -synthetic.NUM_RESPONSES], rows[-synthetic.NUM_RESPONSES :])


def draw_diversity(
  rng: np.random.Generator, scores_z: np.ndarray, concentration: float
) -> np.ndarray:
  """Draws as many users as were published and returns the table of their diversity, flat."""
  size = scores_z.shape[-1]
  log_weights = dirichlet.sample_log_weights(rng, diversity.NUM_USERS, concentration, size)
  models = np.tile(np.arange(synthetic.NUM_RESPONSES), (len(scores_z), 1))
  mask = np.ones(models.shape, bool)
  table = diversity.diversity(
    scores_z, mask, np.exp(log_weights), models, num_response_models=synthetic.NUM_RESPONSES
  )
  return np.concatenate(table)


def draw_scores(
  rng: np.random.Generator, parameters: Parameters, num_prompts: int
) -> tuple[np.ndarray, np.ndarray]:
  """Draws factors [P, R, F] and z-scores [P, R, B]."""
  factors = synthetic.sample_factors(rng, num_prompts, parameters.habits)
  scores = synthetic.sample_scores(rng, factors, parameters.loadings)
  return factors, (scores - scores.mean((0, 1))) / scores.std((0, 1))


def store_scores(parameters: Parameters) -> np.ndarray:
  """Returns the z-scores of the default store's test prompts, were these its parameters."""
  size = reward_table.NUM_PROMPTS
  factors = synthetic.sample_factors(np.random.default_rng([0, 0]), size, parameters.habits)
  scores = synthetic.sample_scores(np.random.default_rng([0, 1]), factors, parameters.loadings)
  return ((scores - scores.mean((0, 1))) / scores.std((0, 1)))[-reward_table.NUM_TEST :]


def table_error(parameters: Parameters, seed: int) -> np.ndarray:
  """Returns ours minus the published table, in points: on fresh prompts, then on the store's.

  Both are means over several draws of users: the weights of a thousand move a cell by a point.
  """

  def mean_table(draws, scores_of):
    tables = []
    for draw in draws:
      rng = np.random.default_rng([seed, draw])
      scores_z = scores_of(rng)
      tables.append([draw_diversity(rng, scores_z, alpha) for alpha in diversity.PAPER])
    return np.mean(tables, 0)

  own = store_scores(parameters)
  fresh = mean_table(range(NUM_DRAWS), lambda rng: draw_scores(rng, parameters, 1000)[1])
  stored = mean_table(range(NUM_DRAWS, NUM_DRAWS + NUM_STORE_DRAWS), lambda rng: own)
  paper = [np.concatenate(table) for table in diversity.PAPER.values()]
  return np.ravel([fresh - paper, stored - paper])


def calibrate(first: Parameters, centre: Parameters, steps: int, seed: int) -> Parameters:
  """Fits loadings and habits to the published table, from `first`, shrunk towards `centre`."""

  def residuals(vector):
    return np.concatenate([table_error(unpack(vector), seed), SHRINKAGE * (vector - pack(centre))])

  def jacobian(vector):
    here = residuals(vector)
    size = np.abs(here[: -len(vector)])
    logging.info('mean difference %.2f points, largest %.2f', size.mean(), size.max())
    moved = [residuals(vector + DIFFERENCE * axis) for axis in np.eye(len(vector))]
    return (np.stack(moved, 1) - here[:, None]) / DIFFERENCE

  fit = optimize.least_squares(residuals, pack(first), jacobian, max_nfev=steps)  # pyright: ignore
  return unpack(fit.x)


def held_out_r2(factors: np.ndarray, scores_z: np.ndarray, noise: float, seed: int) -> float:
  """Returns R² of ridge on features of that noise, on the last tenth of the prompts."""
  features = synthetic.sample_features(np.random.default_rng(seed), factors, noise)
  mask = np.ones(features.shape[:2], bool)
  test = np.arange(len(mask)) >= 0.9 * len(mask)
  fit = ridge.within_prompt_ridge(features, scores_z, mask, ~test)
  predicted = ridge.predict(features[test], mask[test], fit)
  return float(ridge.within_prompt_r2(predicted, scores_z[test], mask[test]).mean())


def calibrate_noise(parameters: Parameters, feature_r2: float, seed: int) -> float:
  """Finds the sd of feature noise at which ridge regression explains `feature_r2`."""
  rng = np.random.default_rng(seed)
  factors, scores_z = draw_scores(rng, parameters, reward_table.NUM_PROMPTS)

  def excess(noise: float) -> float:
    return held_out_r2(factors, scores_z, noise, seed) - feature_r2

  return typing.cast(float, optimize.bisect(excess, 0, 5, xtol=0.005))


def literal(name: str, rows: np.ndarray) -> str:
  """Writes a matrix as the source text of a constant."""
  lines = ['  (' + ', '.join(f'{x:.3f}' for x in row) + '),' for row in rows]
  return '\n'.join([f'{name} = (', *lines, ')'])


def main(argv: list[str]) -> None:
  """Prints the constants."""
  del argv
  centre = random_start(np.random.default_rng(CENTRE_SEED))
  first = centre if RESTART.value else synthetic.CALIBRATED
  found = calibrate(first, centre, STEPS, SEED)
  found = Parameters(*(np.round(x, 3) for x in found))
  noise = {r2: round(calibrate_noise(found, r2, SEED), 3) for r2 in FEATURE_R2}
  print(literal('LOADINGS', found.loadings))
  print(literal('HABITS', found.habits))
  print(f'FEATURE_NOISE = {noise}')


if __name__ == '__main__':
  app.run(main)
