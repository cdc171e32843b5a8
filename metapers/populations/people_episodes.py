"""Episodes of real people: a history divided into support and query.

Pure functions of device arrays, drawn inside the compiled training step; features are gathered from
one table of items, so that no [U, N, K, D] array exists.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from metapers.core import outcomes, population, task
from metapers.core.task import Candidates, Choices, Task
from metapers.core.types import Array, Bool, Float, Int, PRNGKey


class People(NamedTuple):
  """Comparisons of U people, or of one: rows of the items, in order, real ones first.

  chosen, rejected, mask: [U, N]. query_only: [U, N], True for items held out of training.
  answer: [U, N] as in `tables.Histories.outcome`; None where all are choices.
  """

  chosen: Int[Array, '*U N']
  rejected: Int[Array, '*U N']
  mask: Bool[Array, '*U N']
  query_only: Bool[Array, '*U N']
  answer: Int[Array, '*U N'] | None = None


class Arrays(NamedTuple):
  """What lives on the device.

  features: [I, D] of the items; [I, 0] for one-hot ids. people: split -> People. rows: split -> [U]
  rows of these people among all histories.
  """

  features: Float[Array, 'I D']
  people: dict[str, People]
  rows: dict[str, Int[Array, '_']]


class Layout(NamedTuple):
  """Static shape of an episode; see `people` for the meaning of each."""

  num_support: int
  num_query: int
  num_users: int
  held_out: tuple[str, ...] = ()  # splits with items of their own
  min_query: int | None = None
  kinds: tuple[str, ...] = ()
  fresh_items: bool = False


def part(person: People, slots: Int[Array, 'N'], end: Int[Array, '']) -> People:
  """Returns one person's comparisons at `slots`; those from `end` on are masked."""
  taken = task.take(person, jnp.minimum(slots, person.mask.size - 1))
  return taken._replace(mask=taken.mask & (slots < end))


def most_support(num_real: Int[Array, ''], min_query: int | None) -> Int[Array, '']:
  """Returns how many of a person's comparisons a support may take."""
  return num_real // 2 if min_query is None else jnp.maximum(num_real - min_query, 0)


def repeats(query: People, support: People) -> Bool[Array, 'N']:
  """Returns which comparisons of the query are of two items that the support compares, too."""
  pairs = [jnp.sort(jnp.stack([x.chosen, x.rejected], -1)) for x in (query, support)]  # [N, 2]
  same = jnp.all(pairs[0][:, None] == pairs[1][None], -1)
  return jnp.any(same & support.mask[None], -1)


def shares_items(query: People, support: People) -> Bool[Array, 'N']:
  """Returns which comparisons of the query are of an item that the support compares, too."""
  asked, shown = (jnp.stack([x.chosen, x.rejected], -1) for x in (query, support))  # [N, 2]
  same = asked[:, :, None, None] == shown[None, None]  # [N, 2, M, 2]
  return jnp.any(same & support.mask[None, None, :, None], (1, 2, 3))


def offer(
  features: Float[Array, 'I D'],
  shown: People,
  key: PRNGKey,
  kinds: tuple[str, ...] = (),
  *,
  is_forced: bool = False,
) -> Choices:
  """Returns comparisons of two items in random order: position must not reveal the choice.

  Masked entries are zeroed: there are comparisons of the other part among them.

  Args:
    features: of the items.
    shown: what was compared, and chosen.
    key: of the order.
    kinds: of outcomes; with any, candidates are outcomes, see `core.outcomes`.
    is_forced: whether only choices are shown, and as such: candidates that are outcomes are masked.
  """
  swapped = jax.random.bernoulli(key, jnp.float32(0.5), shown.mask.shape)
  pair = jnp.stack([shown.chosen, shown.rejected], -1)  # [N, K]
  pair = jnp.where(swapped[:, None], pair[:, ::-1], pair)
  mask = jnp.broadcast_to(shown.mask[:, None], pair.shape)
  candidates = Candidates(population.rows_of(features, pair), mask)
  if not kinds or shown.answer is None:
    return task.drop_masked(task.choices(candidates, swapped.astype(jnp.int32), shown.mask))
  texts = candidates._replace(features=outcomes.widened(candidates.features, kinds))
  candidates = outcomes.expand(texts, kinds)
  choice, real = outcomes.choice_of(shown.answer, swapped, kinds), shown.mask
  if is_forced:
    real = real & outcomes.prefers(shown.answer)
    is_text = jnp.arange(candidates.mask.shape[-1]) < 2
    candidates = candidates._replace(mask=candidates.mask & is_text[None])
    choice = swapped.astype(jnp.int32)
  return task.drop_masked(task.choices(candidates, choice, real))


def episode(
  arrays: Arrays,
  user: Int[Array, ''],
  split: str,
  layout: Layout,
  *,
  priority: Float[Array, 'N'],
  key: PRNGKey,
) -> Task:
  """Returns a person's comparisons, divided by rising `priority` into support and query.

  The support takes up to num_support and at most half of them, or all but min_query; the query what
  follows, but no pair of the support again, and of held-out people with fresh items none of its
  items. With held-out items, the query of held-out people has those alone. Of held-out people only
  choices are queried, as choices between two.

  Args:
    arrays: of the population.
    user: number among the people of `split`.
    split: one of `population.SPLITS`.
    layout: sizes.
    priority: [N] in [0, 1), which comparisons come first.
    key: of the order of the candidates.
  """
  person = task.take(arrays.people[split], user)
  order = jnp.argsort(jnp.where(person.mask, priority + person.query_only, jnp.inf))
  person = task.take(person, order)
  num_real = jnp.sum(person.mask)
  num_early = jnp.sum(person.mask & ~person.query_only)
  by_items = split in layout.held_out
  most = num_early if by_items else most_support(num_real, layout.min_query)
  size = jnp.minimum(layout.num_support, most)
  start = num_early if by_items else size
  support = part(person, jnp.arange(layout.num_support), size)
  query = part(person, start + jnp.arange(layout.num_query), num_real)
  is_fresh = layout.fresh_items and split != 'train'
  is_known = shares_items(query, support) if is_fresh else repeats(query, support)
  query = query._replace(mask=query.mask & ~is_known)
  key_support, key_query = jax.random.split(key)
  known = user if split == 'train' else layout.num_users
  kinds, is_forced = layout.kinds, split != 'train'
  return Task(
    offer(arrays.features, support, key_support, kinds),
    offer(arrays.features, query, key_query, kinds, is_forced=is_forced),
    jnp.asarray(known, jnp.int32),
    task.no_context(),
  )
