"""The likelihood of comparisons under a simulated user's weights, for a million particles at once.

The rule of `choice_rules` for the choice that was made, written on gaps of utility, which are
linear in the weights, with the particles on the LAST axis: the one that processors vectorise over.
A test holds the two together.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from metapers.core.population import UserModel
from metapers.core.types import Array, Bool, Float, Int
from metapers.evaluation.bayes import feature_scores, other_responses
from metapers.evaluation.bayes.feature_scores import Residuals
from metapers.evaluation.bayes.other_responses import Others

TINY = float(np.finfo(np.float32).tiny)
Hidden = Residuals | Others  # what is integrated out
Gaps = tuple[Array, Array | None]  # of utility: [E-1, N, S] of comparisons, [M, O, S] of `hidden`


class Rule(NamedTuple):
  """How all users are shown what they compare, and what is known of their weights; static.

  pair_rule: one of `choice_rules.PAIR_RULES`. num_candidates: K. floor: [B] least weights of the
  users; none for the whole simplex.
  """

  pair_rule: str
  num_candidates: int
  floor: tuple[float, ...] = ()


class UserModels(NamedTuple):
  """The user model of each of S particles: the fields of `population.UserModel` as arrays."""

  concentration: Float[Array, 'S']
  temperature: Float[Array, 'S']
  flip_rate: Float[Array, 'S']


def stack(user_models: Sequence[UserModel]) -> UserModels:
  """Returns user models as arrays [S]."""
  return UserModels(*map(jnp.asarray, np.asarray(user_models, np.float32).T))


class Evidence(NamedTuple):
  """N comparisons, each of the chosen candidate with the E - 1 others that bear on it.

  contrasts: [E-1, N, B] rewards of the chosen candidate minus those of another, the other
    candidates shown first. mask: [E-1, N], True where that other one is real. weight: [N], how
    often each comparison counts: its likelihood is P^weight. hidden: what is integrated out, None
    where all that bears on a comparison is seen. odds: [N, J] of the pairs, see `Others`.
    statement: the reward model that is known to have most of the weight, negative for none that is;
    None of users who are not asked.
  """

  contrasts: Float[Array, 'E1 N B']
  mask: Bool[Array, 'E1 N']
  weight: Float[Array, 'N']
  hidden: Hidden | None = None
  odds: Float[Array, 'N J'] | None = None
  statement: Int[Array, ''] | None = None

  @property
  def linear(self) -> Gaps:
    """What utilities are linear functions of the weights by: contrasts and hidden directions."""
    return self.contrasts, None if self.hidden is None else self.hidden.directions

  def only(self, n: Int[Array, '']) -> 'Evidence':
    """Returns comparison `n` alone, N = 1."""
    odds = None if self.odds is None else self.odds[n][None]
    contrasts, mask, weight = self.contrasts[:, n], self.mask[:, n], self.weight[n]
    one = contrasts[:, None], mask[:, None], weight[None]
    return Evidence(*one, self.hidden, odds, self.statement)

  def first(self, size: int) -> 'Evidence':
    """Returns the first comparisons, N = `size`."""
    odds = None if self.odds is None else self.odds[:size]
    contrasts, mask, weight = self.contrasts[:, :size], self.mask[:, :size], self.weight[:size]
    return Evidence(contrasts, mask, weight, self.hidden, odds, self.statement)


def evidence_of(
  rewards: Float[Array, 'N E B'],
  mask: Bool[Array, 'N E'],
  choice: Int[Array, 'N'],
  weight: Float[Array, 'N'] | None = None,
  *,
  rule: Rule,
) -> Evidence:
  """Returns the rewards of the chosen candidates minus those of every other one.

  Args:
    rewards: [N, E, B], the K candidates shown first.
    mask: [N, E].
    choice: [N], in 0..K-1.
    weight: [N], how often each comparison counts; by default once.
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
  weight = jnp.ones(choice.shape, rewards.dtype) if weight is None else weight
  return Evidence(jnp.where(real[..., None], contrasts, 0).swapaxes(0, 1), real.T, weight)


