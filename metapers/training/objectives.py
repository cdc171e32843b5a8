"""How the losses of a batch of users become one number; some objectives couple users."""

from typing import NamedTuple

import jax.numpy as jnp

from metapers.core.types import Array, Callable, Float, Int, PyTree, Scalar


class Objective(NamedTuple):
  """init: `() -> state`. apply: `(losses [T], groups [T], state) -> (scalar, state)`.

  `groups` are the users' rows among the known users; the state is carried from step to step.
  """

  init: Callable[[], PyTree]
  apply: Callable[[Float[Array, 'T'], Int[Array, 'T'], PyTree], tuple[Scalar, PyTree]]


def mean() -> Objective:
  """The mean over users; stateless."""

  def apply(losses, groups, state):
    del groups
    return jnp.mean(losses), state

  return Objective(lambda: (), apply)
