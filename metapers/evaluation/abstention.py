"""When not to answer: the least confidence at which answers are right as often as wanted.

A prediction is given where max_k P(k) >= λ. By the comparisons of calibration users a λ is found
with

    P(E[errors answered] <= (1 - accuracy) E[answered]) >= level,

the expectations over users and their queries at a fixed number of shots, the probability over the
calibration users. It holds for any learner and any number of users, as long as new users, their
support and their queries come about as those of calibration did; there is no claim for one user,
and none for users, queries or numbers of shots of another kind.

References:
  Angelopoulos, Bates, Candès, Jordan and Lei 2021, arXiv:2110.01052 (Learn then Test);
  Waudby-Smith and Ramdas 2020, arXiv:2010.09686 (tests of bounded means by betting).
"""

from typing import NamedTuple

import numpy as np

from metapers.core.types import Bool, Float
from metapers.evaluation import intervals

LEAST_USERS = 500
NUM_THRESHOLDS = 50
NUM_STARTS = 5
MOST_AT_STAKE = 0.99  # of the wealth, in the bet on one user


class Abstention(NamedTuple):
  """A rule that says which predictions are given; all of it are JSON values.

  threshold: least confidence at which one is given; None where none is.
  accuracy: least share of right answers, over users and queries.
  level: probability, over calibration users, that it is reached.
  shots: comparisons that are known of each user.
  num_users: calibration users that had queries.
  """

  threshold: float | None
  accuracy: float
  level: float
  shots: int
  num_users: int

  def __str__(self) -> str:
    claim = f'at least {self.accuracy:.0%} of answers are right after {self.shots} comparisons'
    if self.threshold is None:
      return f'abstains everywhere: {self.num_users} users show of no threshold that {claim}'
    return (
      f'answers where the probability is at least {self.threshold:.3g}: {claim}, at level '
      f'{self.level:g} by {self.num_users} users'
    )

  def answers(self, confidence: Float[np.ndarray, '*batch']) -> Bool[np.ndarray, '*batch']:
    """Returns where a prediction is given.

    Args:
      confidence: max_k P(k); of two candidates max(p, 1 - p).
    """
    least = np.inf if self.threshold is None else self.threshold
    return np.asarray(confidence, np.float64) >= least


class Observed(NamedTuple):
  """Predictions for T users and what they chose, [T, N].

  confidence: max_k P(k). correct: 1 where that is the choice, 1/n where it is one of n tied.
  weight: how often a comparison counts; 0 where there is none.
  """

  confidence: Float[np.ndarray, 'T N']
  correct: Float[np.ndarray, 'T N']
  weight: Float[np.ndarray, 'T N']


class Answered(NamedTuple):
  """What a rule gave. answered: share of queries. right: share of answers; NaN without any.

  right_half: half a 95 % interval of `right` over users.
  """

  answered: float
  right: float
  right_half: float


def calibrate(
  observed: Observed,
  *,
  shots: int,
  accuracy: float = 0.9,
  level: float = 0.9,
  num_candidates: int = 2,
) -> Abstention:
  """Returns the rule that answers most among those shown to be right often enough.

  Thresholds are tested from strict to lax, H_λ: E[excess_u(λ)] > 0 (see `excess`), until one is not
  rejected; this from NUM_STARTS thresholds on, each time at level (1 - level) / NUM_STARTS, since
  at the strictest one there may be nearly no answers, and so no evidence. The chance that any true
  H_λ is rejected is then at most 1 - level.

  Args:
    observed: of the calibration users, all after the same number of comparisons.
    shots: that number.
    accuracy: least share of right answers.
    level: of the guarantee.
    num_candidates: K; thresholds divide [1/K, 1] evenly, the last one answers everything.

  Raises:
    ValueError: for an accuracy or level outside (0, 1), fewer than LEAST_USERS users with queries,
      or values that are none of an observation.
  """
  for name, value in {'accuracy': accuracy, 'level': level}.items():
    if not 0 < value < 1:
      raise ValueError(f'{name} must lie between 0 and 1, got {value}')
  kept = with_queries(observed)
  num_users = len(kept.weight)
  if num_users < LEAST_USERS:
    raise ValueError(
      f'calibration needs at least {LEAST_USERS} users with queries, got {num_users}: the claim is '
      'of users, so that more queries of the same ones do not help'
    )
  grid = thresholds(num_candidates)
  error_rate = (1 - level) / NUM_STARTS
  excesses = np.stack([excess(kept, least, accuracy) for least in grid])
  last = last_rejected(p_value(excesses, accuracy, error_rate) <= error_rate)
  return Abstention(None if last is None else float(grid[last]), accuracy, level, shots, num_users)


