"""What comparisons say about a simulated user's weights, fast enough for a million particles.

`choice_rules.log_joint` is the rule; this is the same rule for the choice that was made, written on
gaps of utility, which are linear in the weights, with the particles on the LAST axis: the one that
processors vectorise over. A test holds the two together.
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from metapers.core.types import Array, Bool, Float, Int

TINY = float(np.finfo(np.float32).tiny)


class Rule(NamedTuple):
  """What is known beforehand, statically.

  pair_rule: one of `choice_rules.PAIR_RULES`. num_candidates: K. floor: [B] least weights of the
  users; none for the whole simplex.
  """

  pair_rule: str
  num_candidates: int
  floor: tuple[float, ...] = ()


class UserModels(NamedTuple):
  """The condition of each of S particles, or S conditions: the fields of `Condition`."""

  concentration: Float[Array, 'S']
  temperature: Float[Array, 'S']
  flip_rate: Float[Array, 'S']


class Evidence(NamedTuple):
  """N comparisons, each of the chosen candidate with the E - 1 others that bear on it.

  contrasts: [E-1, N, B] rewards of the chosen candidate minus those of another, the other
    candidates shown first. mask: [E-1, N], True where that other one is real.
  """

  contrasts: Float[Array, 'E1 N B']
  mask: Bool[Array, 'E1 N']


def evidence_of(
  rewards: Float[Array, 'N E B'], mask: Bool[Array, 'N E'], choice: Int[Array, 'N'], *, rule: Rule
) -> Evidence:
  """Subtracts every other candidate's rewards from the chosen one's.

  Args:
    rewards: [N, E, B], the K candidates shown first.
    mask: [N, E].
    choice: [N], in 0..K-1.
    rule: what is shown.
  """
  last = rule.num_candidates - 1
  position = jnp.arange(mask.shape[-1] - 1)[None]
  # The last candidate shown stands in for the chosen one, so that those shown stay first.
  shown = jnp.where(position == choice[:, None], last, position)
  other = jnp.where(position < last, shown, position + 1)  # [N, E-1]
  real = jnp.take_along_axis(mask, other, 1)
  chosen = jnp.take_along_axis(rewards, choice[:, None, None], 1)
  contrasts = chosen - jnp.take_along_axis(rewards, other[..., None], 1)
  return Evidence(jnp.where(real[..., None], contrasts, 0).swapaxes(0, 1), real.T)


def probability(
  gaps: Float[Array, 'E1 N S'], mask: Bool[Array, 'E1 N'], conditions: UserModels, *, rule: Rule
) -> Float[Array, 'N S']:
  """Returns P(shown, choice | w) of the choice made, up to a constant that no user changes.

  1 / (1 + Σ_k exp(-gap_k / T)) over the other candidates shown. T -> 0 is its noiseless limit, ties
  shared equally, so that one expression serves both.

  Args:
    gaps: [E-1, N, S] utility of the chosen candidate minus that of the others.
    mask: [E-1, N].
    conditions: [S].
    rule: what is shown.
  """
  num_others = rule.num_candidates - 1
  real = mask[:num_others, :, None]
  scaled = gaps[:num_others] / jnp.maximum(conditions.temperature, TINY)[None, None]
  chosen = 1 / (1 + jnp.where(real, jnp.exp(-scaled), 0).sum(0))
  flipped = (1 - chosen) / jnp.maximum(real.sum(0), 1)
  noisy = chosen + conditions.flip_rate[None] * (flipped - chosen)
  if rule.pair_rule != 'extreme':
    return noisy
  low, high = jnp.minimum(gaps[:1], 0), jnp.maximum(gaps[:1], 0)
  between = (gaps >= low) & (gaps <= high)  # of the user's argmax and argmin, which are shown
  return noisy * (between | ~mask[..., None]).all(0)
