"""PersonalLLM: 10,402 prompts, eight responses each, raw scores of ten reward models; stored users.

The stored users, fixed weights over reward models and histories of comparisons, are the sets
`PersonalLLM_Eval` (1,000 users) and `PersonalLLM_InteractionDatabase`.

Reference: Zollo et al. 2024, arXiv:2409.20296; huggingface.co/datasets/namkoong-lab/PersonalLLM.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from absl import logging

from metapers.core.population import SPLITS
from metapers.core.tables import Histories
from metapers.core.types import Float, Int
from metapers.data import comparisons, frames, hub, reward_table, texts
from metapers.data.personal_llm_constants import REWARD_MODELS
from metapers.data.texts import Texts

DATA_SET = 'namkoong-lab/PersonalLLM'
LICENCE = 'CC BY-NC 4.0 (the paper) or CC BY 4.0 (the hub): treat as non-commercial'
NUM_RESPONSES = 8
TOLERANCE = 1e-3  # of a published mean or sd, beyond which the difference is marked
USER_SETS = {
  'eval': ('namkoong-lab/PersonalLLM_Eval', 'test'),
  'interactions': ('namkoong-lab/PersonalLLM_InteractionDatabase', 'train'),
}
CHOICES = {'a': ('a', 'b'), 'b': ('b', 'a')}  # what was chosen -> the chosen, the rejected one
SAME_USER = 1e-6  # largest difference of a weight


class Loaded(NamedTuple):
  """The data set. texts: prompts in the order train, test. scores: reward model -> raw [P, R]."""

  texts: Texts
  scores: dict[str, Float[np.ndarray, 'P R']]


class Statistic(NamedTuple):
  """Mean and sd of one reward model's raw train scores, recomputed and published."""

  name: str
  mean: float
  published_mean: float
  std: float
  published_std: float

  @property
  def agrees(self) -> bool:
    """Returns whether both are within the tolerance of the published values."""
    gaps = abs(self.mean - self.published_mean), abs(self.std - self.published_std)
    return max(gaps) <= TOLERANCE


def score_columns() -> dict[str, list[str]]:
  """Returns reward model -> its eight columns."""
  numbers = range(1, NUM_RESPONSES + 1)
  return {name: [f'response_{i}_{name}' for i in numbers] for name in REWARD_MODELS}


def columns() -> list[str]:
  """Returns the 99 columns of the data set."""
  numbers = range(1, NUM_RESPONSES + 1)
  written = [f'response_{i}{ending}' for i in numbers for ending in ('', '_model')]
  scored = [name for names in score_columns().values() for name in names]
  return ['prompt', 'prompt_id', 'subset', *written, *scored]


def check_columns(frame: pd.DataFrame, split: str) -> None:
  """Checks that a split has the columns of the data set.

  Raises:
    ValueError: naming what is missing, and what is there that is not known.
  """
  missing = [name for name in columns() if name not in frame.columns]
  if missing:
    unknown = sorted(set(map(str, frame.columns)) - set(columns()))
    raise ValueError(
      f'split {split} of {DATA_SET} lacks {len(missing)} of its {len(columns())} columns: '
      f'{", ".join(missing[:6])}{", ..." if len(missing) > 6 else ""}; unknown among those there: '
      f'{", ".join(unknown[:6]) or "none"}'
    )


def load_data_set(*, path: str = '', revision: str = 'main') -> Loaded:
  """Returns prompts, responses and raw scores.

  Args:
    path: a local folder with train*.parquet and test*.parquet; '' for the hub.
    revision: of the hub's repository.

  Raises:
    ValueError: for a hub that cannot be reached, a column that is missing, or scores that are no
      numbers.
  """
  frames = {
    split: hub.read_table(DATA_SET, revision, path, split=split) for split in ('train', 'test')
  }
  for split, frame in frames.items():
    check_columns(frame, split)
  together = pd.concat(list(frames.values()), ignore_index=True)
  split = prompt_splits(len(frames['train']), len(frames['test']))
  return Loaded(texts.from_frame(together, split), texts.scores_of(together, score_columns()))


def prompt_splits(num_train: int, num_test: int) -> Int[np.ndarray, 'P']:
  """Returns the split of each prompt: train prompts drawn by a fixed seed are validation.

  They are 1,000 of the whole data set, and the same share of a part of it.
  """
  share = reward_table.NUM_VALIDATION / (reward_table.NUM_PROMPTS - reward_table.NUM_TEST)
  num_validation = max(1, round(share * num_train))
  return reward_table.assign_splits(
    num_train + num_test, num_validation=num_validation, num_test=num_test
  )


