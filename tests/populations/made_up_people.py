"""Random histories of people whose choices features tell, their episodes, and items in them."""

import jax
import jax.numpy as jnp
import numpy as np

from metapers.core.tables import Histories


def made_up(*, num_users=30, num_items=12, longest=16, contexts=1, identity=True, lengths=None):
  """Random histories; chosen items have the higher number, so that features tell the choice."""
  rng = np.random.default_rng(0)
  context = np.arange(num_items) % contexts
  items = rng.permuted(np.tile(np.arange(num_items), (num_users, longest, 1)), axis=-1)
  same = context[items] == context[items[..., :1]]
  second = np.take_along_axis(items, np.argsort(~same, -1, kind='stable')[..., 1:2], -1)
  pair = np.concatenate([items[..., :1], second], -1)
  if lengths is None:
    lengths = rng.integers(2, longest + 1, num_users)
  features = np.eye(num_items) if identity else np.arange(1, num_items + 1)[:, None]
  return Histories(
    features=features.astype(np.float32),
    item_ids=np.arange(num_items),
    user_ids=np.arange(num_users),
    chosen=pair.max(-1).astype(np.int32),
    rejected=pair.min(-1).astype(np.int32),
    mask=np.arange(longest) < np.asarray(lengths)[:, None],
    context=context,
    identity=identity,
    num_dropped=0,
    source='made up',
    content_hash='',
  )


def all_episodes(population, split):
  size = len(population.arrays.people[split].mask)

  @jax.jit
  def episodes(arrays):
    return jax.vmap(lambda user: population.episode_of(arrays, user, split)[0])(jnp.arange(size))

  return episodes(population.arrays)


def items_of(choices, scaling=None):
  """Returns [..., N, 2] items, by one-hot or by scaled number features; -1 where masked."""
  features = np.asarray(choices.candidates.features)
  if features.shape[-1] == 1:
    items = np.round(features[..., 0] * scaling.scale + scaling.mean) - 1
  else:
    items = features.argmax(-1)
  return np.where(choices.mask[..., None], items, -1).astype(int)
