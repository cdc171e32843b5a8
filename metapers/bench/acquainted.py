"""Whom a learner knows: users it was trained on, people it was chosen by."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from metapers.bench import plan as plans
from metapers.bench.plan import Condition, Plan
from metapers.core.population import SEEN, SPLITS, Population


def check(plan: Plan, condition: Condition, evaluated: Sequence[Population]) -> None:
  """Refuses to evaluate new people whom a learner knows, or known users whom it does not.

  Args:
    plan: of the table.
    condition: of the users.
    evaluated: their populations, one for each fold.

  Raises:
    ValueError: saying how many people they are, or which learner was trained on other users.
  """
  for row, entry in plans.entries_of(plan, condition).items():
    for make, population in zip(entry.populations, evaluated, strict=True):
      trained_on = make()
      if condition.split == SEEN:
        _require_seen(row, trained_on, population)
      else:
        _require_unseen(trained_on, population, condition.split)


def _require_seen(row: str, trained_on: Population, evaluated: Population) -> None:
  if trained_on is not evaluated and known_users(trained_on) != known_users(evaluated):
    raise ValueError(
      f'known users are evaluated, and {row} was trained on others ({trained_on.spec.num_users} of '
      f'them; {evaluated.spec.num_users} here): leave out what makes its users others (num_users, '
      'seed, fold, ...), or evaluate new ones'
    )


def known_users(population: Population) -> Any:
  """Returns what tells train users from others: people's ids, or the weights of simulated ones."""
  if population.items is not None:
    return people_of(population, ['train'])
  simulation = population.simulation
  if simulation is None or simulation.users is None:
    return population.spec.num_users
  return np.asarray(simulation.users(population.arrays, 'train').weights).tobytes()


def _require_unseen(trained_on: Population, evaluated: Population, split: str) -> None:
  known = people_of(trained_on, [other for other in SPLITS[:2] if other != split])
  asked = people_of(evaluated, [split])
  if known & asked:
    raise ValueError(
      f'{len(known & asked)} of {len(asked)} people to evaluate are trained on or chosen by: '
      'evaluate with the options that decide who is (fold, num_folds, ...) as in training'
    )


def people_of(population: Population, splits: Sequence[str]) -> set[Any]:
  """Returns the ids of the real people of some splits; none of simulated users."""
  pool = population.items
  if pool is None:
    return set()
  return {name for split in splits for name in pool.user_ids(population.arrays, split).tolist()}
