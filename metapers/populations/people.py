"""Real people: histories of comparisons of known people, and new people to evaluate on.

People are split by fold into train, validation and test, so that everyone is unseen in one fold.
"""

import functools
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging

from metapers.core import outcomes, population, task
from metapers.core.population import (
  SPLITS,
  Functions,
  ItemChoices,
  ItemPool,
  Population,
  Scaling,
  Spec,
)
from metapers.core.tables import Histories
from metapers.core.types import Array, Bool, Float, Int
from metapers.populations import people_episodes
from metapers.populations.people_episodes import Arrays, Layout, People


def split_users(
  num_users: int, *, fold: int, num_folds: int, validation_share: float, seed: int
) -> dict[str, Int[np.ndarray, 'U_']]:
  """Returns users by split: disjoint, covering; the test users of fold f are unseen.

  Raises:
    ValueError: for a fold or share out of range.
  """
  if not (num_folds >= 2 and 0 <= fold < num_folds):
    raise ValueError(f'need 0 <= fold < num_folds and 2 <= num_folds, got {fold} and {num_folds}')
  if not 0 < validation_share < 1:
    raise ValueError(f'validation_share must lie in (0, 1), got {validation_share}')
  parts = np.array_split(np.random.default_rng([seed, 0]).permutation(num_users), num_folds)
  test = parts.pop(fold)
  rest = np.concatenate(parts)
  # Drawn anew: a prefix would be nearly the same people in every fold.
  rest = np.random.default_rng([seed, 1, fold]).permutation(rest)
  num_validation = round(validation_share * rest.size)
  splits = {
    'train': rest[num_validation:],
    'validation': rest[:num_validation],
    'test': test,
  }
  return {name: np.sort(users) for name, users in splits.items()}


def hold_out_items(
  histories: Histories, share: float, validation_share: float, seed: int
) -> dict[str, Bool[np.ndarray, 'I']]:
  """Returns the items that held-out people are asked about, [I] of each split that has its own.

  Whole contexts where there are several, some of them for validation; else single items, all for
  the test: validation people are then asked about what training shows, so that nothing is chosen
  by what is evaluated.

  Args:
    histories: of all people.
    share: of the items, held out of training.
    validation_share: of these, for validation.
    seed: of the draw.

  Raises:
    ValueError: for one-hot features, or a share that leaves no items on one side.
  """
  if histories.identity:
    raise ValueError(
      'item_holdout=True needs features of the items: one-hot ids say nothing of an unseen item; '
      'give features to load_comparisons, or set item_holdout=False'
    )
  several = np.unique(histories.context).size > 1
  group = histories.context if several else np.arange(len(histories.features))
  names = np.random.default_rng([seed, 2]).permutation(np.unique(group))
  held_out = names[: round(share * names.size)]
  if not 0 < held_out.size < names.size:
    raise ValueError(
      f'item_holdout_share={share} holds out {held_out.size} of {names.size} '
      f'{"contexts" if several else "items"}; choose a share that leaves some on either side'
    )
  # Of single items the test needs all: both of a comparison must be among them.
  num_validation = round(validation_share * held_out.size) if several else 0
  num_validation = min(num_validation, held_out.size - 1)
  parts = {'validation': held_out[:num_validation], 'test': held_out[num_validation:]}
  return {split: np.isin(group, own) for split, own in parts.items() if own.size}


