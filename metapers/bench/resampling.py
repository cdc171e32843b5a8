"""What is drawn anew beside real people: the items or contexts that training never showed."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import jax
import numpy as np

from metapers.core import population as core_population
from metapers.core.population import ItemPool, Population
from metapers.core.types import Bool, Int
from metapers.evaluation import adaptation

Kind = Literal['', 'items', 'contexts', 'items of one context']


class Resampled(NamedTuple):
  """What intervals are for, beside new people; by default nothing.

  ids: [T, N, Z] of it in each query comparison: its items (Z = K), or their context (Z = 1).
  """

  kind: Kind = ''
  ids: Int[np.ndarray, 'T N Z'] | None = None


def num_ids(kind: Kind, num_candidates: int) -> int:
  """Returns Z, the ids of a comparison of K candidates."""
  if not kind:
    return 0
  return 1 if kind == 'contexts' else num_candidates


def of_populations(
  populations: Sequence[Population], split: str, sizes: Sequence[int]
) -> Resampled:
  """Returns what was held out of training, where anything was.

  Whole contexts are held out where there are several (`populations.people`); then these are what
  differs from one study to the next, not the items in them. Of one alone no variance is known.

  Args:
    populations: one for each fold of the same people.
    split: of the people who are evaluated.
    sizes: how many of each population.
  """
  pool = populations[0].items
  if pool is None or split not in pool.held_out:
    return Resampled()
  drawn = [queried(one, pool, split, size) for one, size in zip(populations, sizes, strict=True)]
  items, real = (np.concatenate(parts) for parts in zip(*drawn))
  items = np.where(real, items, items[real][0])  # masked ones must not be one more to draw
  return of_items(items, pool)


def of_items(items: Int[np.ndarray, 'T N K'], pool: ItemPool) -> Resampled:
  """Returns what is drawn where these items of a pool are compared."""
  if pool.contexts is None or np.unique(pool.contexts).size == 1:
    return Resampled('items', items)
  contexts = pool.contexts[items[..., :1]]  # [T, N, 1], the items of a comparison share it
  if np.unique(contexts).size == 1:
    return Resampled('items of one context', items)
  return Resampled('contexts', contexts)


def queried(
  population: Population, pool: ItemPool, split: str, num_users: int
) -> tuple[Int[np.ndarray, 'T N K'], Bool[np.ndarray, 'T N K']]:
  """Returns the numbers of the items that people's queries offer, and which are real."""
  shown = core_population.numbered(population, pool)
  tasks, _ = adaptation.episodes(shown, split=split, num_users=num_users)
  most = 2 if population.spec.outcomes else None  # the others are no items
  offered = jax.tree.map(lambda x: np.asarray(x)[:, :, :most], tasks.query.candidates)
  return offered.features[..., 0].astype(np.int32), offered.mask
