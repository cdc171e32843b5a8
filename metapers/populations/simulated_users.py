"""The users of a simulation: a weight for every reward model, and how noisy their choices are."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from metapers.core.population import SPLITS, Users
from metapers.core.types import Float, Int
from metapers.populations import dirichlet, statements

# Rows of the bank that stands for an endless stream: drawn once by NumPy in log space, since
# jax.random.dirichlet takes thirty times as long on a CPU.
STREAM_SIZE = 2**17


REVERSED = 'reversed'  # adversaries who answer the opposite of what they prefer


class Adversaries(NamedTuple):
  """Known users who do not say what they prefer; those of validation and test are honest.

  share: of the known users, in [0, 1). index: b, the reward model that all of them vote for; None
  for such as answer the opposite of what they prefer.
  """

  share: float
  index: int | None = None


class Exclusion(NamedTuple):
  """A reward model of which known users have no weight, and new ones much.

  index: b. share: new users have w_b >= share; those of train and validation have w_b = 0.
  """

  index: int
  share: float


def exclusion_of(reward_models: Sequence[str], name: str, share: float) -> Exclusion | None:
  """Returns the reward model to exclude, if one is named.

  Raises:
    ValueError: for an unknown name, or a share outside (0, 1).
  """
  if not name:
    return None
  if name not in reward_models or not 0 < share < 1:
    raise ValueError(
      f'excluded_model must be one of {", ".join(reward_models)} and excluded_share lie in '
      f'(0, 1); got {name!r} and {share}'
    )
  return Exclusion(reward_models.index(name), share)


def adversaries_of(reward_models: Sequence[str], name: str, share: float) -> Adversaries | None:
  """Returns who poisons the histories; None for nobody.

  Args:
    reward_models: the B names.
    name: REVERSED, or the reward model that all adversaries vote for.
    share: of the known users.

  Raises:
    ValueError: for an unknown name, or a share outside [0, 1).
  """
  if name not in (REVERSED, *reward_models) or not 0 <= share < 1:
    raise ValueError(
      f'adversaries must be {REVERSED!r} or one of {", ".join(reward_models)}, and '
      f'adversarial_share lie in [0, 1); got {name!r} and {share}'
    )
  index = None if name == REVERSED else reward_models.index(name)
  return Adversaries(share, index) if share else None


def poisoned(
  users: dict[str, Users], adversaries: Adversaries | None, seed: int
) -> dict[str, Users]:
  """Returns users of all splits, of the known ones the nearest number to a share adversaries.

  The users of a smaller share are among those of a larger one, so that shares can be compared. To
  answer the opposite is to go by -w, whatever the noise.
  """
  if adversaries is None:
    return users
  weights = np.array(users['train'].weights)
  order = np.random.default_rng([seed, len(SPLITS)]).permutation(len(weights))
  chosen = order[: round(adversaries.share * len(order))]
  if adversaries.index is None:
    weights[chosen] *= -1
  else:
    weights[chosen] = np.eye(weights.shape[1])[adversaries.index]
  return users | {'train': users['train']._replace(weights=jnp.asarray(weights))}


def counts_of(num_users: int, num_held_out: int) -> dict[str, int]:
  """Returns how many users each split has.

  Raises:
    ValueError: for fewer than 0 known users, or no held-out ones.
  """
  if num_users < 0 or num_held_out < 1:
    raise ValueError(
      'num_users must be at least 0 (a stream without end) and num_held_out at least 1, got '
      f'{num_users} and {num_held_out}'
    )
  held_out = dict.fromkeys(SPLITS[1:], num_held_out)
  return {'train': num_users or STREAM_SIZE, **held_out}


def digits(num_users: int, sizes: Sequence[int]) -> list[Int[np.ndarray, 'U']]:
  """Returns the options of users who count through all combinations, the first option fastest.

  Returns:
    For each option the index [U] that users 0, 1, 2, ... have of it.
  """
  return list(np.unravel_index(np.arange(num_users) % np.prod(sizes), tuple(sizes), order='F'))


def order_weights(
  weights: Mapping[str, np.ndarray], reward_models: Sequence[str]
) -> Float[np.ndarray, 'U B']:
  """Returns named weights in the order of the store's reward models.

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
  rng: np.random.Generator,
  num_users: int,
  concentration: float | Sequence[float],
  size: int,
  floor: Sequence[float] = (),
) -> Float[np.ndarray, 'U B']:
  """Returns Dirichlet weights [U, B]; several concentrations take equal shares, interleaved."""
  kinds = np.atleast_1d(concentration)
  count = -(-num_users // len(kinds))
  banks = [dirichlet.sample_above(rng, count, float(kind), size, floor) for kind in kinds]
  return np.exp(np.stack(banks, 1).reshape(-1, size)[:num_users])


def draw_excluding(
  rng: np.random.Generator,
  num_users: int,
  concentration: float | Sequence[float],
  size: int,
  *,
  exclusion: Exclusion,
  split: str,
) -> Float[np.ndarray, 'U B']:
  """Returns weights [U, B] without reward model b for known users, and full of it for new ones."""
  if split == 'test':
    return draw_weights(rng, num_users, concentration, size, exclusion_floor(exclusion, size))
  others = draw_weights(rng, num_users, concentration, size - 1)
  return np.insert(others, exclusion.index, 0, axis=1)


def exclusion_floor(exclusion: Exclusion, size: int) -> tuple[float, ...]:
  """Returns the least weights [B] of a new user."""
  return tuple(exclusion.share if b == exclusion.index else 0.0 for b in range(size))


def checked(
  given: Mapping[str, Mapping[str, np.ndarray]],
  sizes: Mapping[str, int],
  exclusion: Exclusion | None,
) -> Mapping[str, Mapping[str, np.ndarray]]:
  """Returns given weights, those of known users as many as there are ids of these.

  A stream without end draws from whom it is given, and there are as many held-out users as given.

  Raises:
    ValueError: for an unknown split, another number of known users than the population has, or
      weights beside the exclusion of a reward model, which they need not keep to.
  """
  unknown = [split for split in given if split not in sizes]
  if unknown:
    raise ValueError(f'weights of unknown split {unknown[0]!r}; known: {", ".join(sizes)}')
  if given and exclusion:
    raise ValueError('give weights or excluded_model, not both: weights say what users go by')
  num_users = sizes['train']
  found = {np.size(column) for column in given.get('train', {}).values()} - {num_users}
  if found and num_users != STREAM_SIZE:
    raise ValueError(
      f'weights of train are of {found.pop()} users, num_users is {num_users}; give as many'
    )
  return given


def draw(
  reward_models: Sequence[str],
  sizes: Mapping[str, int],
  concentration: float | Sequence[float],
  *,
  temperature: float,
  flip_rate: float,
  num_rules: int = 1,
  exclusion: Exclusion | None = None,
  weights: Mapping[str, Mapping[str, np.ndarray]] | None = None,
  statement_rate: float = 0.0,
  seed: int = 0,
) -> dict[str, Users]:
  """Returns the users of every split, drawn from disjoint streams of random numbers.

  Args:
    reward_models: B names, in the order of the scores.
    sizes: split -> number of users.
    concentration: α, or several that are mixed equally.
    temperature: of the choice model, >= 0.
    flip_rate: chance of a flipped label, in [0, 1).
    num_rules: pair rules that are mixed equally.
    exclusion: of a reward model from the known users.
    weights: split -> name -> [U] given users in place of draws.
    statement_rate: how many users say which reward model has most of their weight; at 0 nobody is
      asked.
    seed: of the streams.

  Raises:
    ValueError: for a temperature, rate, α or number of users out of range, or statements of users
      one of whose reward models is excluded.
  """
  if not (np.isfinite(temperature) and temperature >= 0):
    raise ValueError(f'temperature must be >= 0 and finite, got {temperature}; 0 is noiseless')
  if not 0 <= flip_rate < 1:
    raise ValueError(f'flip_rate must lie in [0, 1), got {flip_rate}')
  if not 0 <= statement_rate <= 1 or (statement_rate and exclusion):
    raise ValueError(
      'statement_rate must lie in [0, 1], and be 0 where a reward model is excluded, got '
      f'{statement_rate}'
    )
  given = checked(weights or {}, sizes, exclusion)
  num_models, num_kinds = len(reward_models), np.atleast_1d(concentration).size
  users = {}
  for stream, (split, size) in enumerate(sizes.items()):
    rng = np.random.default_rng([seed, stream])
    if split in given:
      drawn = order_weights(given[split], reward_models)
    elif exclusion:
      drawn = draw_excluding(rng, size, concentration, num_models, exclusion=exclusion, split=split)
    else:
      drawn = draw_weights(rng, size, concentration, num_models)
    constant = np.ones(len(drawn), np.float32)
    _, rule = digits(len(drawn), (num_kinds, num_rules))
    columns = drawn, temperature * constant, flip_rate * constant, rule.astype(np.int32)
    users[split] = Users(*map(jnp.asarray, columns))
    if statement_rate:
      said = statements.draw(np.random.default_rng([seed, stream, 1]), drawn, statement_rate)
      users[split] = users[split]._replace(statement=jnp.asarray(said))
  return users