def select(
  histories: Histories,
  users: Int[np.ndarray, 'U_'],
  held_out: Mapping[str, Bool[np.ndarray, 'I']],
  split: str,
) -> tuple[People, Int[Array, '_']]:
  """Returns some users' comparisons, without those that their split must not use, and their rows.

  Of the items held out, train users show none, and held-out users' queries those of their own split
  and nothing else: any other comparison of them is dropped, and people left without are, too.
  """
  chosen, rejected = (x[users].astype(np.int32) for x in (histories.chosen, histories.rejected))
  none = np.zeros(len(histories.features), bool)
  unseen, own = np.any([none, *held_out.values()], 0), held_out.get(split, none)
  query_only = histories.mask[users] & own[chosen] & own[rejected]
  mask = query_only | (histories.mask[users] & ~unseen[chosen] & ~unseen[rejected])
  kept = (query_only if own.any() else mask).any(1)
  tables = [chosen, rejected, mask, query_only]
  if histories.outcome is not None:
    tables.append(histories.outcome[users].astype(np.int32))
  people = People(*(jnp.asarray(table[kept]) for table in tables))
  return people, jnp.asarray(users[kept], jnp.int32)


def check_support(
  histories: Histories, num_support: int, num_query: int, min_query: int | None
) -> None:
  """Refuses an episode that nobody can fill.

  Raises:
    ValueError: naming what was asked and what there is.
  """
  if num_support < 1 or num_query < 1:
    raise ValueError(f'num_support and num_query must be at least 1: {num_support}, {num_query}')
  longest = int(histories.mask.sum(1).max())
  if min_query is None and num_support > longest // 2:
    raise ValueError(
      f'num_support={num_support} is more than half of the longest history, of {longest} '
      f'comparisons, the other half being the query; ask for at most {longest // 2}, or say by '
      'min_query how many must remain'
    )
  if min_query is not None and not 1 <= min_query <= num_query:
    raise ValueError(f'min_query must lie in 1..{num_query} (num_query), got {min_query}')
  if min_query is not None and num_support > longest - min_query:
    raise ValueError(
      f'num_support={num_support} leaves fewer than min_query={min_query} of the longest history, '
      f'of {longest} comparisons; ask for less of either'
    )


def place(
  histories: Histories,
  splits: dict[str, np.ndarray],
  held_out: Mapping[str, np.ndarray],
  layout: Layout,
) -> tuple[Arrays, int]:
  """Returns features and people as arrays of the device, and how many people have too few.

  Raises:
    ValueError: for a split without people.
  """
  selected = {name: select(histories, users, held_out, name) for name, users in splits.items()}
  people = {name: table for name, (table, _) in selected.items()}
  rows = {name: row for name, (_, row) in selected.items()}
  arrays = Arrays(jnp.asarray(histories.features, jnp.float32), people, rows)
  require_people(arrays, len(histories.mask))
  arrays, num_few = with_enough(arrays, layout)
  require_people(arrays, len(histories.mask))
  return arrays, num_few


def require_people(arrays: Arrays, num_people: int) -> None:
  """Refuses a split without people.

  Raises:
    ValueError: naming the split.
  """
  empty = [name for name, rows in arrays.rows.items() if rows.size == 0]
  if empty:
    raise ValueError(
      f'split {empty[0]!r} of {num_people} people is empty, and each needs one at least: give more '
      'people, or change num_folds, validation_share, item_holdout_share or min_query'
    )


def with_enough(arrays: Arrays, layout: Layout) -> tuple[Arrays, int]:
  """Leaves out people with too few comparisons, and returns the others and how many these are.

  Of a person's fixed episode something must be in the support, and `min_query` be evaluated; with
  fresh items, of held-out people, one at least.
  """
  if layout.min_query is None and not layout.fresh_items:
    return arrays, 0
  least = layout.min_query or 1

  @functools.partial(jax.jit, static_argnums=1)  # which leaves features out, as nothing needs them
  def has_enough(number, split):
    drawn, _ = functions(layout).episode_of(arrays, number, split)
    return drawn.support.mask.any() & (drawn.query.mask.sum() >= least)

  people, rows, num_few = {}, {}, 0
  for split, own in arrays.people.items():
    if layout.min_query is None and split == 'train':
      people[split], rows[split] = own, arrays.rows[split]
      continue
    enough = jax.vmap(lambda number, split=split: has_enough(number, split))(
      jnp.arange(len(own.mask), dtype=jnp.int32)
    )
    kept = jnp.flatnonzero(enough).astype(jnp.int32)
    people[split], rows[split] = task.take((own, arrays.rows[split]), kept)
    num_few += len(enough) - len(kept)
  if num_few:
    logging.warning(
      '%d people are left out: of them fewer than %d comparisons remain to be evaluated',
      num_few, least,
    )  # fmt: skip
  return Arrays(arrays.features, people, rows), num_few


