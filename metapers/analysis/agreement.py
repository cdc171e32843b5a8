"""How reward models, and users who weight them, agree on the responses to a prompt.

Reward models are compared inside prompts: what a model gives to all responses of a prompt moves
nobody's choice. Two disagree on a pair of responses where they order it differently; who scores
both alike disagrees half of the time.
"""

import itertools
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats
from scipy.cluster import hierarchy
from scipy.spatial import distance

from metapers.analysis import sampling, study_frame
from metapers.analysis.sampling import Estimate
from metapers.analysis.study_frame import Cell, Whose
from metapers.core.types import Bool, Float, Int

NUM_PAIR_USERS = 500  # whose pairs are compared by distance: 124,750 pairs
NUM_CONTRASTS = 2000  # pairs of responses that two users may disagree on
BINS = np.linspace(0, 1, 11)  # of the distance of two users
LINKAGE = 'average'
RANKS = 'rank correlation of distance and disagreement'


class Matrices(NamedTuple):
  """How B reward models agree inside prompts.

  correlation, disagreement: [B, B], and their standard errors over prompts. order: [B], in which
  models that agree stand beside each other.
  """

  correlation: Float[np.ndarray, 'B B']
  correlation_error: Float[np.ndarray, 'B B']
  disagreement: Float[np.ndarray, 'B B']
  disagreement_error: Float[np.ndarray, 'B B']
  order: Int[np.ndarray, 'B']


def covariances(
  scores: Float[np.ndarray, 'P R B'], mask: Bool[np.ndarray, 'P R']
) -> Float[np.ndarray, 'P B B']:
  """Returns each prompt's sum of products of scores around the prompt's mean."""
  real = mask[..., None].astype(np.float64)
  centre = (scores * real).sum(1, keepdims=True) / real.sum(1, keepdims=True)
  centred = np.where(mask[..., None], scores - centre, 0)
  return np.einsum('prb,prc->pbc', centred, centred)


def to_correlation(covariance: Float[np.ndarray, '*shape B B']) -> Float[np.ndarray, '*shape B B']:
  """Returns the correlations of covariances; 0 beside a variance of 0."""
  scale = np.sqrt(np.diagonal(covariance, axis1=-2, axis2=-1))
  inverse = np.divide(1, scale, out=np.zeros_like(scale), where=scale > 0)
  return covariance * inverse[..., None] * inverse[..., None, :]


def contrasts(
  scores: Float[np.ndarray, 'P R B'], mask: Bool[np.ndarray, 'P R']
) -> tuple[Float[np.ndarray, 'P pairs B'], Bool[np.ndarray, 'P pairs']]:
  """Returns the differences of all pairs of responses to a prompt, and whether both are real."""
  first, second = np.array(list(itertools.combinations(range(mask.shape[1]), 2))).T
  return scores[:, first] - scores[:, second], mask[:, first] & mask[:, second]


def matrices(scores: Float[np.ndarray, 'P R B'], mask: Bool[np.ndarray, 'P R']) -> Matrices:
  """Returns correlation and disagreement of the reward models.

  Correlation is pooled over prompts, Σ_p C_p as a covariance; disagreement the share of pairs of
  responses, (1 - mean of s_b s_c) / 2 with s the sign of what a model sees between the two.
  """
  products = covariances(scores, mask)
  values, is_pair = contrasts(scores, mask)
  signs = np.sign(values) * is_pair[..., None]
  agreed, sizes = np.einsum('pnb,pnc->pbc', signs, signs), is_pair.sum(1).astype(np.float64)
  left_agreed, left_sizes = sampling.without_each(agreed), sampling.without_each(sizes)
  left_out = (1 - left_agreed / left_sizes[:, None, None]) / 2
  correlation = to_correlation(products.sum(0))
  return Matrices(
    correlation,
    sampling.jackknife(to_correlation(sampling.without_each(products))),
    _no_diagonal((1 - agreed.sum(0) / sizes.sum()) / 2),
    _no_diagonal(sampling.jackknife(left_out)),
    clustering_order(correlation),
  )


def _no_diagonal(values: Float[np.ndarray, 'B B']) -> Float[np.ndarray, 'B B']:
  return values * (1 - np.eye(len(values)))  # ties would make a model disagree with itself


