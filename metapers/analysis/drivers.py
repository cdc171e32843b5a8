"""What drives each user's preference: logistic regressions of best against worst responses.

For each user the best and the worst response to every prompt are two rows, labelled win and lose;
features are standardised over all responses. Coefficients of features that go together are not
separately meaningful: the collinearity stands beside them, and each feature by itself.

Reference:
  Zollo et al. 2024, arXiv:2409.20296, section 2 and appendix B.1. Unlike there, with what chance
  gives (labels exchanged at random) and with sampling errors.
"""

import functools
import itertools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd

from metapers.analysis import sampling, study_frame
from metapers.analysis.study_frame import Cell, Whose
from metapers.core import population
from metapers.core.types import Array, Bool, Float, Int

RIDGE = 1.0  # the penalty ½ λ |β|² on the summed loss; scikit-learn's default C = 1
NUM_STEPS = 8  # of Newton's method
QUANTILES = {
  '5 %': 0.05,
  'lower quartile': 0.25,
  'median': 0.5,
  'upper quartile': 0.75,
  '95 %': 0.95,
}
TOGETHER, ALONE = 'coefficient', 'coefficient alone'
NUM_ERROR_USERS = 100  # of whom medians are found again without a part of the prompts
PUBLISHED = {  # medians over users, read off a figure to about ±0.03
  'formality': -0.12, 'educational': 0.12, 'approval': 0.0, 'caring': -0.135, 'excitement': -0.03,
  'joy': -0.035, 'optimism': 0.015, 'tokens': -0.55, 'unique words': 0.83, 'mean word length': 0.0,
  'stop words': -0.25, 'punctuation': 0.37, 'list items': -0.02, 'adjectives and adverbs': -0.06,
}  # fmt: skip


class Extremes(NamedTuple):
  """What each of U users likes best and least of each of P prompts: indices of responses."""

  best: Int[np.ndarray, 'U P']
  worst: Int[np.ndarray, 'U P']


def extremes(
  scores: Float[np.ndarray, 'P R B'],
  mask: Bool[np.ndarray, 'P R'],
  weights: Float[np.ndarray, 'U B'],
) -> Extremes:
  """Returns the responses of largest and least reward to each user."""
  rewards = np.einsum('prb,ub->upr', scores, weights.astype(np.float32))
  best = np.where(mask, rewards, -np.inf).argmax(-1)
  return Extremes(best, np.where(mask, rewards, np.inf).argmin(-1))


def standardised(
  features: Float[np.ndarray, 'P R F'], mask: Bool[np.ndarray, 'P R']
) -> Float[np.ndarray, 'P R F']:
  """Returns features around their mean over real responses, in sd; 0 where masked or constant."""
  mean, scale = population.scaling_of(features[mask])
  scaled = (features - mean) / scale
  return np.where(mask[..., None], scaled, 0).astype(np.float32)


@jax.jit
def ridge_logistic(
  rows: Float[Array, 'N F'], labels: Float[Array, 'N'], weight: Float[Array, 'N']
) -> Float[Array, 'F+1']:
  """Returns the coefficients and the intercept of a logistic regression, by Newton's method.

      argmin Σ_n w_n log(1 + exp(-±(β·x_n + b))) + ½ λ |β|²,  λ = RIDGE; b is free

  Args:
    rows: the features.
    labels: 1 win, 0 lose.
    weight: how often each row counts.
  """
  inputs = jnp.concatenate([rows, jnp.ones_like(rows[:, :1])], 1)
  penalty = jnp.where(jnp.arange(inputs.shape[1]) < rows.shape[1], RIDGE, 1e-6)

  def step(coefficients, _):
    chance = jax.nn.sigmoid(inputs @ coefficients)
    slope = inputs.T @ (weight * (chance - labels)) + penalty * coefficients
    curved = (weight * chance * (1 - chance))[:, None] * inputs
    return coefficients - jnp.linalg.solve(inputs.T @ curved + jnp.diag(penalty), slope), None

  start = jnp.zeros(inputs.shape[1], rows.dtype)
  return jax.lax.scan(step, start, length=NUM_STEPS)[0]


@functools.partial(jax.jit, static_argnames='chunk_size')
def user_coefficients(
  features: Float[Array, 'P R F'],
  best: Int[Array, 'U P'],
  worst: Int[Array, 'U P'],
  counts: Float[Array, 'P'],
  *,
  chunk_size: int = 16,
) -> tuple[Float[Array, 'U F'], Float[Array, 'U F']]:
  """Returns each user's coefficients of all features together, and of each feature alone.

  Args:
    features: standardised.
    best: each user's best responses.
    worst: each user's worst.
    counts: how often each prompt counts.
    chunk_size: users at once.
  """
  prompts = jnp.arange(best.shape[1])
  labels = jnp.concatenate([jnp.ones_like(counts), jnp.zeros_like(counts)])
  weight = jnp.concatenate([counts, counts])

  def fit(given):
    chosen, rejected = given
    rows = jnp.concatenate([features[prompts, chosen], features[prompts, rejected]])
    alone = jax.vmap(lambda column: ridge_logistic(column[:, None], labels, weight)[0])(rows.T)
    return ridge_logistic(rows, labels, weight)[:-1], alone

  return jax.lax.map(fit, (best, worst), batch_size=chunk_size)