def with_queries(observed: Observed) -> Observed:
  """Returns the users who have a comparison that counts, in float64.

  Raises:
    ValueError: for shapes that differ, or values that are none of an observation.
  """
  arrays = Observed(*(np.asarray(each, np.float64) for each in observed))
  if len({array.shape for array in arrays}) > 1 or arrays.weight.ndim != 2:
    raise ValueError(
      'confidence, correct and weight must be [T, N] each, got '
      + ', '.join(str(list(array.shape)) for array in arrays)
    )
  real = arrays.weight != 0
  if not np.isfinite(arrays.weight).all() or (arrays.weight < 0).any():
    raise ValueError('weight must be finite and at least 0; 0 stands for no comparison')
  for name, array in zip(('confidence', 'correct'), arrays):
    if not ((array >= 0) & (array <= 1))[real].all():
      raise ValueError(f'{name} must lie in [0, 1] wherever weight is above 0')
  filled = Observed(*(np.where(real, array, 0) for array in arrays))
  return Observed(*(array[real.any(1)] for array in filled))


def thresholds(num_candidates: int) -> Float[np.ndarray, 'L']:
  """Returns NUM_THRESHOLDS confidences from strict to lax; at 0, the last, all is answered."""
  least = 1 / num_candidates
  grid = least + (1 - least) * np.arange(NUM_THRESHOLDS)[::-1] / NUM_THRESHOLDS
  return np.append(grid[:-1], 0.0)


def excess(observed: Observed, threshold: float, accuracy: float) -> Float[np.ndarray, 'T']:
  """Returns the errors of each user beyond those allowed, as a share of their queries.

      excess_u(λ) = Σ_n w_un [confidence_un >= λ] (accuracy - correct_un) / Σ_n w_un

  It lies in [accuracy - 1, accuracy], and its mean over users is at most 0 where at least a share
  `accuracy` of the answers is right.
  """
  given = observed.weight * (observed.confidence >= threshold)
  return (given * (accuracy - observed.correct)).sum(1) / observed.weight.sum(1)


def p_value(
  excess: Float[np.ndarray, 'L T'], accuracy: float, error_rate: float
) -> Float[np.ndarray, 'L']:
  """Returns p-values of H: E[excess_u] >= 0 for T independent users, valid at every T.

      1 / max_t Π_{u <= t} (1 - b_u excess_u),  0 <= b_u <= MOST_AT_STAKE / accuracy

  Under H no bet gains in expectation whose size b_u follows from the users before u, so that the
  chance that the wealth is ever 1/p is at most p (Ville's inequality). Sizes are those by which
  wealth reaches 1/error_rate soonest, b_u = √(2 log(1/error_rate) / (T var)) with the variance of
  the users before; of several tests this one found most, the users in the order given.

  Args:
    excess: in [accuracy - 1, accuracy], of users in an order that says nothing of them.
    accuracy: see `excess`.
    error_rate: for which the bets are best; the p-value holds at all.
  """
  size = excess.shape[-1]
  count = np.arange(2, size + 2)  # of users so far, and one more for the start
  mean = (np.cumsum(excess, -1) + accuracy - 0.5) / count
  variance = (np.cumsum((excess - mean) ** 2, -1) + 0.25) / count
  before = np.insert(variance[..., :-1], 0, 0.25, -1)
  bets = np.sqrt(2 * np.log(1 / error_rate) / (size * before))
  bets = np.minimum(bets, MOST_AT_STAKE / accuracy)
  log_wealth = np.cumsum(np.log1p(-bets * excess), -1)
  return np.exp(-np.maximum(log_wealth.max(-1), 0))


def last_rejected(is_rejected: Bool[np.ndarray, 'L']) -> int | None:
  """Returns where the fixed sequences end that begin at NUM_STARTS hypotheses; None if nowhere.

  Each goes on while it rejects (algorithm 1 of Learn then Test).
  """
  starts = np.arange(NUM_STARTS) * len(is_rejected) // NUM_STARTS
  ends = [start + np.cumprod(is_rejected[start:]).sum() - 1 for start in starts]
  return max((int(end) for start, end in zip(starts, ends) if end >= start), default=None)


def answered(rule: Abstention, observed: Observed) -> Answered:
  """Returns what a rule gives users, each of whom counts the same.

  The interval is that of a ratio of two means over users, by linearisation.
  """
  kept = with_queries(observed)
  total = kept.weight.sum(1)
  given = kept.weight * rule.answers(kept.confidence)
  share, right = given.sum(1) / total, (given * kept.correct).sum(1) / total  # [T]
  if not share.any():
    return Answered(0.0, np.nan, np.nan)
  ratio = right.sum() / share.sum()
  deviation = np.std(right - ratio * share, ddof=1) / np.sqrt(len(total))
  return Answered(share.mean(), ratio, intervals.NORMAL * deviation / share.mean())