def clustering_order(correlation: Float[np.ndarray, 'B B']) -> Int[np.ndarray, 'B']:
  """Returns the leaves of a tree of average linkage by 1 - correlation, near ones adjacent."""
  if len(correlation) < 3:
    return np.arange(len(correlation))
  apart = distance.squareform(np.clip(1 - correlation, 0, 2), checks=False)
  tree = hierarchy.linkage(apart, LINKAGE, optimal_ordering=True)
  return hierarchy.leaves_list(tree).astype(np.int64)


def effective_number(matrix: Float[np.ndarray, '*shape B B']) -> Float[np.ndarray, '*shape']:
  """Returns the effective number of directions, (Σ λ)² / Σ λ² of the eigenvalues: 1 to B."""
  trace = np.trace(matrix, axis1=-2, axis2=-1)
  return np.asarray(trace**2 / np.sum(matrix * np.swapaxes(matrix, -1, -2), (-2, -1)))


def first_share(matrix: Float[np.ndarray, '*shape B B']) -> Float[np.ndarray, '*shape']:
  """Returns the largest eigenvalue's share of all: what everyone has in common."""
  return np.asarray(np.linalg.eigvalsh(matrix)[..., -1] / np.trace(matrix, axis1=-2, axis2=-1))


DIRECTIONS = {
  'effective number of preferences': effective_number,
  'share of the first direction': first_share,
}


def user_moment(
  weights: Float[np.ndarray, 'U B'], covariance: Float[np.ndarray, 'B B']
) -> Float[np.ndarray, 'B B']:
  """Returns the mean of the users' preferences as unit vectors' outer products.

      M = mean_u C^½ w_u w_u' C^½ / (w_u' C w_u)

  with C the covariance inside prompts: 1 / tr M² is 1 over the mean squared correlation of two
  users' rewards, each with itself included.
  """
  values, vectors = np.linalg.eigh(covariance)
  root = vectors * np.sqrt(np.maximum(values, 0)) @ vectors.T
  moved = weights @ root
  unit = moved / np.linalg.norm(moved, axis=1, keepdims=True)
  return unit.T @ unit / len(weights)


class PairwiseUsers(NamedTuple):
  """Pairs of users: total variation of their weights (0 to 1), and how often they disagree."""

  apart: Float[np.ndarray, 'pairs']
  disagreement: Float[np.ndarray, 'pairs']


def pairs_of_users(
  weights: Float[np.ndarray, 'U B'], values: Float[np.ndarray, 'Q B']
) -> PairwiseUsers:
  """Returns distance and disagreement of all pairs of users on the given contrasts."""
  signs = np.sign(weights.astype(np.float32) @ values.T.astype(np.float32))
  agreed = signs @ signs.T / signs.shape[1]
  upper = np.triu_indices(len(weights), 1)
  apart = distance.pdist(weights, 'cityblock') / 2
  return PairwiseUsers(apart, (1 - agreed[upper]) / 2)


def disagreement_by_prompt(
  weights: Float[np.ndarray, 'U B'],
  scores: Float[np.ndarray, 'P R B'],
  mask: Bool[np.ndarray, 'P R'],
  *,
  block: int = 64,
) -> Float[np.ndarray, 'P']:
  """Returns how often two different users disagree on a random pair of a prompt's responses.

      mean over pairs of (1 - ((Σ_u s_u)² - Σ_u s_u²) / (U (U - 1))) / 2

  Args:
    weights: of the users.
    scores: of the responses.
    mask: whether each is real.
    block: prompts at once.
  """
  by_model, couples = weights.T.astype(np.float32), len(weights) * (len(weights) - 1)
  found = []
  for start in range(0, len(mask), block):
    values, is_pair = contrasts(scores[start : start + block], mask[start : start + block])
    signs = np.sign(values @ by_model)
    agreed = (signs.sum(-1) ** 2 - np.abs(signs).sum(-1)) / couples
    each = (1 - agreed) / 2 * is_pair
    found.append(each.sum(1) / is_pair.sum(1))
  return np.concatenate(found).astype(np.float64)


def model_cells(found: Matrices, names: tuple[str, ...]) -> list[Cell]:
  """Returns the matrices' upper triangles, the effective number, and the order of clustering."""
  cells = []
  for first, second in itertools.combinations(range(len(names)), 2):
    group, at = f'{names[first]} / {names[second]}', (first, second)
    cells += [
      Cell(group, 'correlation', float(found.correlation[at]), float(found.correlation_error[at])),
      Cell(
        group, 'disagreement', float(found.disagreement[at]), float(found.disagreement_error[at])
      ),
    ]
  places = np.argsort(found.order)
  return cells + [
    Cell(name, 'place in clustering order', float(place)) for name, place in zip(names, places)
  ]


