"""A population as a user would write one, with nothing but `metapers.core`: people choose dinners.

Three critics (reward models) score every dinner; a diner weighs them by a draw from Dirichlet(0.3).
Learners see four features from which the scores follow but for some noise.
"""

import jax
import jax.numpy as jnp
import numpy as np

from metapers.core import population, task
from metapers.core.population import (
  SPLITS,
  Functions,
  Population,
  Responses,
  Simulation,
  Spec,
  UserModel,
  Users,
)
from metapers.core.task import Candidates, Task, Truth

CRITICS = ('spice', 'price', 'health')
ALPHA = 0.3
NUM_NIGHTS, NUM_DINNERS, NUM_FEATURES = 120, 4, 4


def dinners(*, num_support=8, num_query=6, num_diners=40, shared_nights=0, seed=0):
  """Returns diners; with `shared_nights` so many test nights are train nights, too: a leak."""
  rng = np.random.default_rng(seed)
  rewards = rng.standard_normal((NUM_NIGHTS, NUM_DINNERS, len(CRITICS)))
  mixing = rng.standard_normal((len(CRITICS), NUM_FEATURES))
  features = rewards @ mixing + 0.3 * rng.standard_normal((NUM_NIGHTS, NUM_DINNERS, NUM_FEATURES))
  nights = np.split(rng.permutation(NUM_NIGHTS), len(SPLITS))
  nights[2] = np.concatenate([nights[0][:shared_nights], nights[2]])
  users = {
    split: Users(
      jnp.asarray(rng.dirichlet(np.full(len(CRITICS), ALPHA), num_diners), jnp.float32),
      jnp.zeros(num_diners),
      jnp.zeros(num_diners),
      jnp.zeros(num_diners, jnp.int32),
    )
    for split in SPLITS
  }
  arrays = {
    'rewards': jnp.asarray(rewards, jnp.float32),
    'features': jnp.asarray(features, jnp.float32),
    'nights': {split: jnp.asarray(own) for split, own in zip(SPLITS, nights)},
    'users': users,
  }
  return Population(
    arrays=arrays,
    **functions(num_support, num_query, num_diners)._asdict(),
    spec=Spec(
      features=population.vector(NUM_FEATURES),
      num_candidates=2,
      num_support=num_support,
      num_query=num_query,
      num_users=0,
      num_held_out=dict.fromkeys(SPLITS[1:], num_diners),
      num_histories=num_diners,
      history_length=num_support + num_query,
    ),
    scaling=population.unscaled(NUM_FEATURES),
    source='synthetic diners',
    simulation=Simulation(
      reward_models=CRITICS,
      users=lambda arrays, split: arrays['users'][split],
      responses=responses,
      user_models=(UserModel(ALPHA),),
      label_accuracies=(1.0,),
      support_prompts='held_out',
      response_models=('cook a', 'cook b', 'cook c', 'cook d'),
    ),
  )


def responses(arrays, split):
  """Returns all dinners of the nights of a split."""
  nights = arrays['nights'][split]
  mask = jnp.ones((nights.size, NUM_DINNERS), bool)
  return Responses(nights, arrays['features'][nights], arrays['rewards'][nights], mask)


def functions(num_support, num_query, num_diners):
  """Makes the functions of the population."""
  num_pairs = num_support + num_query

  def compare(arrays, weights, nights, key):
    pair = jax.vmap(lambda k: jax.random.choice(k, NUM_DINNERS, (2,), replace=False))(
      jax.random.split(key, nights.size)
    )
    rewards = arrays['rewards'][nights[:, None], pair]  # [N, 2, B]
    features = arrays['features'][nights[:, None], pair]
    mask = jnp.ones(pair.shape, bool)
    return task.choices(Candidates(features, mask), jnp.argmax(rewards @ weights, -1)), rewards

  def episode(arrays, user, key, split):
    key_nights, key_pairs = jax.random.split(key)
    own = arrays['nights'][split]
    drawn = own[jax.random.permutation(key_nights, own.size)[: num_pairs + 2]]
    weights = arrays['users'][split].weights[user]
    nights, slates = drawn[:num_pairs], drawn[num_pairs:]
    everything, rewards = compare(arrays, weights, nights, key_pairs)
    first, rest = jnp.arange(num_support), jnp.arange(num_support, num_pairs)
    shown = [
      (rewards[part], everything.candidates.mask[part], nights[part]) for part in (first, rest)
    ]
    slate = Candidates(arrays['features'][slates], jnp.ones((2, NUM_DINNERS), bool))
    cooks = jnp.broadcast_to(jnp.arange(NUM_DINNERS), (2, NUM_DINNERS))
    truth = Truth(weights, *shown[0], *shown[1], slate, arrays['rewards'][slates], slates, cooks)
    support, query = task.take(everything, first), task.take(everything, rest)
    return Task(support, query, jnp.zeros((), jnp.int32), task.no_context()), truth

  def sample_episode(arrays, key, split):
    key_user, key_episode = jax.random.split(key)
    user = jax.random.randint(key_user, (), 0, arrays['users'][split].temperature.size)
    return episode(arrays, user, key_episode, split)

  def episode_of(arrays, user, split):
    key = jax.random.fold_in(population.fixed_key(split), user)
    return episode(arrays, user, key, split)

  return Functions(sample_episode, episode_of, population.histories_of(episode_of, num_diners))
