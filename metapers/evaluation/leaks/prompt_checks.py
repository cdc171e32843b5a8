"""No prompt that users are judged on stands in what was learned from."""

import itertools
from collections.abc import Mapping, Sequence

import numpy as np

from metapers.core.task import Task, Truth
from metapers.core.types import Bool, Float, Int
from metapers.evaluation.leaks import matching
from metapers.evaluation.leaks.matching import Codes, HostArray, Leak


def shared_prompts(prompts: Mapping[str, Int[HostArray, '_']]) -> list[Leak]:
  """Finds prompts that stand in two splits.

  Args:
    prompts: name of a split -> ids of its prompts.
  """
  found = []
  for first, second in itertools.combinations(prompts, 2):
    both = np.intersect1d(prompts[first], prompts[second])
    if both.size:
      found.append(
        f'{both.size} {second} prompts, such as number {both[0]}, are {first} prompts, too: assign '
        'every prompt to one split'
      )
  return [Leak('prompts', told) for told in found]


def repeated_slates(
  rewards: Float[HostArray, 'P R B'],
  mask: Bool[HostArray, 'P R'],
  prompts: Mapping[str, Int[HostArray, '_']],
) -> list[Leak]:
  """Finds prompts of two splits whose responses have the very same scores: texts under two ids.

  Args:
    rewards: scores; what is masked is not compared.
    mask: which responses are real. The order of responses does not matter.
    prompts: name of a split -> ids of its prompts.
  """
  real = np.where(mask[..., None], rewards, np.inf)
  order = np.lexsort(np.moveaxis(real, -1, 0))  # [P, R]
  slates = np.take_along_axis(real, order[..., None], 1).reshape(len(real), -1)
  key = matching.keys(slates)
  key_of = {split: key[own[mask[own].any(1)]] for split, own in prompts.items()}
  return repeated(key_of, 'have the scores of the responses to')


def repeated_texts(texts: Mapping[str, Sequence[str] | np.ndarray]) -> list[Leak]:
  """Finds prompts of two splits with the same words, whatever their case and white space.

  Args:
    texts: name of a split -> its prompts.
  """
  plain = {
    split: np.array([' '.join(text.split()).casefold() for text in own], object)
    for split, own in texts.items()
  }
  return repeated(plain, 'have the text of')


def repeated(values: Mapping[str, np.ndarray], relation: str) -> list[Leak]:
  """Tells of prompts of one split that are alike a prompt of another."""
  found = []
  for first, second in itertools.combinations(values, 2):
    both = set(values[first].tolist()).intersection(values[second].tolist())
    count = sum(one in both for one in values[second].tolist())
    if count:
      found.append(
        f'{count} of {len(values[second])} {second} prompts {relation} a {first} prompt: drop them '
        'or put both into one split'
      )
  return [Leak('prompts', told) for told in found]


def met_again(split: str, tasks: Task, truth: Truth) -> list[Leak]:
  """Finds users judged on a prompt of their own support.

  Args:
    split: of the users.
    tasks: of T users.
    truth: of the same.
  """
  support = Codes(truth.support_prompts, tasks.support.mask)
  query = Codes(truth.query_prompts, tasks.query.mask)
  slates = Codes(truth.slate_prompts, np.ones(truth.slate_prompts.shape, bool))
  found = []
  for part, name in ((query, 'comparisons'), (slates, 'slates')):
    count, num_users = matching.num_met_again(support, part)
    if count:
      found.append(
        f'{count} judged {name} of {num_users} {split} users are on a prompt of their support: '
        'draw distinct prompts'
      )
  return [Leak('prompts', told) for told in found]


def misplaced(
  split: str,
  tasks: Task,
  truth: Truth,
  *,
  prompts: Mapping[str, Int[HostArray, '_']],
  own: str,
) -> list[Leak]:
  """Finds users judged on prompts that are not their split's, and histories that show those.

  Args:
    split: of the users.
    tasks: of T users.
    truth: of the same.
    prompts: split -> ids of its prompts.
    own: the split of whose prompts they are to be judged on.
  """
  query = truth.query_prompts[tasks.query.mask]
  judged = np.concatenate([query, truth.slate_prompts.ravel()])
  strange = int(np.sum(~np.isin(judged, prompts[own])))
  found = []
  if strange:
    found.append(
      f'{strange} of {judged.size} prompts on which {split} users are judged are not {own} '
      'prompts: draw them from the split'
    )
  shown = truth.support_prompts[tasks.support.mask]
  for other in prompts:
    count = int(np.sum(np.isin(shown, prompts[other])))
    if count and other not in ('train', own):
      found.append(
        f'{count} of {shown.size} comparisons in histories of {split} users are on {other} '
        'prompts: draw them from the train split'
      )
  return [Leak('prompts', told) for told in found]
