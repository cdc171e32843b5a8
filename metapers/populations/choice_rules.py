"""Which candidates a simulated user is shown, which one they choose, and how likely it was.

The drawing of a choice and its likelihood stand side by side, since a Bayesian ceiling
(`evaluation/bayes/evidence.py`) is exact only if it inverts the very rule that made the data. `E`
candidates bear on a comparison: the K shown first, then, under `extreme`, the rest of the slate
(the user's own preferences picked the pair).
"""

import jax
import jax.numpy as jnp

from metapers.core import masked
from metapers.core.types import Array, Bool, Float, Int, PRNGKey

PAIR_RULES = ('random', 'extreme', 'controversial', 'best_of_k')


def num_evidence(pair_rule: str, num_candidates: int, num_responses: int) -> int:
  """Returns E: the whole slate under `extreme`, else the K shown."""
  return num_responses if pair_rule == 'extreme' else num_candidates


def is_controversial(rewards: Float[Array, 'R B']) -> Bool[Array, 'R R']:
  """Returns the pairs of responses on which the reward models do not all agree."""
  above = rewards[:, None] > rewards[None]  # [R, R, B]
  return jnp.any(above, -1) & jnp.any(jnp.swapaxes(above, 0, 1), -1)


def draw_shown(
  key: PRNGKey,
  rewards: Float[Array, 'R B'],
  utilities: Float[Array, 'R'],
  mask: Bool[Array, 'R'],
  *,
  pair_rule: str,
  num_candidates: int,
) -> tuple[Int[Array, 'E'], Bool[Array, '']]:
  """Returns what one user is shown of one slate, drawn by the pair rule and in random order.

  Args:
    key: PRNG key.
    rewards: [R, B] scores of the slate by the reward models.
    utilities: [R] the user's own rewards.
    mask: [R] which responses may be shown.
    pair_rule: one of PAIR_RULES. `random` and `best_of_k` draw K responses uniformly;
      `controversial` a pair uniformly among those the reward models disagree on; `extreme` shows
      the user's argmax against their argmin, of tied ones any.
    num_candidates: K.

  Returns:
    Slate positions [E], the K shown first, and whether the slate has such candidates at all.
  """
  key_draw, key_order = jax.random.split(key)
  priority = jax.random.gumbel(key_draw, mask.shape, jnp.float32)
  allowed = mask
  if pair_rule == 'extreme':
    best = among_largest(utilities, mask, priority)
    worst = among_largest(-utilities, mask.at[best].set(False), priority)
    shown = (jnp.arange(mask.size) == best) | (jnp.arange(mask.size) == worst)
    within = jax.random.uniform(key_order, mask.shape, jnp.float32)  # in [0, 1): more would round
    priority = shown + within
  elif pair_rule == 'controversial':
    pairs = is_controversial(masked.fill_features(rewards, mask)) & mask[None] & mask[:, None]
    pair_priority = jax.random.gumbel(key_draw, pairs.shape, jnp.float32)
    flat = masked.argmax(pair_priority.ravel(), pairs.ravel())
    shown = jnp.zeros_like(mask).at[jnp.stack(jnp.divmod(flat, mask.size))].set(True)
    allowed = mask & shown & jnp.any(pairs)
    priority = jax.random.uniform(key_order, mask.shape, jnp.float32)
  size = num_evidence(pair_rule, num_candidates, mask.size)
  # On a CPU a tenth of the time of `argsort`, which sorts slate by slate: docs/speed.md.
  _, order = jax.lax.top_k(masked.fill(priority, allowed, -jnp.inf), size)
  return order, jnp.sum(allowed) >= 2


def among_largest(
  x: Float[Array, 'R'], mask: Bool[Array, 'R'], priority: Float[Array, 'R']
) -> Int[Array, '']:
  """Returns the position of the largest real entry; of tied ones that of the highest priority."""
  return masked.argmax(priority, mask & (x >= masked.largest(x, mask)))


def log_choice(
  utilities: Float[Array, '*batch K'],
  mask: Bool[Array, '*batch K'],
  *,
  temperature: Float[Array, '...'],
  flip_rate: Float[Array, '...'],
) -> Float[Array, '*batch K']:
  """Returns log P(choice = k), exactly -inf where impossible.

  P(k) ∝ exp(utility_k / temperature), or all on the maximum at temperature 0; then, with
  probability `flip_rate`, a uniform other candidate instead.

  Args:
    utilities: [..., K] rewards of the shown candidates.
    mask: [..., K].
    temperature: >= 0, broadcastable to the batch [...].
    flip_rate: in [0, 1], likewise.
  """
  batch = utilities.shape[:-1]
  temperature = jnp.broadcast_to(temperature, batch)[..., None]
  flip = jnp.broadcast_to(flip_rate, batch)[..., None]
  noisy = masked.log_softmax(utilities / jnp.where(temperature > 0, temperature, 1), mask)
  best = mask & (utilities >= masked.largest(utilities, mask)[..., None])
  sharp = jnp.where(best, -jnp.log(jnp.maximum(masked.count(best, -1, keepdims=True), 1)), -jnp.inf)
  log_p = jnp.where(temperature > 0, noisy, sharp)
  others = jnp.maximum(masked.count(mask, -1, keepdims=True) - 1, 1)
  log_other = jnp.log1p(-jnp.minimum(jnp.exp(log_p), 1)) - jnp.log(others)
  flipped = jnp.logaddexp(jnp.log1p(-flip) + log_p, jnp.log(flip) + log_other)
  return jnp.where(mask, flipped, -jnp.inf)


def draw_choice(
  key: PRNGKey,
  utilities: Float[Array, 'K'],
  mask: Bool[Array, 'K'],
  *,
  temperature: Float[Array, ''],
  flip_rate: Float[Array, ''],
) -> Int[Array, '']:
  """Returns one user's choice, drawn from `log_choice`."""
  log_p = log_choice(utilities, mask, temperature=temperature, flip_rate=flip_rate)
  return jax.random.categorical(key, log_p)
