"""Calibration: does a learner that says 80 % hit 80 % of the time?"""

import numpy as np

from metapers.core.types import Float

NUM_BINS = 15


def bin_gaps(
  confidence: Float[np.ndarray, 'L T N'],
  correct: Float[np.ndarray, 'L T N'],
  num_candidates: int,
) -> Float[np.ndarray, 'C L T N']:
  """Puts confidence - correct of every observation into the bin of its confidence, 0 elsewhere.

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
