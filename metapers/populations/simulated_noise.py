"""Label noise told as the oracle's agreement with the labels."""

import jax
import jax.numpy as jnp
import numpy as np

from metapers.core import masked, task
from metapers.core.types import Array, Bool, Float
from metapers.populations import choice_rules, reward_episodes
from metapers.populations.reward_episodes import Arrays, Layout

NUM_USERS, NUM_PROMPTS = 2048, 8  # the agreement's standard error is about 0.3 points


@jax.jit(static_argnames='layout')
def shown_utilities(
  arrays: Arrays, layout: Layout
) -> tuple[Float[Array, 'U N K'], Bool[Array, 'U N K']]:
  """Returns the rewards of what a sample of train users is shown, and which are real."""

  def one(user):
    key_prompts, key = jax.random.split(jax.random.fold_in(jax.random.key(0), user))
    prompts = jax.random.choice(key_prompts, arrays.prompts['train'], (NUM_PROMPTS,))
    person = task.take(arrays.users['train'], user % arrays.users['train'].temperature.size)
    shown = reward_episodes.compare(arrays, person, prompts, key, layout)
    rewards = shown.rewards[:, : layout.num_candidates]
    return rewards @ person.weights, shown.choices.candidates.mask

  return jax.lax.map(one, jnp.arange(NUM_USERS), batch_size=256)


def agreement(
  utilities: Float[Array, 'U N K'],
  mask: Bool[Array, 'U N K'],
  *,
  temperature: float,
  flip_rate: float,
) -> float:
  """Returns the mean chance that a label is the user's true favourite of those shown."""
  noise = (jnp.float32(temperature), jnp.float32(flip_rate))
  log_p = choice_rules.log_choice(utilities, mask, temperature=noise[0], flip_rate=noise[1])
  best = masked.argmax(utilities, mask)
  picked = jnp.exp(jnp.take_along_axis(log_p, best[..., None], -1)[..., 0])
  return float(masked.mean(picked, mask.any(-1)))


def solve_temperature(
  utilities: Float[Array, 'U N K'], mask: Bool[Array, 'U N K'], label_accuracy: float
) -> float:
  """Bisects log-temperature until the oracle agrees with `label_accuracy` of the labels.

  Raises:
    ValueError: where no temperature gives it.
  """
  chance = float(jnp.mean(1 / jnp.maximum(mask.sum(-1), 1)))
  if not chance < label_accuracy <= 1:
    raise ValueError(f'label_accuracy must lie in ({chance:.2g}, 1], got {label_accuracy}')
  if label_accuracy == 1:
    return 0.0
  low, high = np.log(1e-4), np.log(1e4)
  for _ in range(40):
    middle = (low + high) / 2
    at_middle = agreement(utilities, mask, temperature=float(np.exp(middle)), flip_rate=0.0)
    low, high = (middle, high) if at_middle > label_accuracy else (low, middle)
  return float(np.exp((low + high) / 2))


def set_noise(
  arrays: Arrays, layout: Layout, label_accuracy: float | None
) -> tuple[Arrays, dict[str, float]]:
  """Sets every user's temperature to give `label_accuracy`, if asked, and records the noise.

  Returns:
    The arrays, and {'temperature', 'flip_rate', 'label_accuracy'} as they hold in this population.

  Raises:
    ValueError: for an accuracy that no temperature gives, or one asked beside other noise.
  """
  train = arrays.users['train']
  temperature, flip_rate = float(train.temperature[0]), float(train.flip_rate[0])
  if label_accuracy is not None and (temperature or flip_rate):
    raise ValueError(
      f'give label_accuracy={label_accuracy} or temperature and flip_rate '
      f'({temperature}, {flip_rate}), not both'
    )
  if label_accuracy is None and not temperature:
    noise = {'temperature': 0.0, 'flip_rate': flip_rate, 'label_accuracy': 1 - flip_rate}
    return arrays, noise
  utilities, mask = shown_utilities(arrays, layout)
  if label_accuracy is not None:
    temperature = solve_temperature(utilities, mask, label_accuracy)
    users = {
      split: group._replace(temperature=jnp.full_like(group.temperature, temperature))
      for split, group in arrays.users.items()
    }
    arrays = arrays._replace(users=users)
  reached = agreement(utilities, mask, temperature=temperature, flip_rate=flip_rate)
  return arrays, {
    'temperature': temperature, 'flip_rate': flip_rate, 'label_accuracy': reached
  }  # fmt: skip
