"""What a learner could know and must not: checks of a population before anything is trained on it.

Each is of something that made published numbers too good: people of the test set among those that
were learned from, a test prompt in a history, a rejected text that is written as a list, an epoch
chosen on test queries.
"""

from collections.abc import Mapping

import jax
import numpy as np

from metapers.core.population import (
  SEEN,
  SPLITS,
  ItemPool,
  Population,
  Responses,
)
from metapers.core.task import Task, Truth
from metapers.core.types import Any, Callable, Int, PyTree
from metapers.evaluation.leaks import (
  drawn_episodes,
  people_checks,
  prompt_checks,
  selection_checks,
  text_checks,
  user_checks,
)
from metapers.evaluation.leaks.drawn_episodes import Drawn
from metapers.evaluation.leaks.matching import HostArray, Leak, Leaks

VERSION = 2  # of the checks: what is found by one is looked for again by the next
NUM_USERS = 256  # whose episodes are looked at, of each split
# What is true where a kind of leak was looked for and not found.
CLAIMS = {
  'users': 'no user of one split is a user of another',
  'people': 'no person of one split is in another',
  'conversations': 'no conversation is on two sides',
  'prompts': 'no evaluation prompt was learned from',
  'pairs': 'no query comparison stands in its own support',
  'cues': 'nothing but preference reveals what was chosen',
  'texts': 'no text, and no form of one, gives anything away',
  'selection': 'no model is evaluated on users or prompts that it was chosen on',
}


def find_leaks(
  population: Population,
  *,
  contexts_are_conversations: bool = False,
  num_users: int = NUM_USERS,
) -> Leaks:
  """Returns the leaks of each kind that can be looked for, [] where there are none.

  Splits are compared as a whole. Of what users are shown it looks at the fixed episodes of
  `num_users` users of each held-out split (of all of them, where they are real people), and at as
  many episodes drawn for training. What can be checked depends on what is known: the weights and
  the responses of `population.simulation`, the `Truth` of episodes, the items of real people.

  Args:
    population: of any kind.
    contexts_are_conversations: a context of the items is a conversation of one person.
    num_users: see above.

  Raises:
    ValueError: for conversations where there are none.
  """
  items = population.items
  if contexts_are_conversations and (items is None or items.contexts is None):
    raise ValueError('conversations are of items of real people, and here are none: omit them')
  if items is not None:
    found = of_people(population, items) | of_shown_items(population, items)
    return found | (of_conversations(population, items) if contexts_are_conversations else {})
  return of_simulated_users(population, drawn_episodes.draw(population, num_users))


def not_run(population: Population, found: Leaks) -> dict[str, str]:
  """Returns which kinds of leaks could not be looked for in a population, and why.

  Args:
    population: as of `find_leaks`.
    found: what this returned.
  """
  items = population.items
  if items is None:
    reasons = {
      'users': 'no weights of users are known',
      'prompts': 'no truth of episodes is known',
      'selection': 'no truth of episodes is known',
      'texts': 'no texts of prompts are kept',
    }
  else:
    reasons = {'texts': 'the items have no texts'}
    if items.contexts is not None and np.unique(items.contexts).size > 1:
      reasons['conversations'] = (
        'nobody says whether contexts are conversations (experiments.leaks --conversations does)'
      )
  return {kind: why for kind, why in reasons.items() if kind not in found}


def require_no_leaks(found: Leaks) -> None:
  """Refuses what leaks for certain.

  Raises:
    ValueError: listing the leaks.
  """
  leaks = [leak for of_kind in found.values() for leak in of_kind if leak.is_certain]
  if leaks:
    raise ValueError('; '.join(f'leak of {leak.kind}: {leak.message}' for leak in leaks))


def of_simulated_users(population: Population, drawn: Drawn) -> Leaks:
  """Checks simulated users, as far as their weights, prompts and utilities are known.

  Args:
    population: of simulated users.
    drawn: its episodes.
  """
  facts, found = population.simulation, Leaks()
  if facts is not None and facts.users is not None:
    users = by_split(facts.users, population.arrays)
    found['users'] = user_checks.shared_users({name: own.weights for name, own in users.items()})
  known = {split: (tasks, truth) for split, (tasks, truth) in drawn.items() if truth is not None}
  responses = responses_of(population)
  if facts is not None and facts.prompt_texts is not None and any(facts.prompt_texts):
    shown = prompts_of(responses, known)
    texts = {split: facts.prompt_texts[np.asarray(own)] for split, own in shown.items()}
    found['texts'] = prompt_checks.repeated_texts(texts)
  if known:
    found['prompts'] = of_prompts(responses, known)
    found['selection'] = of_selection(known)
  else:
    found['pairs'] = [
      leak
      for split, (tasks, _) in drawn.items()
      for leak in people_checks.repeated_pairs(split, *drawn_episodes.offer_codes(tasks))
    ]
  return found | {'cues': drawn_episodes.cues(drawn, population.spec.outcomes)}


