"""The likelihood of comparisons along lines of weights, on which particles are moved.

With w_b = t, and the proportions among the other weights held fixed, every gap of utility is
own t + rest (1 - t). It is at least 0 where the odds t / (1 - t) are at least -rest / own, or at
most that where own < 0: under `extreme`, where each comparison has gaps to all responses of a
slate, the odds at which the two shown are a user's best and worst are known before any is proposed.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from metapers.core.types import Array, Bool, Callable, Float
from metapers.evaluation.bayes import evidence
from metapers.evaluation.bayes.evidence import TINY, Evidence, Gaps, Rule, UserModels

Along = Callable[[Array], Array]  # log-odds of w_b [S] -> likelihood of N comparisons [N, S]


class Range(NamedTuple):
  """The odds at which all of some linear functions are at least 0; empty where low > high."""

  low: Float[Array, 'N S']
  high: Float[Array, 'N S']


def likelihood(
  own: Gaps, rest: Gaps, given: Evidence, user_models: UserModels, *, rule: Rule
) -> Along:
  """Returns what gives P(shown, choice | w), as `evidence.likelihood`, of the log-odds of w_b.

  Args:
    own: gaps at w_b = 1, the same for all particles: [..., 1].
    rest: gaps at w_b = 0, [..., S].
    given: N comparisons.
    user_models: [S].
    rule: what is shown.
  """
  if rule.pair_rule == 'extreme' and given.hidden is None:
    return of_slates(own[0], rest[0], given, user_models, rule)
  return lambda x: evidence.likelihood(mix(own, rest, x), given, user_models, rule=rule)


def mix(own: Gaps, rest: Gaps, x: Float[Array, 'S']) -> Gaps:
  """Returns the gaps at log-odds x."""
  first, second = jax.nn.sigmoid(x)[None, None], jax.nn.sigmoid(-x)[None, None]
  return jax.tree.map(lambda own, rest: own * first + rest * second, own, rest)


def of_slates(
  own: Float[Array, 'E1 N 1'],
  rest: Float[Array, 'E1 N S'],
  given: Evidence,
  user_models: UserModels,
  rule: Rule,
) -> Along:
  """Returns `likelihood` of pairs that are a user's best and worst of slates which are seen."""
  shown_rule = rule._replace(pair_rule='random')
  # No gap, and none to the other one shown, is below 0, or none is above: all lie between the two.
  # Those that are masked have no contrasts, and so no bearing.
  at_all, at_none = (jnp.concatenate([gaps, gaps[:1] - gaps[1:]]) for gaps in (own, rest))
  best, worst = where_positive(at_all, at_none), where_positive(-at_all, -at_none)
  of_all, of_none = at_all == 0, at_none == 0
  shares = [tie_share(is_tied, given.mask) for is_tied in (of_all & of_none, of_none, of_all)]

  def along(x):
    odds = jnp.exp(x)[None]
    gap, _ = mix((own[:1], None), (rest[:1], None), x)
    chosen = evidence.probability(gap, given.mask[:1], user_models, rule=shown_rule)
    # Odds that are 0 or inf have rounded one side away, and made ties by that.
    share = jnp.where(odds == 0, shares[1], jnp.where(jnp.isinf(odds), shares[2], shares[0]))
    return jnp.where(contains(best, odds) | contains(worst, odds), chosen * share, 0)

  return along


def where_positive(own: Float[Array, 'F N 1'], rest: Float[Array, 'F N S']) -> Range:
  """Returns the odds r at which own r + rest is at least 0 for all F functions.

  Args:
    own: slopes; one of 0 stands for the least above it, which odds of inf still overcome.
    rest: values at odds of 0.
  """
  slope = jnp.where(own == 0, TINY, own)
  crossing = rest * (-1 / slope)
  low = jnp.where(slope > 0, crossing, -jnp.inf).max(0)
  return Range(low, jnp.where(slope < 0, crossing, jnp.inf).min(0))


def contains(found: Range, odds: Float[Array, '1 S']) -> Bool[Array, 'N S']:
  """Tells whether odds lie in a range, its ends among it."""
  return (odds >= found.low) & (odds <= found.high)


def tie_share(is_tied: Bool[Array, 'F N S'], mask: Bool[Array, 'E1 N']) -> Float[Array, 'N S']:
  """Returns with which probability those shown are, among others that are as good and as bad.

  Args:
    is_tied: whether each other candidate is like the chosen one, and after that whether each but
      the first is like the first.
    mask: of the other candidates.
  """
  size = mask.shape[0]
  real = jnp.concatenate([mask, mask[1:]])[..., None]
  first, second = (part.sum(0) for part in jnp.split(is_tied & real, [size]))
  return 1 / ((1.0 + first) * (1.0 + second))
