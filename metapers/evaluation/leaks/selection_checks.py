"""Nothing is evaluated on users and prompts that it was chosen on: models, epochs, thresholds."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from metapers.core.population import ItemChoices
from metapers.core.task import Task, Truth
from metapers.core.types import Bool, Float, Int
from metapers.evaluation.leaks import people_checks, user_checks
from metapers.evaluation.leaks.matching import HostArray, Leak


class Selection(NamedTuple):
  """Whom and what something was chosen on, or is evaluated on; what is unknown is empty.

  people: ids. weights: [T, B] of simulated users. prompts: ids of the prompts, or items, queried.
  """

  people: Sequence | np.ndarray
  weights: Float[HostArray, 'T B']
  prompts: Int[HostArray, '_']


def of_people(
  ids: Sequence | np.ndarray, people: ItemChoices, held_out: Bool[np.ndarray, 'I']
) -> Selection:
  """Describes comparisons of real people, of which items only the test may show.

  Args:
    ids: of the people.
    people: what they were asked.
    held_out: whether an item is held out for the test.
  """
  shown = np.concatenate([people.chosen[people.mask], people.rejected[people.mask]])
  return Selection(ids, np.zeros((0, 0), np.float32), np.unique(shown[held_out[shown]]))


def of_episodes(tasks: Task, truth: Truth) -> Selection:
  """Describes the queries of T simulated users."""
  prompts = np.concatenate([truth.query_prompts[tasks.query.mask], truth.slate_prompts.ravel()])
  return Selection((), truth.weights, np.unique(prompts))


def repeated_selection(chosen_on: Selection, evaluated_on: Selection) -> list[Leak]:
  """Finds evaluation users and prompts that a model, an epoch or a threshold was chosen on.

  Args:
    chosen_on: what was looked at when choosing.
    evaluated_on: what results are reported of.
  """
  names = 'selection', 'evaluation'
  found = [
    *people_checks.shared_people(dict(zip(names, (chosen_on.people, evaluated_on.people)))),
    *user_checks.shared_users(dict(zip(names, (chosen_on.weights, evaluated_on.weights)))),
  ]
  messages = [leak.message for leak in found]
  prompts = np.intersect1d(chosen_on.prompts, evaluated_on.prompts).size
  if prompts:
    messages.append(
      f'{prompts} of {np.unique(evaluated_on.prompts).size} evaluation prompts were looked at when '
      'choosing: choose on validation prompts'
    )
  return [Leak('selection', message) for message in messages]
