"""Episodes as named arrays: what a learner may see of users, and what only judges see."""

from collections.abc import Mapping

import jax.numpy as jnp
import numpy as np

from metapers.core import masked, task
from metapers.core.task import Candidates, Choices, Task, Truth
from metapers.core.types import Array

# Dimension letters of `core.types`, and what each array holds.
ARRAYS = {
  'user': ('T', 'number of the user in this file'),
  'known_user': ('T', 'row among the users trained on; their number for a new user'),
  'fold': ('T', 'fold in which the user is judged: learn from train users of the same fold only'),
  'context': ('T C', 'what a learner is told besides'),
  'shots': ('L', 'numbers of first real support comparisons to predict after'),
  'support_features': ('T N K D', 'what was compared, 0 where masked'),
  'support_shown': ('T N K', 'candidate is real'),
  'support_choice': ('T N', 'index into K of the preferred candidate'),
  'support_mask': ('T N', 'comparison is real'),
  'query_features': ('T N K D', 'what is to be predicted, 0 where masked'),
  'query_shown': ('T N K', 'candidate is real'),
  'query_choice': ('T N', 'index into K of the preferred candidate; of a test in the truth only'),
  'query_mask': ('T N', 'comparison is real'),
  'slate_features': ('T M R D', 'responses to choose the best of, 0 where masked'),
  'slate_shown': ('T M R', 'response is real'),
  'weights': ('T B', 'of the reward models'),
  'support_rewards': ('T N E B', 'of what bears on the support, the K shown first'),
  'support_reward_mask': ('T N E', 'reward is there'),
  'support_prompts': ('T N', 'ids'),
  'query_rewards': ('T N E B', 'of what bears on the query, the K shown first'),
  'query_reward_mask': ('T N E', 'reward is there'),
  'query_prompts': ('T N', 'ids'),
  'slate_rewards': ('T M R B', 'of the responses of the slates'),
  'slate_prompts': ('T M', 'ids'),
  'slate_models': ('T M R', 'index of the model that wrote a response'),
  'log_probs': ('L T N K', 'what a reference predicts, in nats'),
  'slate_scores': ('L T M R', 'utilities of a reference'),
}
# Fields of `Truth` that are of the judges alone, by the name of their array.
HIDDEN = {
  'weights': 'weights', 'support_rewards': 'support_rewards',
  'support_reward_mask': 'support_mask', 'support_prompts': 'support_prompts',
  'query_rewards': 'query_rewards', 'query_reward_mask': 'query_mask',
  'query_prompts': 'query_prompts', 'slate_rewards': 'slate_rewards',
  'slate_prompts': 'slate_prompts', 'slate_models': 'slate_models',
}  # fmt: skip
Arrays = Mapping[str, np.ndarray]


def shown(
  tasks: Task, slate: Candidates | None = None, *, has_labels: bool
) -> dict[str, np.ndarray]:
  """Returns what a learner may see of T users.

  Args:
    tasks: the users.
    slate: [T, M, R, D] to pick from, if any.
    has_labels: include what they chose in the query.
  """
  support, query = task.drop_masked(tasks.support), task.drop_masked(tasks.query)
  arrays = {
    'user': np.arange(len(tasks.user), dtype=np.int32),
    'known_user': tasks.user,
    'context': tasks.context,
    **{f'support_{name}': value for name, value in _fields(support).items()},
    **{f'query_{name}': value for name, value in _fields(query).items()},
  }
  if not has_labels:
    del arrays['query_choice']
  if slate is not None:
    features = masked.fill_features(slate.features, slate.mask)
    arrays |= {'slate_features': features, 'slate_shown': slate.mask}
  return {name: np.asarray(value) for name, value in arrays.items()}


def hidden(tasks: Task, truth: Truth | None) -> dict[str, np.ndarray]:
  """Returns what only judges see; of real people, what they chose."""
  arrays = {'query_choice': task.drop_masked(tasks.query).choice}
  if truth is not None:
    arrays |= {name: truth._asdict()[field] for name, field in HIDDEN.items()}
  return {name: np.asarray(value) for name, value in arrays.items()}


def rebuild(seen: Arrays, judged: Arrays) -> tuple[Task, Truth | None]:
  """Joins what `shown` and `hidden` gave into the episodes that they are of.

  Masked entries may differ, which nobody looks at.
  """

  arrays = {name: jnp.asarray(array) for name, array in {**seen, **judged}.items()}

  def choices(part: str) -> Choices:
    features, mask = arrays[f'{part}_features'], arrays[f'{part}_shown']
    return task.choices(
      Candidates(features, mask), arrays[f'{part}_choice'], arrays[f'{part}_mask']
    )

  tasks = Task(choices('support'), choices('query'), arrays['known_user'], arrays['context'])
  if 'weights' not in arrays:
    return tasks, None
  slate = Candidates(arrays['slate_features'], arrays['slate_shown'])
  return tasks, Truth(slate=slate, **{field: arrays[name] for name, field in HIDDEN.items()})


def _fields(choices: Choices) -> dict[str, Array]:
  return {
    'features': choices.candidates.features,
    'shown': choices.candidates.mask,
    'choice': choices.choice,
    'mask': choices.mask,
  }
