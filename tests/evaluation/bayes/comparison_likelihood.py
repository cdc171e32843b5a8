"""The likelihood of comparisons as the rules of the simulator read, to hold `evidence` to."""

import jax.numpy as jnp

from metapers.core import masked
from metapers.core.types import Array, Bool, Float
from metapers.populations import choice_rules


def log_joint(
  utilities: Float[Array, '*batch E'],
  mask: Bool[Array, '*batch E'],
  *,
  pair_rule: str,
  num_candidates: int,
  temperature: Float[Array, '...'],
  flip_rate: Float[Array, '...'],
) -> Float[Array, '*batch K']:
  """Returns log P(shown, choice = k | user), up to a constant that no user changes.

  Under `extreme` a pair is shown only if it is the user's argmax and argmin: a user for whom it is
  not has likelihood 0. Under the other rules what is shown says nothing about the user.

  Args:
    utilities: [..., E] the user's rewards; the K shown come first.
    mask: [..., E].
    pair_rule: one of `choice_rules.PAIR_RULES`.
    num_candidates: K.
    temperature: broadcastable to [...].
    flip_rate: broadcastable to [...].
  """
  shown, shown_mask = utilities[..., :num_candidates], mask[..., :num_candidates]
  log_p = choice_rules.log_choice(shown, shown_mask, temperature=temperature, flip_rate=flip_rate)
  if pair_rule != 'extreme':
    return log_p
  is_top = shown.max(-1) >= masked.largest(utilities, mask)
  is_bottom = -shown.min(-1) >= masked.largest(-utilities, mask)
  return jnp.where((is_top & is_bottom)[..., None], log_p, -jnp.inf)
