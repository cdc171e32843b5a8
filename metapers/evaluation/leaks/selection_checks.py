"""What was chosen by looking is not judged by the same look: models, epochs, thresholds."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from metapers.core.task import Task, Truth
from metapers.core.types import Float, Int
from metapers.evaluation.leaks import people_checks, user_checks
from metapers.evaluation.leaks.matching import HostArray, Leak


class Selection(NamedTuple):
  """Whom and what something was chosen on, or is judged on; what is unknown is empty.

  people: ids. weights: [T, B] of simulated users. prompts: ids of the prompts queried.
  """

  people: Sequence | np.ndarray
  weights: Float[HostArray, 'T B']
  prompts: Int[HostArray, '_']


def of_people(ids: Sequence | np.ndarray) -> Selection:
  """Describes comparisons of real people."""
  return Selection(ids, np.zeros((0, 0), np.float32), np.zeros(0, int))


def of_episodes(tasks: Task, truth: Truth) -> Selection:
  """Describes the queries of T simulated users."""
  prompts = np.concatenate([truth.query_prompts[tasks.query.mask], truth.slate_prompts.ravel()])
  return Selection((), truth.weights, np.unique(prompts))


def selection(chosen_on: Selection, judged_on: Selection) -> list[Leak]:
  """Finds users and prompts that a model, an epoch, an option or a threshold was chosen on.

  Args:
    chosen_on: what was looked at when choosing.
    judged_on: what results are told of.
  """
  names = 'selection', 'judged'
  found = [
    *people_checks.shared_people(dict(zip(names, (chosen_on.people, judged_on.people)))),
    *user_checks.shared_users(dict(zip(names, (chosen_on.weights, judged_on.weights)))),
  ]
  told = [leak.told for leak in found]
  prompts = np.intersect1d(chosen_on.prompts, judged_on.prompts).size
  if prompts:
    told.append(
      f'{prompts} of {np.unique(judged_on.prompts).size} judged prompts were looked at when '
      'choosing: choose on validation prompts'
    )
  return [Leak('selection', one) for one in told]
