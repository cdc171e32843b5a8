"""The users of a simulation: a weight for every reward model, and how noisy their choices are."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from metapers.core.types import Array, Float
from metapers.populations import dirichlet

# Rows of the bank that stands for an endless stream: drawn once by NumPy in log space, since
# jax.random.dirichlet takes thirty times as long on a CPU.
STREAM_SIZE = 2**17


class Users(NamedTuple):
  """U users, or one: weights [U, B] that sum to 1; temperature and flip_rate [U] of choices."""

  weights: Float[Array, '*U B']
  temperature: Float[Array, '*U']
  flip_rate: Float[Array, '*U']


def order_weights(
  weights: Mapping[str, np.ndarray], reward_models: Sequence[str]
) -> Float[np.ndarray, 'U B']:
  """Stacks named weights in the order of the store's reward models.

  Raises:
    ValueError: for a missing or unknown name, or weights that do not sum to 1.
  """
  missing, unknown = set(reward_models) - set(weights), set(weights) - set(reward_models)
  if missing or unknown:
    raise ValueError(
      f'weights must name the reward models {sorted(reward_models)}; '
      f'missing {sorted(missing)}, unknown {sorted(unknown)}'
    )
  stacked = np.stack([np.asarray(weights[name], np.float32) for name in reward_models], -1)
  if not np.allclose(stacked.sum(-1), 1, atol=1e-3):
    raise ValueError(f'weights of a user must sum to 1, got sums up to {stacked.sum(-1).max():.4g}')
  return stacked


def draw_weights(
  rng: np.random.Generator, num_users: int, concentration: float | Sequence[float], size: int
) -> Float[np.ndarray, 'U B']:
  """Draws Dirichlet weights [U, B]; several concentrations take equal shares, interleaved."""
  kinds = np.atleast_1d(concentration)
  count = -(-num_users // len(kinds))
  banks = [dirichlet.sample_log_weights(rng, count, float(kind), size) for kind in kinds]
  return np.exp(np.stack(banks, 1).reshape(-1, size)[:num_users])


def draw(
  reward_models: Sequence[str],
  sizes: Mapping[str, int],
  concentration: float | Sequence[float],
  *,
  temperature: float,
  flip_rate: float,
  weights: Mapping[str, Mapping[str, np.ndarray]] | None = None,
  seed: int = 0,
) -> dict[str, Users]:
  """Draws the users of every split from disjoint streams of random numbers.

  Args:
    reward_models: B names, in the order of the scores.
    sizes: split -> number of users.
    concentration: α, or several that are mixed equally.
    temperature: of the choice model, >= 0.
    flip_rate: chance of a flipped label, in [0, 1).
    weights: split -> name -> [U] given users in place of draws.
    seed: of the streams.

  Raises:
    ValueError: for a temperature, flip rate, α or number of users out of range.
  """
  if not (np.isfinite(temperature) and temperature >= 0):
    raise ValueError(f'temperature must be >= 0 and finite, got {temperature}; 0 is noiseless')
  if not 0 <= flip_rate < 1:
    raise ValueError(f'flip_rate must lie in [0, 1), got {flip_rate}')
  given = weights or {}
  users = {}
  for stream, (split, size) in enumerate(sizes.items()):
    rng = np.random.default_rng([seed, stream])
    if split in given:
      drawn = order_weights(given[split], reward_models)
    else:
      drawn = draw_weights(rng, size, concentration, len(reward_models))
    constant = np.ones(len(drawn), np.float32)
    users[split] = Users(*map(jnp.asarray, (drawn, temperature * constant, flip_rate * constant)))
  return users
