"""PersonalLLM's stored users: fixed weights over reward models, and histories of comparisons.

The sets are `PersonalLLM_Eval` (1,000 users) and `PersonalLLM_InteractionDatabase`.

Reference: Zollo et al. 2024, arXiv:2409.20296.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from absl import logging

from metapers.core.tables import Histories
from metapers.core.types import Float
from metapers.data import comparisons, hub
from metapers.data.personal_llm_constants import REWARD_MODELS
from metapers.data.texts import Texts

DATA_SETS = {'eval': ('namkoong-lab/PersonalLLM_Eval', 'test')}
DATA_SETS['interactions'] = ('namkoong-lab/PersonalLLM_InteractionDatabase', 'train')
CHOICES = {'a': ('a', 'b'), 'b': ('b', 'a')}  # chosen -> which is chosen, which rejected
SAME_USER = 1e-6  # largest difference of a weight


class Interaction(NamedTuple):
  """One stored comparison: its texts, the chosen one first."""

  prompt: str
  chosen: str
  rejected: str


class StoredUsers(NamedTuple):
  """weights: reward model -> [U], as `reward_ensemble(weights=...)` takes them for a split.

  user_ids: [U]. interactions: [U] lists, in the user's own order.
  """

  weights: dict[str, Float[np.ndarray, 'U']]
  user_ids: np.ndarray
  interactions: list[list[Interaction]]


def load(name: str, *, path: str = '', revision: str = 'main') -> StoredUsers:
  """Loads a set of stored users, `eval` or `interactions`, from the hub or a local folder.

  Raises:
    ValueError: for an unknown set, a hub that cannot be reached, or rows of another form.
  """
  if name not in DATA_SETS:
    raise ValueError(f'unknown set of users {name!r}; known: {", ".join(DATA_SETS)}')
  data_set, split = DATA_SETS[name]
  frame = hub.read_table(data_set, revision, path, split=split)
  return from_rows(frame.to_dict('records'))


def from_rows(rows: Sequence[Mapping[Any, Any]]) -> StoredUsers:
  """Makes users of rows with person_id, person_weight and a history.

  A history is `prompt_1`, `response_1_a`, `response_1_b`, `chosen_1`, ... or a list `history` of
  such. Weights stand in the sorted order of the reward models' names, which is the published one.

  Raises:
    ValueError: for a field that is missing or means nothing, naming row and field.
  """
  users = [user_of(row, number) for number, row in enumerate(rows)]
  weights = np.array([weight for weight, _ in users], np.float64)
  ids = np.array([row['person_id'] for row in rows])
  by_name = dict(zip(sorted(REWARD_MODELS), weights.T, strict=True))
  return StoredUsers(by_name, ids, [history for _, history in users])


def user_of(row: Mapping[Any, Any], number: int) -> tuple[np.ndarray, list[Interaction]]:
  """Reads weights and history of one row."""
  missing = [name for name in ('person_id', 'person_weight') if name not in row]
  if missing:
    raise ValueError(f'row {number} has no {", ".join(missing)}; it has {", ".join(map(str, row))}')
  weight = np.asarray(row['person_weight'], np.float64)
  if weight.shape != (len(REWARD_MODELS),) or not np.isclose(weight.sum(), 1, atol=1e-3):
    raise ValueError(
      f'person_weight of row {number} must be {len(REWARD_MODELS)} numbers that sum to 1, got '
      f'{weight.shape} with sum {weight.sum():.4g}'
    )
  return weight, [interaction(one, number) for one in history_of(row)]


def history_of(row: Mapping[Any, Any]) -> list[Mapping[str, Any]]:
  """Collects a row's comparisons, in order, in one form: prompt, a, b, chosen."""
  if 'history' in row:
    return list(row['history'])
  numbers = sorted(
    int(match[1]) for name in row if (match := re.fullmatch(r'chosen_(\d+)', str(name)))
  )
  fields = {
    'prompt': 'prompt_{}',
    'a': 'response_{}_a',
    'b': 'response_{}_b',
    'chosen': 'chosen_{}',
  }
  made = [{name: row.get(form.format(n)) for name, form in fields.items()} for n in numbers]
  return [one for one in made if isinstance(one['prompt'], str)]  # histories differ in length