def responses_of(population: Population) -> dict[str, Responses]:
  """Fetches the responses to the prompts of each split, without features; {} where unknown."""
  facts = population.simulation
  if facts is None or facts.responses is None:
    return {}
  responses = facts.responses
  return by_split(
    lambda arrays, split: responses(arrays, split)._replace(features=()), population.arrays
  )


def by_split(function: Callable[[PyTree, str], PyTree], arrays: PyTree) -> dict[str, Any]:
  """Fetches what a function of the arrays returns for each split, train first."""
  return {split: jax.device_get(function(arrays, split)) for split in SPLITS}


def prompts_of(
  responses: Mapping[str, Responses], known: Mapping[str, tuple[Task, Truth]]
) -> Mapping[str, Int[HostArray, '_']]:
  """Returns the ids of the prompts of each split; without `responses`, of those in episodes."""
  prompts = {split: own.prompts for split, own in responses.items()}
  return prompts or prompt_checks.episode_prompts(known)


def of_prompts(
  responses: Mapping[str, Responses], known: Mapping[str, tuple[Task, Truth]]
) -> list[Leak]:
  """Checks that no prompt is on two sides; without `responses`, of those that episodes show."""
  prompts = prompts_of(responses, known)
  found = [*prompt_checks.shared_prompts(prompts), *prompt_checks.repeated_slates(responses)]
  for split, (tasks, truth) in known.items():
    own = 'test' if split == SEEN else split  # known users are evaluated on test prompts
    found += prompt_checks.repeated_in_query(split, tasks, truth)
    found += prompt_checks.misplaced(split, tasks, truth, prompts=prompts, own=own)
  return found


def of_selection(known: Mapping[str, tuple[Task, Truth]]) -> list[Leak]:
  """Checks that nothing that validation looks at is evaluated on."""
  chosen_on = selection_checks.of_episodes(*known['validation'])
  return [
    leak
    for split in known
    if split not in ('train', 'validation')
    for leak in selection_checks.repeated_selection(
      chosen_on, selection_checks.of_episodes(*known[split])
    )
  ]


def of_people(population: Population, items: ItemPool) -> Leaks:
  """Checks that no person is on two sides, and that no form of the texts tells what was chosen."""
  people = by_split(items.choices, population.arrays)
  ids = {split: items.user_ids(population.arrays, split) for split in SPLITS}
  num_items = len(items.features(population.arrays))
  held_out = items.held_out.get('test', np.zeros(num_items, bool))
  sides = (
    selection_checks.of_people(ids[split], people[split], held_out)
    for split in ('validation', 'test')
  )
  texts = {}
  if items.texts is not None:
    everyone = jax.tree.map(lambda *parts: np.concatenate(parts), *people.values())
    texts['texts'] = text_checks.revealing_items(items.texts, everyone)
  return texts | {
    'people': [
      *people_checks.shared_histories(people, num_items),
      *people_checks.shared_people(ids),
    ],
    'selection': selection_checks.repeated_selection(*sides),
  }


def of_shown_items(population: Population, items: ItemPool) -> Leaks:
  """Checks what all held-out people are shown, and what training draws."""
  features = jax.device_get(items.features(population.arrays))
  raw = drawn_episodes.unscaled(features, population.scaling)
  found: Leaks = {'pairs': [], 'cues': []}
  for split, tasks in numbered_episodes(population, items).items():
    support, query = (
      drawn_episodes.pair_codes(part, len(raw)) for part in (tasks.support, tasks.query)
    )
    found['pairs'] += people_checks.repeated_pairs(split, support, query)
    found['cues'] += drawn_episodes.cues({split: (drawn_episodes.with_features(tasks, raw), None)})
  return found


def numbered_episodes(population: Population, items: ItemPool) -> Mapping[str, Task]:
  """Draws the episodes of all people, with the numbers of items in place of features."""
  most = max(population.spec.num_held_out.values())
  return drawn_episodes.draw_numbered(population, items, most)


def of_conversations(population: Population, items: ItemPool) -> Leaks:
  """Checks that no conversation, a context of the items, is on two sides."""
  assert items.contexts is not None
  people = by_split(items.choices, population.arrays)
  found = people_checks.shared_conversations(people, items.contexts)
  drawn = numbered_episodes(population, items)
  for split in population.spec.num_held_out:  # training may learn from anything of its people
    support, query = (
      drawn_episodes.item_codes(part) for part in (drawn[split].support, drawn[split].query)
    )
    found += people_checks.divided_conversations(split, support, query, items.contexts)
  return {'conversations': found}
