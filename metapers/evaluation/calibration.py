"""Calibration: are predictions of 80 % right 80 % of the time, and are the confident ones right?"""

import numpy as np

from metapers.core.types import Float

NUM_BINS = 15
NUM_SLICES = 20  # 5 % of the predictions each


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
  least = 1 / num_candidates
  position = np.floor((confidence - least) / (1 - least) * NUM_BINS)
  index = np.clip(position, 0, NUM_BINS - 1)
  bins = np.arange(NUM_BINS).reshape(-1, 1, 1, 1)
  return np.where(index == bins, confidence - correct, 0).astype(np.float32)


def calibration_error(gaps: Float[np.ndarray, 'J C L']) -> Float[np.ndarray, 'J L']:
  """Returns the expected calibration error, sum over bins of |mean confidence - accuracy|.

  An absolute value only grows by resampling noise, so the resamples are moved to centre on the
  estimate, and none below 0.

  Args:
    gaps: weighted sums of `bin_gaps`, the weights of a row summing to 1; row 0 the sample itself.

  Reference:
    Guo et al. 2017, arXiv:1706.04599. Unlike the paper, the bins cover [1/K, 1], where the largest
    of K probabilities can lie.
  """
  error = np.abs(gaps).sum(1)
  centred = error[1:] + (error[0] - np.nanmean(error[1:], 0))
  return np.concatenate([error[:1], np.maximum(centred, 0)])


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