def statistics(loaded: Loaded) -> list[Statistic]:
  """Returns every reward model's mean and sd over all responses to the train prompts."""
  train = loaded.texts.prompt_split != SPLITS.index('test')
  readable = texts.readable(loaded.texts)[train]
  found = []
  for name, (mean, std) in REWARD_MODELS.items():
    values = loaded.scores[name][train][readable].astype(np.float64)
    values = values[np.isfinite(values)]
    found.append(Statistic(name, float(values.mean()), mean, float(values.std()), std))
  return found


def as_text(found: list[Statistic]) -> str:
  """Returns recomputed and published statistics as a table of text, marked where they differ."""
  lines = [f'{"reward model":20}{"mean":>10}{"published":>11}{"sd":>10}{"published":>11}']
  for one in found:
    mark = '' if one.agrees else f'  differs by more than {TOLERANCE:g}'
    lines.append(
      f'{one.name:20}{one.mean:10.4f}{one.published_mean:11.4f}{one.std:10.4f}'
      f'{one.published_std:11.4f}{mark}'
    )
  return '\n'.join(lines)


class Interaction(NamedTuple):
  """The texts of one stored comparison."""

  prompt: str
  chosen: str
  rejected: str


class StoredUsers(NamedTuple):
  """U stored users.

  weights: reward model -> [U], as `reward_ensemble(weights=...)` takes them for a split.
  user_ids: [U]. interactions: [U] lists, in the user's own order.
  """

  weights: dict[str, Float[np.ndarray, 'U']]
  user_ids: np.ndarray
  interactions: list[list[Interaction]]


def load_users(name: str, *, path: str = '', revision: str = 'main') -> StoredUsers:
  """Returns a set of stored users, `eval` or `interactions`, from the hub or a local folder.

  Raises:
    ValueError: for an unknown set, a hub that cannot be reached, or rows of another form.
  """
  if name not in USER_SETS:
    raise ValueError(f'unknown set of users {name!r}; known: {", ".join(USER_SETS)}')
  data_set, split = USER_SETS[name]
  frame = hub.read_table(data_set, revision, path, split=split)
  return users_from_rows(frame.to_dict('records'))


def users_from_rows(rows: Sequence[Mapping[Any, Any]]) -> StoredUsers:
  """Returns the users of rows with person_id, person_weight and a history.

  A history is `prompt_1`, `response_1_a`, `response_1_b`, `chosen_1`, ... or a list `history` of
  such. Weights stand in the sorted order of the reward models' names, which is the published one.

  Raises:
    ValueError: for a field that is missing or invalid, naming row and field.
  """
  users = [user_of(row, number) for number, row in enumerate(rows)]
  weights = np.array([weight for weight, _ in users], np.float64)
  ids = np.array([frames.id_of(row['person_id']) for row in rows])
  by_name = dict(zip(sorted(REWARD_MODELS), weights.T, strict=True))
  return StoredUsers(by_name, ids, [history for _, history in users])


def user_of(row: Mapping[Any, Any], number: int) -> tuple[np.ndarray, list[Interaction]]:
  """Returns weights and history of one row."""
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
  """Returns a row's comparisons, in order, in one form: prompt, a, b, chosen."""
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
  """Returns one comparison.

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
  """Returns the users' comparisons as rows among the responses of a store.

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
  contexts = np.arange(len(flat)) // num_responses
  return Histories(
    features=flat,
    item_ids=np.arange(len(flat)),
    user_ids=users.user_ids,
    chosen=chosen,
    rejected=rejected,
    mask=mask,
    context=contexts,
    identity=False,
    num_dropped=0,
    source=source,
    content_hash=comparisons.content_hash(flat, contexts, chosen, rejected, mask),
  )


def warn_of_shared(sets: Mapping[str, StoredUsers]) -> int:
  """Returns the number of users of one set whose weights are in another set, with a warning."""
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
        logging.warning('%d users of %s are in %s as well; leave them out', found, name, other)
  return shared


def rows_in(rows: Float[np.ndarray, 'U B'], others: Float[np.ndarray, 'V B']) -> Iterable[bool]:
  """Returns whether each row is among the others, up to rounding."""
  return (bool(np.any(np.abs(others - row).max(-1) < SAME_USER)) for row in rows)
