"""Label noise, given as how often the oracle agrees with the labels."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from metapers.core import masked, task
from metapers.core.outcomes import Answers
from metapers.core.types import Array, Bool, Float
from metapers.populations import choice_rules, reward_episodes, simulated_users
from metapers.populations.reward_episodes import Arrays, Layout

NUM_USERS, NUM_PROMPTS = 2048, 8  # the agreement's standard error is about 0.3 points


@jax.jit(static_argnames='layout')
def shown_utilities(
  arrays: Arrays, layout: Layout
) -> tuple[Float[Array, 'U N K'], Bool[Array, 'U N K']]:
  """Returns the rewards of what a sample of train users is shown, and which are real."""

  def one(user):
    key_prompts, key = jax.random.split(jax.random.fold_in(jax.random.key(0), user))
    train = arrays.prompts['train']
    prompts = train[jax.random.randint(key_prompts, (NUM_PROMPTS,), 0, train.size, jnp.int32)]
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
  """Returns the temperature at which the oracle agrees with `label_accuracy` of the labels.

  By bisection of its logarithm.

  Raises:
    ValueError: where no temperature gives it.
  """
  chance = float(masked.mean(1 / jnp.maximum(masked.count(mask, -1), 1), mask.any(-1)))
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


class Noise(NamedTuple):
  """How noisy choices are: each temperature there is, and how often labels are right.

  temperatures: of the choice model, one for each pair rule and accuracy.
  label_accuracies: likewise.
  """

  temperatures: tuple[float, ...]
  label_accuracies: tuple[float, ...]


def set_noise(
  arrays: Arrays,
  layout: Layout,
  label_accuracy: float | Sequence[float] | None,
  num_concentrations: int,
) -> tuple[Arrays, Noise]:
  """Returns arrays whose temperatures give the label accuracies, if any, and the noise as it is.

  Args:
    arrays: of the population.
    layout: whose pair rules what is shown depends on.
    label_accuracy: several are mixed equally; None leaves the temperature as it is.
    num_concentrations: that users count through first, see `simulated_users.digits`.

  Returns:
    The arrays, and the noise as it holds in this population.

  Raises:
    ValueError: for an accuracy that no temperature gives, or one asked beside other noise.
  """
  accuracies = np.atleast_1d([] if label_accuracy is None else label_accuracy).tolist()
  train = arrays.users['train']
  temperature, flip_rate = float(train.temperature[0]), float(train.flip_rate[0])
  if accuracies and (temperature or flip_rate):
    raise ValueError(
      f'give label_accuracy={accuracies} or temperature and flip_rate '
      f'({temperature}, {flip_rate}), not both'
    )
  if not accuracies and not temperature:
    return arrays, Noise((0.0,), (1 - flip_rate,))
  forced = layout._replace(answers=Answers())  # a label is right or wrong of who must choose
  shown = [
    shown_utilities(arrays, forced._replace(pair_rules=(rule,))) for rule in layout.pair_rules
  ]
  solved = [
    [solve_temperature(utilities, mask, accuracy) for accuracy in accuracies] or [temperature]
    for utilities, mask in shown
  ]
  table = np.array(solved, np.float32)  # [rules, accuracies]
  reached = tuple(
    agreement(utilities, mask, temperature=float(at), flip_rate=flip_rate)
    for (utilities, mask), row in zip(shown, table)
    for at in row
  )
  sizes = (num_concentrations, len(layout.pair_rules), table.shape[1])
  users = {}
  for split, group in arrays.users.items():
    _, rule, kind = simulated_users.digits(len(group.weights), sizes)
    users[split] = group._replace(temperature=jnp.asarray(table[rule, kind]))
  return arrays._replace(users=users), Noise(tuple(map(float, table.ravel())), reached)
