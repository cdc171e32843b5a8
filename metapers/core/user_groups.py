"""Groups of simulated users: by the reward model that has most of a user's weight."""

import jax.numpy as jnp

from metapers.core.population import Population
from metapers.core.task import Truth
from metapers.core.types import Array, Float, Int


def num_groups(population: Population) -> int:
  """Returns G = B, the number of reward models; 0 of users who have no weights of any.

  Args:
    population: real people have no groups, nor have toy users who are of types in place of weights.
  """
  simulation = population.simulation
  return len(simulation.reward_models) if simulation and simulation.users else 0


def favourite(weights: Float[Array, '*T B']) -> Int[Array, '*T']:
  """Returns each user's group: argmax_b w_b, the first of equals."""
  return jnp.argmax(weights, -1).astype(jnp.int32)


def group_of(truth: Truth | None) -> Int[Array, '']:
  """Returns the group of one user; 0 where there are no groups."""
  return jnp.zeros((), jnp.int32) if truth is None else favourite(truth.weights)


def required(population: Population) -> int:
  """Returns G of a population that has groups.

  Raises:
    ValueError: for one that has none.
  """
  found = num_groups(population)
  if not found:
    raise ValueError(
      'an objective over groups of users (group_dro, group_invariant) needs simulated users with '
      f'weights of reward models, and {population.source!r} has none: take cvar or '
      'robust_personalization, which need no groups'
    )
  return found
