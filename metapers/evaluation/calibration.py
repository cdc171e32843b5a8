"""Calibration: are predictions of 80 % right 80 % of the time, and are the confident ones right?"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from metapers.core.types import Bool, Float
from metapers.evaluation import intervals

NUM_BINS = 15
NUM_SLICES = 20  # 5 % of the predictions each
# Halves that give each other signs agree more often than they would apart: Var |x||y| of normals
# makes the sum of both vary by √(1 + 2/π) more than its signs being fixed lets resamples see.
SIGN_NOISE = float(np.sqrt(1 + 2 / np.pi))


def bin_gaps(
  confidence: Float[np.ndarray, 'L T N'],
  correct: Float[np.ndarray, 'L T N'],
  num_candidates: int,
) -> Float[np.ndarray, 'C L T N']:
  """Returns confidence - correct of every observation in the bin of its confidence, 0 elsewhere.

  Args:
    confidence: probability of the likeliest candidate; 0 where masked.
    correct: chance that it was the choice; 0 where masked.
    num_candidates: K; the equal-width bins cover [1/K, 1].
  """
  return np.where(bins(confidence, num_candidates), confidence - correct, 0).astype(np.float32)


def bins(confidence: Float[np.ndarray, 'L T N'], num_candidates: int) -> np.ndarray:
  """Returns which of the NUM_BINS bins of equal width each confidence is in: [C, L, T, N]."""
  least = 1 / num_candidates
  position = np.floor((confidence - least) / (1 - least) * NUM_BINS)
  index = np.clip(position, 0, NUM_BINS - 1)
  return index == np.arange(NUM_BINS).reshape(-1, 1, 1, 1)


class Chance(NamedTuple):
  """What chance makes of the gaps of a sample, by bin: [C, L].

  variance: of the weighted sum of gaps over new users and prompts; as it is estimated without bias,
    it may be below 0. mass: of the bin.
  """

  variance: Float[np.ndarray, 'C L']
  mass: Float[np.ndarray, 'C L']


def by_chance(
  gaps: Float[np.ndarray, 'J C L'], mass: Float[np.ndarray, 'C L'], sizes: Mapping[str, int]
) -> Chance:
  """Returns what the gaps vary by, as resamples of users and prompts tell.

  The choices of a user are no independent draws where users differ in how well they are predicted:
  confidence (1 - confidence) of each would be too little.

  Args:
    gaps: weighted sums of `bin_gaps`; row 0 the sample, the others its resamples.
    mass: of the bins.
    sizes: as `intervals.variances` asks for.
  """
  found = intervals.variances(gaps.reshape(len(gaps), -1), **sizes)
  return Chance((found.users + found.prompts - found.cells).reshape(gaps.shape[1:]), mass)


def bin_masses(
  confidence: Float[np.ndarray, 'L T N'], weights: Float[np.ndarray, 'T*N'], num_candidates: int
) -> Float[np.ndarray, 'C L']:
  """Returns the sum of the weights in each bin.

  Args:
    confidence: as of `bin_gaps`.
    weights: of the observations; add up to 1.
    num_candidates: K.
  """
  inside = bins(confidence, num_candidates).reshape(NUM_BINS, len(confidence), -1)
  return inside @ weights.astype(np.float64)


def expected_error(chance: Chance) -> Float[np.ndarray, 'L']:
  """Returns the calibration error that calibrated predictions get by chance: Σ_b s_b √(2/π)."""
  return np.sqrt(2 / np.pi * np.maximum(chance.variance, 0)).sum(0)


def signed_gaps(
  gaps: Float[np.ndarray, 'C L T N'],
  weights: Float[np.ndarray, 'T*N'],
  halves: tuple[Bool[np.ndarray, 'T N'], Bool[np.ndarray, 'T N']],
) -> Float[np.ndarray, 'L T N']:
  """Returns gaps whose weighted sum is the expected calibration error, free of chance.

      Σ_b sign(gap of bin b in the other half) (mean confidence - accuracy) of bin b, by its mass

  Chance makes |gap| of calibrated predictions positive; the sign that one half of the users gives
  knows nothing of the other half, so that they have 0 in expectation (but for prompts that both are
  asked of). Where gaps are wide the sign is right, and nothing is lost; between, the error is too
  low rather than too high.

  Args:
    gaps: of `bin_gaps`.
    weights: of the observations.
    halves: of the observations, by user.

  Reference:
    Guo et al. 2017, arXiv:1706.04599 (the error; their bins begin at 0, where the largest of K
    probabilities cannot lie).
  """
  flat = gaps.reshape(*gaps.shape[:2], -1)
  signed = np.zeros(flat.shape[1:], np.float32)
  for own, other in (halves, halves[::-1]):
    signs = np.sign(flat @ (weights * other.reshape(-1)))  # [C, L]
    signed += np.einsum('cl,clo->lo', signs, flat * own.reshape(-1))
  return signed.reshape(gaps.shape[1:])


def brier_calibration(gaps: Float[np.ndarray, 'J C L'], chance: Chance) -> Float[np.ndarray, 'J L']:
  """Returns the calibration part of the Brier score of the likeliest candidate, less chance.

      Σ_b (g_b² - s_b²) / p_b

  g_b the weighted sum of gaps of bin b, p_b its mass and s_b² the variance of g_b by chance. A
  resample that moves g_b by d moves the value by (2 h d + d²) / p_b, h² = max(g_b² - s_b², 0): with
  g_b in the place of h chance would count twice, and intervals of the calibrated be √3 too wide.

  Args:
    gaps: weighted sums of `bin_gaps`, the weights of a row adding up to 1; row 0 the sample itself.
    chance: of the same predictions.

  Reference:
    Murphy 1973 (the decomposition); Bröcker 2012, arXiv:1102.0770 (its bias).
  """
  mass = np.where(chance.mass > 0, chance.mass, 1)
  beyond = np.square(gaps[0], dtype=np.float64) - chance.variance
  likely = np.sign(gaps[0]) * np.sqrt(np.maximum(beyond, 0))
  moved = gaps - gaps[:1]
  return ((beyond + 2 * likely * moved + np.square(moved)) / mass).sum(1)


def confidence_slices(
  confidence: Float[np.ndarray, 'T N'], mass: Float[np.ndarray, 'T N']
) -> Float[np.ndarray, 'C T N']:
  """Returns which of NUM_SLICES of equal mass each prediction is in, the most confident first.

  Depends on confidences only, never on labels. Equal confidences share their slices in proportion.

  Args:
    confidence: of every prediction; anything where masked.
    mass: what it counts; 0 where masked.

  Returns:
    The share of every prediction in every slice; sums to 1 over slices, to 0 where masked.
  """
  order = np.argsort(-confidence, axis=None, kind='stable')
  falling, counted = -confidence.ravel()[order], mass.ravel()[order].astype(np.float64)
  above = np.concatenate([[0], np.cumsum(counted)])
  low = above[np.searchsorted(falling, falling, side='left')]
  high = above[np.searchsorted(falling, falling, side='right')]
  edges = above[-1] * np.arange(NUM_SLICES + 1)[:, None] / NUM_SLICES
  inside = np.maximum(np.minimum(high, edges[1:]) - np.maximum(low, edges[:-1]), 0)
  shares = np.zeros(inside.shape, np.float32)
  shares[:, order] = np.where(counted > 0, inside / np.where(high > low, high - low, 1), 0)
  return shares.reshape(NUM_SLICES, *confidence.shape)


def selective_accuracy(
  mass: Float[np.ndarray, 'C J L'], hits: Float[np.ndarray, 'C J L'], coverage: float
) -> Float[np.ndarray, 'J L']:
  """Returns the accuracy on the most confident `coverage` of the predictions.

  Every resample has its own cut: slices are taken from the most confident down until they hold that
  share of the resample's mass, and the last one in part.

  Args:
    mass: of every slice of `confidence_slices`, in the sample (row 0) and its resamples.
    hits: the part of it that was right.
    coverage: in (0, 1].

  Reference:
    El-Yaniv and Wiener 2010 (JMLR 11); Geifman and El-Yaniv 2017, arXiv:1705.08500.
  """
  quota = coverage * mass.sum(0)
  before = np.cumsum(mass, 0) - mass
  taken = np.clip(quota - before, 0, mass)
  rate = hits / np.where(mass > 0, mass, 1)
  return (taken * rate).sum(0) / quota