def scaling_of(features: Float[np.ndarray, 'I D'], train: People) -> Scaling:
  """Returns mean and standard deviation of the raw items that train people chose among."""
  items = np.unique([train.chosen[train.mask], train.rejected[train.mask]])
  return population.scaling_of(features[items])


def people(
  histories: Histories,
  *,
  num_support: int = 20,
  num_query: int = 40,
  min_query: int | None = None,
  cut_support: bool = False,
  fold: int = 0,
  num_folds: int = 5,
  validation_share: float = 0.2,
  item_holdout: bool = False,
  item_holdout_share: float = 0.2,
  fresh_items: bool = False,
  split_seed: int = 0,
) -> Population:
  """Returns a population of real people's histories.

  A drawn episode divides a person's comparisons at random; the fixed one of `episode_of` in the
  person's own order, the first ones in the support and later ones in the query (at random where no
  order is known).
  The support takes at most half of what a person has, or all but `min_query`; no pair of it is
  queried.

  Args:
    histories: comparisons of U people among I items.
    num_support: comparisons to adapt to, at most.
    num_query: comparisons to be evaluated on, at most.
    min_query: comparisons that must remain to be evaluated: people with fewer are left out, and
      counted. None keeps half of what each person has.
    cut_support: lower num_support to what the longest history leaves, in place of refusing it.
    fold: which of num_folds parts of the people is unseen: the test split.
    num_folds: parts of the people.
    validation_share: of the other people, and of the contexts held out.
    item_holdout: evaluate test people on items that neither training nor validation showed, after
      a support of items that they did. Needs features.
    item_holdout_share: of the items; of their contexts, where there are several.
    fresh_items: evaluate held-out people on those of their num_query later comparisons neither item
      of which is in their support. Who has none is left out, and counted.
    split_seed: of the splits.

  Returns:
    Population without `Truth`. Its `histories` are the fixed episodes of the train people.

  Raises:
    ValueError: naming the option, what was given and what would do.
  """
  if cut_support:
    longest = jnp.asarray(histories.mask.sum(1).max())
    num_support = min(num_support, max(1, int(people_episodes.most_support(longest, min_query))))
  check_support(histories, num_support, num_query, min_query)
  splits = split_users(
    len(histories.mask),
    fold=fold,
    num_folds=num_folds,
    validation_share=validation_share,
    seed=split_seed,
  )
  shares = item_holdout_share, validation_share
  held_out = hold_out_items(histories, *shares, split_seed) if item_holdout else {}
  kinds = kinds_of(histories)
  layout = Layout(
    num_support=num_support,
    num_query=num_query,
    num_users=0,
    held_out=tuple(held_out),
    min_query=min_query,
    kinds=kinds,
    fresh_items=fresh_items,
  )
  arrays, num_few = place(histories, splits, held_out, layout)
  scaling = population.unscaled(width_of(arrays))
  if not histories.identity:
    scaling = scaling_of(histories.features, arrays.people['train'])
    shown = (histories.features - scaling.mean) / scaling.scale
    arrays = arrays._replace(features=jnp.asarray(shown, jnp.float32))
  scaling = population.widened(scaling, len(kinds))
  layout = layout._replace(num_users=len(arrays.people['train'].mask))
  return Population(
    arrays=arrays,
    **functions(layout)._asdict(),
    spec=spec_of(arrays, layout, histories.feature_names),
    scaling=scaling,
    source=histories.source,
    content_hash=histories.content_hash,
    record=record_of(histories, layout, fold=fold, num_folds=num_folds, num_few=num_few),
    items=ItemPool(
      features=lambda arrays: arrays.features,
      with_features=lambda arrays, features: arrays._replace(features=features),
      choices=choices_of,
      user_ids=lambda arrays, split: np.asarray(histories.user_ids)[np.asarray(arrays.rows[split])],
      contexts=histories.context,
      texts=histories.item_texts,
      held_out=held_out,
    ),
    licence=histories.licence,
  )


