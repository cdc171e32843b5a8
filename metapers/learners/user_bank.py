"""Known users as a bank of linear heads: how each is fitted, and how well it explains a choice."""

from typing import NamedTuple

import jax.numpy as jnp

from metapers.core import batches, task
from metapers.core.task import Candidates, Task
from metapers.core.types import Array, Callable, Float, Params, Scalar
from metapers.learners import newton
from metapers.learners.utility import utilities
from metapers.networks.network import Network

CHUNK = 32  # known users fitted at once


class Agreement(NamedTuple):
  """How well each known user explains a support.

  log_likelihood: ℓ_b = Σ_n weight_n log P_b(choice_n), [U]. weight: n = Σ_n weight_n.
  """

  log_likelihood: Float[Array, 'U']
  weight: Float[Array, '']


class KnownUserBank(NamedTuple):
  """Known users: what each adds to the pooled utility, v_b·x, and whether the row holds a user.

  heads: v, [U, D]. is_used: [U], 1 or 0.
  """

  heads: Float[Array, 'U D']
  is_used: Float[Array, 'U']


def utilities_of(
  network: Network, params: Params, heads: Float[Array, 'b D'], candidates: Candidates
) -> Float[Array, 'b N K']:
  """Returns m(x) + v·x of each head v."""
  own = jnp.einsum('nkd,bd->bnk', candidates.features, heads)
  return utilities(network, params['pooled'], candidates)[None] + own


def check_number(histories: Task, num_histories: int, *, name: str = 'lookup') -> None:
  """Raises ValueError for histories of another number of users than the bank has rows.

  Raises:
    ValueError: naming both numbers.
  """
  given = histories.support.choice.shape[0]
  if given != num_histories:
    raise ValueError(
      f'{name} was built with num_histories={num_histories} and is given the histories of {given} '
      'users: build it with the number that the population shows'
    )


def fit_bank(
  offset: Callable[[Candidates], Array], histories: Task, ridge: float | Scalar, num_steps: int
) -> KnownUserBank:
  """Returns the minimum over v of NLL(history) + ½ ridge ‖v‖² of each known user.

  Args:
    offset: the pooled utility m: candidates -> [N, K].
    histories: [U, ...]; rows without any weight hold no user.
    ridge: prior precision of v.
    num_steps: Newton steps.
  """
  scale = ridge**-0.5  # v = scale · (a head under a standard normal prior)

  def fit(user):
    history = task.take(histories.support, user)
    factors = scale * history.candidates.features
    return scale * newton.mode(offset(history.candidates), factors, history, num_steps=num_steps)

  is_used = task.total_weight(histories.support) > 0
  heads = batches.map_chunks(fit, is_used.size, CHUNK)
  return KnownUserBank(heads, is_used.astype(heads.dtype))
