"""What people answer beside a plain choice, in the form that a model was trained on."""

import jax.numpy as jnp
import numpy as np

from metapers.core import outcomes
from metapers.core.task import Candidates
from metapers.core.types import Bool, Float, Int
from metapers.serving.exports import Export

OUTCOMES = ('chosen', *outcomes.KINDS)


def coded(named: np.ndarray) -> Int[np.ndarray, '*N']:
  """Returns answers as indices into OUTCOMES.

  Raises:
    ValueError: for an unknown one.
  """
  known = np.array(OUTCOMES)
  if not np.isin(named, known).all():
    unknown = named[~np.isin(named, known)].ravel()[:3].tolist()
    raise ValueError(f'outcome must be one of {", ".join(OUTCOMES)}, got {unknown}')
  return (named[..., None] == known).argmax(-1)


def expanded(
  scaled: Float[np.ndarray, '*N 2 D'],
  shown: Bool[np.ndarray, '*N 2'],
  choice: Int[np.ndarray, '*N'],
  outcome: Int[np.ndarray, '*N'],
  export: Export,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Returns candidates, which are real, and the choice, of who could have answered otherwise.

  Raises:
    ValueError: for answers that the model was trained without.
  """
  if outcome.shape != choice.shape or shown.shape[-1] != 2:
    raise ValueError(
      f'outcomes are of pairs, one each: expected {list(choice.shape)} and 2 candidates, got '
      f'{list(outcome.shape)} and {shown.shape[-1]}'
    )
  answered = {OUTCOMES[code] for code in np.unique(outcome[shown.any(-1)])}
  unknown = sorted(answered - {'chosen', 'strong', *export.outcomes})
  if unknown:
    raise ValueError(
      f'this {export.learner} was trained without the answers {", ".join(unknown)}: train on a '
      'table that has them (ties=outcomes), leave them out, or approximate ties by '
      'serving.halves.ties_as_halves'
    )
  if not export.outcomes:
    return scaled, shown, choice
  texts = Candidates(jnp.asarray(scaled), jnp.asarray(shown))
  offered = outcomes.expand(texts, export.outcomes)
  index = outcomes.choice_of(jnp.asarray(outcome), jnp.asarray(choice == 1), export.outcomes)
  return np.asarray(offered.features), np.asarray(offered.mask), np.asarray(index)


def given(
  index: Int[np.ndarray, '*N'], kinds: tuple[str, ...]
) -> tuple[Int[np.ndarray, '*N'], Int[np.ndarray, '*N']]:
  """Returns the choice and the outcome of which `expanded` made an index among outcomes."""
  known = outcomes.outcomes_of(kinds)
  second = np.array([one.weights[1] > one.weights[0] for one in known], np.int32)
  codes = np.array([OUTCOMES.index(one.kind or 'chosen') for one in known], np.int32)
  return second[index], codes[index]