def record_of(
  histories: Histories, layout: Layout, *, fold: int, num_folds: int, num_few: int
) -> dict[str, str | int]:
  """Returns what is shown of people, by name; `num_few` had too little to be evaluated on."""
  items = 'unseen' if layout.held_out else 'seen'
  return {
    'evaluated_on': f'unseen people, {items} items',
    'features': 'one-hot items' if histories.identity else 'given',
    'fold': fold,
    'num_folds': num_folds,
    'num_people': len(histories.mask),
    'num_dropped': histories.num_dropped,
    'num_comparisons': int(histories.mask.sum()),
    **({'remarks': histories.remarks} if histories.remarks else {}),
    **({} if layout.min_query is None else {'min_query': layout.min_query, 'num_too_few': num_few}),
    **({'outcomes': '+'.join(layout.kinds)} if layout.kinds else {}),
    **({'queries': 'no item of the support', 'num_too_few': num_few} if layout.fresh_items else {}),
  }


def kinds_of(histories: Histories) -> tuple[str, ...]:
  """Returns the kinds of outcomes that people answered."""
  if histories.outcome is None:
    return ()
  answered = np.unique(histories.outcome[histories.mask])
  return tuple(outcomes.KINDS[code - 1] for code in answered if code)


def choices_of(arrays: Arrays, split: str) -> ItemChoices:
  """Returns the choices of all people of a split; of who prefers neither item there is none."""
  own = arrays.people[split]
  mask = own.mask if own.answer is None else own.mask & outcomes.prefers(own.answer)
  return ItemChoices(own.chosen, own.rejected, mask)


def width_of(arrays: Arrays) -> int:
  """Returns D, which is I of one-hot ids."""
  num_items, width = arrays.features.shape
  return width or num_items


def spec_of(arrays: Arrays, layout: Layout, feature_names: tuple[str, ...]) -> Spec:
  """Returns the sizes of a population of real people."""
  num_users = len(arrays.people['train'].mask)
  return Spec(
    features=population.vector(width_of(arrays) + len(layout.kinds)),
    num_candidates=len(outcomes.outcomes_of(layout.kinds)),
    num_support=layout.num_support,
    num_query=layout.num_query,
    num_users=num_users,
    num_held_out={name: len(arrays.people[name].mask) for name in SPLITS[1:]},
    num_histories=num_users,
    history_length=layout.num_support + layout.num_query,
    feature_names=(*feature_names, *layout.kinds) if feature_names else (),
    outcomes=layout.kinds,
  )


@functools.cache
def functions(layout: Layout) -> Functions:
  """Returns the functions that all populations of one layout share."""

  def episode_of(arrays, user, split):
    key = jax.random.fold_in(population.fixed_key(split), user)
    width = arrays.people[split].mask.shape[1]
    in_order = jnp.arange(width, dtype=jnp.float32) / width
    return people_episodes.episode(arrays, user, split, layout, priority=in_order, key=key), None

  def sample_episode(arrays, key, split):
    key_user, key_priority, key_episode = jax.random.split(key, 3)
    num_users, width = arrays.people[split].mask.shape
    user = jax.random.randint(key_user, (), 0, num_users, jnp.int32)
    priority = jax.random.uniform(key_priority, (width,), jnp.float32)
    return people_episodes.episode(
      arrays, user, split, layout, priority=priority, key=key_episode
    ), None

  histories = population.histories_of(episode_of, layout.num_users)
  return Functions(sample_episode, episode_of, histories)
