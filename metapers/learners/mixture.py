"""Mixtures of predictions and of draws: each part as often as its share asks."""

import jax
import jax.numpy as jnp

from metapers.core import choice_model, masked
from metapers.core.types import Array, Bool, Float, Int


def log_probs(
  scores: Float[Array, 'b N K'], shares: Float[Array, 'b'], mask: Bool[Array, 'N K']
) -> Float[Array, 'N K']:
  """Returns log Σ_b share_b P_b(k) [N, K], in nats; masked candidates get the dtype's minimum."""
  log_p = jax.vmap(choice_model.log_probs, (0, None))(scores, mask)
  log_shares = jnp.log(jnp.maximum(shares, jnp.finfo(shares.dtype).tiny))
  mixed = jax.nn.logsumexp(log_p + log_shares[:, None, None], 0)
  return masked.fill(mixed, mask, float(jnp.finfo(mixed.dtype).min))


def own_draws(groups: Int[Array, 'S'], num_groups: int, num_draws: int) -> Int[Array, 'S']:
  """Returns which of its group's draws each sample takes: evenly spread, for they may be sorted.

  Args:
    groups: of each sample, in order, as of `stratified`.
    num_groups: how many there are.
    num_draws: of each group.
  """
  counts = jnp.bincount(groups, length=num_groups)
  place = jnp.arange(groups.size) - (jnp.cumsum(counts) - counts)[groups]
  return (2 * place + 1) * num_draws // (2 * counts[groups])


def stratified(shares: Float[Array, 'k'], num_samples: int) -> Int[Array, 'S']:
  """Returns S rows, each as often as its share asks to within one, without randomness."""
  middles = (jnp.arange(num_samples) + 0.5) / num_samples
  rows = jnp.searchsorted(jnp.cumsum(shares), middles)
  return jnp.minimum(rows, shares.size - 1)  # the shares may sum to a little less than 1
