"""How sure somebody was of a choice, as its weight: an approximation, for any model."""

import numpy as np

from metapers.core.outcomes import NO_CHOICE
from metapers.core.types import Bool, Float, Int
from metapers.serving import profiles
from metapers.serving.answers import OUTCOMES


def information(confidence: Float[np.ndarray, '*N']) -> Float[np.ndarray, '*N']:
  """Returns w(c) = (2c - 1)²: what a choice of confidence c says, of what a sure one says.

  Who would choose otherwise on reflection with rate 1 - c answers by P(a) = c σ(d) + (1 - c) σ(-d),
  d = u_a - u_b. The Fisher information of d in that is P'² / (P (1 - P)), which is (2c - 1)² / 4 at
  d = 0, and 1/4 of a sure choice. A weight w keeps the likelihood log-concave, as P is not; unlike
  P, σ(d)ʷ lets an answer that is far off count without a limit. The slope of log P at d = 0 would
  be that of the weight 2c - 1, which reads unsure answers as too sure: docs/people.md measures it.

  Args:
    confidence: c, .5 (nothing is said) to 1 (a plain choice).
  """
  return np.square(2 * confidence - 1)


def weights(
  confidence: np.ndarray,
  weight: np.ndarray | None,
  mask: Bool[np.ndarray, '*N'],
  outcome: Int[np.ndarray, '*N'] | None,
) -> np.ndarray:
  """Returns the weights of comparisons, what each says by its confidence multiplied in.

  Args:
    confidence: [*N], of each that its choice is the one on reflection.
    weight: [*N], how often each counts; None for once.
    mask: where a comparison is real.
    outcome: indices into OUTCOMES; None for choices.

  Raises:
    ValueError: for a confidence outside of .5 to 1, or below 1 where nothing was chosen, or a
      weight that cannot be.
  """
  if confidence.dtype.kind not in profiles.NUMBERS:
    raise ValueError(f'confidence must be numbers from 0.5 to 1, got dtype {confidence.dtype}')
  wrong = np.argwhere(mask & ~((confidence >= 0.5) & (confidence <= 1)))
  if wrong.size:
    at = tuple(wrong[0].tolist())
    raise ValueError(
      f'confidence of comparison {list(at)} is {confidence[at]}; expected the chance that the '
      'choice is the one made on reflection: 0.5, which says nothing, to 1 (below 0.5 the other '
      'one is preferred)'
    )
  if outcome is not None:
    neither = np.isin(outcome, [OUTCOMES.index(kind) for kind in NO_CHOICE])
    unsure = np.argwhere(mask & neither & (confidence < 1))
    if unsure.size:
      at = tuple(unsure[0].tolist())
      raise ValueError(
        f'confidence of comparison {list(at)} is {confidence[at]}, and its outcome '
        f'{OUTCOMES[outcome[at]]!r} prefers neither: a flip of a choice is known, not of that; '
        'give 1 there'
      )
  said = information(np.where(mask, confidence, 1))
  if weight is None:
    return said
  profiles.check_weights(weight, mask)
  return np.where(mask, weight, 0) * said