def exchanged(found: Extremes, seed: int) -> Extremes:
  """Returns best and worst exchanged by the toss of a coin for each user and prompt."""
  flip = np.random.default_rng([seed, 4]).random(found.best.shape) < 0.5
  return Extremes(np.where(flip, found.worst, found.best), np.where(flip, found.best, found.worst))


class Collinearity(NamedTuple):
  """How F features go together. correlation: [F, F]. inflation: [F], 1 / (1 - R²) on the others."""

  correlation: Float[np.ndarray, 'F F']
  inflation: Float[np.ndarray, 'F']


def collinearity(
  features: Float[np.ndarray, 'P R F'], mask: Bool[np.ndarray, 'P R']
) -> Collinearity:
  """Returns correlations of features over real responses, and their variance inflation factors."""
  shown = features[mask].astype(np.float64)
  varied = shown.std(0) > 0
  correlation = np.eye(shown.shape[1])
  inside = np.ix_(varied, varied)
  correlation[inside] = np.atleast_2d(np.corrcoef(shown[:, varied].T))
  return Collinearity(correlation, np.diag(np.linalg.pinv(correlation)))


class Fitted(NamedTuple):
  """Coefficients over U users.

  together, alone: [U, F]. by_chance: [U, F], together, of labels exchanged at random. errors: [F]
  and [F] standard errors of the medians of the first two.
  """

  together: Float[np.ndarray, 'U F']
  alone: Float[np.ndarray, 'U F']
  by_chance: Float[np.ndarray, 'U F']
  errors: tuple[Float[np.ndarray, 'F'], Float[np.ndarray, 'F']]


def fit(
  features: Float[np.ndarray, 'P R F'],
  mask: Bool[np.ndarray, 'P R'],
  found: Extremes,
  *,
  seed: int = 0,
) -> Fitted:
  """Returns the regressions of all users.

  Args:
    features: as they are; they are standardised here.
    mask: whether each response is real.
    found: what users like best and least.
    seed: of the labels that chance gives.
  """
  scaled = jnp.asarray(standardised(features, mask))
  ones = np.ones(len(mask), np.float32)

  def coefficients(pairs: Extremes, counts: np.ndarray) -> list[np.ndarray]:
    fitted = user_coefficients(scaled, *map(jnp.asarray, pairs), jnp.asarray(counts))
    return [np.asarray(each, np.float64) for each in fitted]

  together, alone = coefficients(found, ones)
  by_chance, _ = coefficients(exchanged(found, seed), ones)
  few = Extremes(found.best[:NUM_ERROR_USERS], found.worst[:NUM_ERROR_USERS])
  left_out = sampling.without_each(np.diag(ones))  # [parts, P], ones but for a part
  again = [np.median(coefficients(few, counts), 1) for counts in left_out.astype(np.float32)]
  of_prompts = sampling.jackknife(np.stack(again))  # [2, F]
  of_users = np.stack([median_errors(together), median_errors(alone)])
  errors = np.hypot(of_prompts, of_users)
  return Fitted(together, alone, by_chance, (errors[0], errors[1]))


def median_errors(values: Float[np.ndarray, 'U F']) -> Float[np.ndarray, 'F']:
  """Returns the error of medians over users, half the distance of their 16 % and 84 % limits.

  The limits are the order statistics of a binomial, whatever the distribution.
  """
  size = len(values)
  half = 0.5 / np.sqrt(size)
  low, high = np.quantile(values, [max(0.5 - half, 0), min(0.5 + half, 1)], axis=0)
  return (high - low) / 2


def study(
  fitted: Fitted, found: Collinearity, names: Sequence[str], whose: Whose, *, has_published: bool
) -> pd.DataFrame:
  """Returns the distribution of coefficients over users, as `study_frame.COLUMNS`.

  Args:
    fitted: of all users.
    found: of the features.
    names: of the features.
    whose: what users these are.
    has_published: whether published numbers are of this store and these users.
  """
  cells = []
  for number, name in enumerate(names):
    paper = PUBLISHED.get(name, study_frame.NONE) if has_published else study_frame.NONE
    for kind, values, errors in (
      (TOGETHER, fitted.together, fitted.errors[0]),
      (ALONE, fitted.alone, fitted.errors[1]),
      (f'{TOGETHER} by chance', fitted.by_chance, None),
    ):
      own = values[:, number]
      for label, at in QUANTILES.items():
        is_median = label == 'median'
        error = float(errors[number]) if errors is not None and is_median else study_frame.NONE
        known = paper if is_median and kind == TOGETHER else study_frame.NONE
        cells.append(Cell(name, f'{kind}, {label}', float(np.quantile(own, at)), error, known))
    above = (fitted.together[:, number] > 0).astype(float)
    cells.append(Cell(name, 'share of users above 0', *sampling.mean(above)))
    cells.append(Cell(name, 'variance inflation', float(found.inflation[number])))
  return study_frame.rows(whose, cells + pair_cells(found, names))


def pair_cells(found: Collinearity, names: Sequence[str]) -> list[Cell]:
  """Returns the correlations of all pairs of features."""
  return [
    Cell(f'{names[i]} / {names[j]}', 'correlation', float(found.correlation[i, j]))
    for i, j in itertools.combinations(range(len(names)), 2)
  ]
