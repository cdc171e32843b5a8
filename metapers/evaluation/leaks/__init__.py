"""What a learner could know and must not: checks of a population before anything is trained on it.

Each is of something that made published numbers too good: people of the test set among those that
were learned from, a test prompt in a history, a rejected text that is written as a list, an epoch
chosen on test queries.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import jax

from metapers.core.population import SPLITS, Population
from metapers.core.tables import Histories
from metapers.core.task import Task, Truth
from metapers.evaluation.leaks import (
  drawn_episodes,
  people_checks,
  prompt_checks,
  selection_checks,
  user_checks,
)
from metapers.evaluation.leaks.matching import Leak
from metapers.populations import people_episodes, reward_episodes

NUM_USERS = 256  # whose episodes are looked at, of each split
Found = dict[str, list[Leak]]  # by kind, in the order of checking; none where all is well


def check(
  population: Population,
  *,
  histories: Histories | None = None,
  contexts_are_conversations: bool = False,
  num_users: int = NUM_USERS,
) -> list[Leak]:
  """Runs all checks that apply to a population; see `by_kind`."""
  found = by_kind(
    population,
    histories=histories,
    contexts_are_conversations=contexts_are_conversations,
    num_users=num_users,
  )
  return [leak for leaks in found.values() for leak in leaks]


def require_none(leaks: Sequence[Leak]) -> None:
  """Refuses what leaks.

  Raises:
    ValueError: listing the leaks.
  """
  if leaks:
    raise ValueError('; '.join(f'leak of {leak.kind}: {leak.told}' for leak in leaks))


def by_kind(
  population: Population,
  *,
  histories: Histories | None = None,
  contexts_are_conversations: bool = False,
  num_users: int = NUM_USERS,
) -> Found:
  """Runs all checks that apply to a population.

  Splits are compared as a whole. Of what users are shown it looks at the fixed episodes of
  `num_users` users of each held-out split (of all of them, where they are real people), and at as
  many episodes drawn for training.

  Args:
    population: of any kind; what can be checked depends on it.
    histories: that real people were made of; these tell their ids and contexts.
    contexts_are_conversations: a context of the histories is a conversation of one person.
    num_users: see above.

  Returns:
    The leaks of each kind that was looked for.

  Raises:
    ValueError: for histories of another population, or conversations without histories.
  """
  arrays = jax.device_get(population.arrays)
  if not isinstance(arrays, people_episodes.Arrays) and (histories or contexts_are_conversations):
    raise ValueError('histories and conversations are of real people, and here are none; leave out')
  if contexts_are_conversations and histories is None:
    raise ValueError('conversations are told by the contexts of histories; give histories, too')
  if isinstance(arrays, people_episodes.Arrays):
    conversations = histories if contexts_are_conversations else None
    return of_people(arrays, histories) | of_shown(population, arrays, conversations)
  drawn = drawn_episodes.draw(population, num_users)
  if isinstance(arrays, reward_episodes.Arrays):
    return of_simulated_users(
      arrays, {k: (tasks, known) for k, (tasks, known) in drawn.items() if known is not None}
    )
  pairs = [
    leak
    for split, (tasks, _) in drawn.items()
    for leak in people_checks.repeated_pairs(split, *drawn_episodes.offered(tasks))
  ]
  return {'pairs': pairs, 'cues': drawn_episodes.cues(drawn)}


def in_order(by_split: Mapping[str, Any]) -> dict[str, Any]:
  """Puts train before what is held out, as it is told."""
  return {split: by_split[split] for split in SPLITS}


def of_simulated_users(
  arrays: reward_episodes.Arrays, drawn: Mapping[str, tuple[Task, Truth]]
) -> Found:
  """Checks users whose weights and prompts are known."""
  prompts = [
    *prompt_checks.shared_prompts(in_order(arrays.prompts)),
    *prompt_checks.repeated_slates(arrays.rewards, arrays.mask, in_order(arrays.prompts)),
  ]
  for split, (tasks, truth) in drawn.items():
    own = split if split in arrays.prompts else 'test'  # on which known users are judged
    prompts += prompt_checks.met_again(split, tasks, truth)
    prompts += prompt_checks.misplaced(split, tasks, truth, prompts=arrays.prompts, own=own)
  looked_at = selection_checks.of_episodes(*drawn['validation'])
  judged = [split for split in drawn if split not in ('train', 'validation')]
  return {
    'users': user_checks.shared_users(
      {k: users.weights for k, users in in_order(arrays.users).items()}
    ),
    'prompts': prompts,
    'cues': drawn_episodes.cues(drawn),
    'selection': [
      leak
      for split in judged
      for leak in selection_checks.selection(looked_at, selection_checks.of_episodes(*drawn[split]))
    ],
  }


def of_people(arrays: people_episodes.Arrays, histories: Histories | None) -> Found:
  """Checks that no person is on two sides."""
  groups = in_order(arrays.people)
  found: Found = {'people': people_checks.shared_histories(groups, len(arrays.features))}
  if histories is not None:
    ids = {split: people_checks.ids_of(histories, own) for split, own in groups.items()}
    found['people'] += people_checks.shared_people(ids)
    chosen_on, judged_on = (selection_checks.of_people(ids[k]) for k in ('validation', 'test'))
    found['selection'] = selection_checks.selection(chosen_on, judged_on)
  return found


def of_shown(
  population: Population, arrays: people_episodes.Arrays, conversations: Histories | None
) -> Found:
  """Checks what all held-out people are shown, and what training draws."""
  num_items = len(arrays.features)
  features = drawn_episodes.raw(arrays.features, population.scaling)
  drawn = drawn_episodes.draw_items(population, max(population.spec.num_held_out.values()))
  found: Found = {'pairs': [], 'cues': []}
  for split, tasks in drawn.items():
    support, query = (
      drawn_episodes.item_pairs(part, num_items) for part in (tasks.support, tasks.query)
    )
    found['pairs'] += people_checks.repeated_pairs(split, support, query)
    filled = drawn_episodes.with_features(tasks, features)
    found['cues'] += drawn_episodes.cues({split: (filled, None)})
  if conversations is not None:
    contexts = conversations.context
    found['conversations'] = people_checks.shared_conversations(in_order(arrays.people), contexts)
    for split in population.spec.num_held_out:  # training may learn from anything of its people
      support, query = (
        drawn_episodes.items(part) for part in (drawn[split].support, drawn[split].query)
      )
      found['conversations'] += people_checks.divided_conversations(split, support, query, contexts)
  return found