def models_study(
  scores: Float[np.ndarray, 'P R B'],
  mask: Bool[np.ndarray, 'P R'],
  names: tuple[str, ...],
  *,
  convention: str = 'z',
) -> pd.DataFrame:
  """Returns how the reward models agree, as `study_frame.COLUMNS`."""
  found, products = matrices(scores, mask), covariances(scores, mask)
  left_out = to_correlation(sampling.without_each(products))
  cells = model_cells(found, names)
  for name, function in DIRECTIONS.items():
    error = float(sampling.jackknife(function(left_out)))
    cells.append(Cell('all reward models', name, float(function(found.correlation)), error))
  whose = Whose('agreement', 'reward models', convention=convention)
  return study_frame.rows(whose, cells)


def users_study(
  drawn: Float[np.ndarray, 'draws U B'],
  scores: Float[np.ndarray, 'P R B'],
  mask: Bool[np.ndarray, 'P R'],
  whose: Whose,
  *,
  seed: int = 0,
) -> pd.DataFrame:
  """Returns how users agree, and how that goes with the distance of their weights.

  Args:
    drawn: weights of several draws of users.
    scores: under one convention.
    mask: whether each response is real.
    whose: what users these are.
    seed: of the pairs of responses that pairs of users are compared on.
  """
  rate = np.stack([disagreement_by_prompt(weights, scores, mask) for weights in drawn])
  products = covariances(scores, mask)
  moments = np.stack([user_moment(weights, products.sum(0)) for weights in drawn])
  left_out = np.stack([user_moment(drawn[0], each) for each in sampling.without_each(products)])
  cells = [Cell('two users', 'disagreement', *sampling.two_way(rate))]
  for name, function in DIRECTIONS.items():
    value, of_users = sampling.mean(function(moments))
    of_prompts = float(sampling.jackknife(function(left_out)))
    cells.append(Cell('all users', name, value, float(np.hypot(of_users, of_prompts))))
  pairs = [
    pairs_of_users(weights[:NUM_PAIR_USERS], random_contrasts(scores, mask, seed=seed))
    for weights in drawn
  ]
  return study_frame.rows(whose, cells + distance_cells(pairs))


def random_contrasts(
  scores: Float[np.ndarray, 'P R B'],
  mask: Bool[np.ndarray, 'P R'],
  *,
  num_contrasts: int = NUM_CONTRASTS,
  seed: int = 0,
) -> Float[np.ndarray, 'Q B']:
  """Returns the differences of random pairs of responses, all pairs where these are fewer."""
  values, is_pair = contrasts(scores, mask)
  flat = np.flatnonzero(is_pair)
  rng = np.random.default_rng([seed, 3])
  size = min(num_contrasts, flat.size)
  chosen = rng.choice(flat, size, replace=False)
  return values.reshape(-1, values.shape[-1])[chosen]


def distance_cells(pairs: list[PairwiseUsers]) -> list[Cell]:
  """Returns mean disagreement by distance of the weights, and their rank correlation."""
  ranks = np.array([stats.spearmanr(one.apart, one.disagreement)[0] for one in pairs])
  cells = [Cell('two users', RANKS, *sampling.mean(ranks))]
  for low, high in itertools.pairwise(BINS):
    cells += _bin_cells(pairs, float(low), float(high))
  return cells


def _bin_cells(pairs: list[PairwiseUsers], low: float, high: float) -> list[Cell]:
  shares, means = [], []
  for one in pairs:
    inside = (one.apart >= low) & ((one.apart < high) | (high == BINS[-1]))
    shares.append(inside.mean())
    means.append(one.disagreement[inside].mean() if inside.any() else np.nan)
  known = np.array(means)[np.isfinite(means)]
  group = f'distance {low:.1f}-{high:.1f}'
  error = sampling.mean(known) if len(known) else Estimate(float('nan'), float('nan'))
  return [
    Cell(group, 'share of pairs', *sampling.mean(np.array(shares))),
    Cell(group, 'disagreement', *error),
  ]