def no_evidence(capacity: int, num_evidence: int, num_models: int) -> Evidence:
  """Returns a buffer for the evidence of N = `capacity` comparisons, all of weight 0.

  Args:
    capacity: N.
    num_evidence: E, see `choice_rules.num_evidence`.
    num_models: B.
  """
  shape = num_evidence - 1, capacity
  return Evidence(
    jnp.zeros((*shape, num_models), jnp.float32),
    jnp.zeros(shape, bool),
    jnp.zeros(capacity, jnp.float32),
  )


def store(buffer: Evidence, new: Evidence, n: Int[Array, '']) -> Evidence:
  """Returns the buffer with the evidence of ONE comparison at `n`; unchanged beyond its end."""
  return Evidence(
    buffer.contrasts.at[:, n].set(new.contrasts[:, 0], mode='drop'),
    buffer.mask.at[:, n].set(new.mask[:, 0], mode='drop'),
    buffer.weight.at[n].set(new.weight[0], mode='drop'),
  )


def gaps_of(given: Evidence, weights: Float[Array, 'B S']) -> Gaps:
  """Returns all gaps of utility under S weights."""
  contrasts, directions = given.linear
  return contrasts @ weights, None if directions is None else directions @ weights


def likelihood(
  gaps: Gaps, given: Evidence, user_models: UserModels, *, rule: Rule
) -> Float[Array, 'N S']:
  """Returns P(shown, choice | w) of the choice made, what is hidden integrated out.

  Args:
    gaps: of utility, see `gaps_of`.
    given: N comparisons.
    user_models: [S].
    rule: what is shown.
  """
  own, along = gaps
  hidden = given.hidden
  if hidden is None:
    return probability(own, given.mask, user_models, rule=rule)
  assert along is not None
  if isinstance(hidden, Residuals):
    noise = user_models.temperature, user_models.flip_rate
    return feature_scores.probability(own[0], along, hidden, *noise)
  assert given.odds is not None
  as_shown = rule._replace(pair_rule='random')
  chosen = probability(own[:1], given.mask[:1], user_models, rule=as_shown)
  return chosen * other_responses.between(own, along, hidden, given.odds)


def probability(
  gaps: Float[Array, 'E1 N S'], mask: Bool[Array, 'E1 N'], user_models: UserModels, *, rule: Rule
) -> Float[Array, 'N S']:
  """Returns P(shown, choice | w) of the choice made, up to a constant that no user changes.

  1 / (1 + Σ_k exp(-gap_k / T)) over the other candidates shown. T -> 0 is its noiseless limit, ties
  shared equally, so that one expression serves both.

  Args:
    gaps: [E-1, N, S] utility of the chosen candidate minus that of the others.
    mask: [E-1, N].
    user_models: [S].
    rule: what is shown.
  """
  num_others = rule.num_candidates - 1
  real = mask[:num_others, :, None]
  scaled = gaps[:num_others] / jnp.maximum(user_models.temperature, TINY)[None, None]
  chosen = 1 / (1 + jnp.where(real, jnp.exp(-scaled), 0).sum(0))
  flipped = (1 - chosen) / jnp.maximum(real.sum(0), 1)
  noisy = chosen + user_models.flip_rate[None] * (flipped - chosen)
  if rule.pair_rule != 'extreme':
    return noisy
  low, high = jnp.minimum(gaps[:1], 0), jnp.maximum(gaps[:1], 0)
  between = (gaps >= low) & (gaps <= high)  # of the user's argmax and argmin, which are shown
  is_real = mask[..., None]
  tied = [(is_real & (gaps == shown)).sum(0) for shown in (0, gaps[:1])]  # any of them was shown
  return noisy * (between | ~is_real).all(0) / ((1 + tied[0]) * jnp.maximum(tied[1], 1))