def interaction(one: Mapping[str, Any], number: int) -> Interaction:
  """Reads one comparison.

  Raises:
    ValueError: for a choice that is neither a nor b, or a text that is missing.
  """
  if one.get('chosen') not in CHOICES:
    raise ValueError(f'row {number}: chosen must be a or b, got {one.get("chosen")!r:.80}')
  first, second = CHOICES[one['chosen']]
  found = (one.get('prompt'), one.get(first), one.get(second))
  if not all(isinstance(text, str) for text in found):
    raise ValueError(f'row {number}: prompt, a and b must be texts, got {found!r:.120}')
  return Interaction(*map(str, found))


def to_histories(
  users: StoredUsers, read: Texts, features: Float[np.ndarray, 'P R D'], *, source: str
) -> Histories:
  """Finds the users' comparisons among the responses of a store.

  Args:
    users: U of them.
    read: the store's texts.
    features: [P, R, D] of the same responses.
    source: one line, shown with every result.

  Raises:
    ValueError: for a response that the store does not hold.
  """
  num_responses = read.responses.shape[1]
  places = {
    (prompt, response): row * num_responses + position
    for row, (prompt, responses) in enumerate(zip(read.prompts, read.responses))
    for position, response in reversed(list(enumerate(responses)))
  }
  wanted = [one for history in users.interactions for one in history]
  lost = [one for one in wanted for text in one[1:] if (one.prompt, text) not in places]
  if lost:
    raise ValueError(
      f'{len(lost)} of {2 * len(wanted)} responses are not in the store, the first to the prompt '
      f'{lost[0].prompt!r:.80}; extract the data set that they come from'
    )
  longest = max(map(len, users.interactions))
  chosen, rejected = (np.zeros((len(users.user_ids), longest), np.int64) for _ in range(2))
  mask = np.zeros(chosen.shape, bool)
  for user, history in enumerate(users.interactions):
    for n, one in enumerate(history):
      chosen[user, n] = places[one.prompt, one.chosen]
      rejected[user, n] = places[one.prompt, one.rejected]
      mask[user, n] = chosen[user, n] != rejected[user, n]  # identical texts are no comparison
  flat = np.asarray(features).reshape(-1, features.shape[-1]).astype(np.float32)
  return Histories(
    features=flat,
    item_ids=np.arange(len(flat)),
    user_ids=users.user_ids,
    chosen=chosen,
    rejected=rejected,
    mask=mask,
    context=np.arange(len(flat)) // num_responses,
    identity=False,
    num_dropped=0,
    source=source,
    content_hash=comparisons.content_hash(flat, chosen, rejected, mask),
  )


def warn_of_shared(sets: Mapping[str, StoredUsers]) -> int:
  """Counts, and warns of, users of one set whose weights stand in another set as well."""
  stacked = {
    name: np.stack(list(users.weights.values()), -1).astype(np.float64)
    for name, users in sets.items()
  }
  names, shared = list(stacked), 0
  for index, name in enumerate(names):
    for other in names[index + 1 :]:
      found = sum(rows_in(stacked[name], stacked[other]))
      shared += found
      if found:
        logging.warning('%d users of %s stand in %s as well; leave them out', found, name, other)
  return shared


def rows_in(rows: Float[np.ndarray, 'U B'], others: Float[np.ndarray, 'V B']) -> Iterable[bool]:
  """Tells of each row whether it is among the others, up to rounding."""
  return (bool(np.any(np.abs(others - row).max(-1) < SAME_USER)) for row in rows)


def to_frame(users: StoredUsers) -> pd.DataFrame:
  """Returns the users' weights as a table, a column for each reward model."""
  return pd.DataFrame(users.weights, index=users.user_ids)
