"""No prompt that users are evaluated on stands in what was learned from."""

import itertools
from collections.abc import Mapping, Sequence

import numpy as np

from metapers.core.population import SPLITS, Responses
from metapers.core.task import Task, Truth
from metapers.core.types import Int
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
  return [Leak('prompts', message) for message in found]


def repeated_slates(responses: Mapping[str, Responses]) -> list[Leak]:
  """Finds prompts of two splits whose responses have the very same scores: texts under two ids.

  Args:
    responses: name of a split -> responses to its prompts, in whatever order; what is masked is not
      compared.
  """
  key_of = {split: slate_keys(own) for split, own in responses.items()}
  return [
    Leak('prompts', message) for message in repeated(key_of, 'have the scores of the responses to')
  ]


def slate_keys(responses: Responses) -> np.ndarray:
  """Packs the scores of each prompt's responses, in sorted order, into one value each."""
  mask = np.asarray(responses.mask)
  real = np.where(mask[..., None], responses.rewards, np.inf)
  order = np.lexsort(np.moveaxis(real, -1, 0))  # [P, R]
  slates = np.take_along_axis(real, order[..., None], 1).reshape(len(real), -1)
  return matching.keys(slates)[mask.any(1)]


def repeated_texts(texts: Mapping[str, Sequence[str] | np.ndarray]) -> list[Leak]:
  """Finds prompts of two splits with the same words, whatever their case and white space.

  Args:
    texts: name of a split -> its prompts; those without words are not compared.
  """
  plain = {
    split: np.array([' '.join(text.split()).casefold() for text in own if text.strip()], object)
    for split, own in texts.items()
  }
  return [Leak('texts', message) for message in repeated(plain, 'have the text of')]


def repeated(values: Mapping[str, np.ndarray], relation: str) -> list[str]:
  """Describes the prompts of one split that are like a prompt of another."""
  found = []
  for first, second in itertools.combinations(values, 2):
    both = set(values[first].tolist()).intersection(values[second].tolist())
    count = sum(one in both for one in values[second].tolist())
    if count:
      found.append(
        f'{count} of {len(values[second])} {second} prompts {relation} a {first} prompt: drop them '
        'or put both into one split'
      )
  return found


def episode_prompts(drawn: Mapping[str, tuple[Task, Truth]]) -> dict[str, Int[np.ndarray, '_']]:
  """Collects the prompts that episodes train on, or evaluate users on, for each of SPLITS.

  Args:
    drawn: split -> episodes of T users.
  """
  of_splits = {split: drawn[split] for split in SPLITS if split in drawn}
  return {
    split: np.unique(
      np.concatenate(
        [
          truth.query_prompts[tasks.query.mask],
          truth.slate_prompts.ravel(),
          truth.support_prompts[tasks.support.mask & (split == 'train')],
        ]
      )
    )
    for split, (tasks, truth) in of_splits.items()
  }


def repeated_in_query(split: str, tasks: Task, truth: Truth) -> list[Leak]:
  """Finds users evaluated on a prompt of their own support.

  Args:
    split: of the users.
    tasks: of T users.
    truth: of the same.
  """
  support = Codes(truth.support_prompts, tasks.support.mask)
  query = Codes(truth.query_prompts, tasks.query.mask)
  slates = Codes(truth.slate_prompts, np.ones(truth.slate_prompts.shape, bool))
  found = []
  for part, name in ((query, 'query comparisons'), (slates, 'slates')):
    count, num_users = matching.num_repeated(support, part)
    if count:
      found.append(
        f'{count} {name} of {num_users} {split} users are on a prompt of their support: draw '
        'distinct prompts'
      )
  return [Leak('prompts', message) for message in found]


def misplaced(
  split: str,
  tasks: Task,
  truth: Truth,
  *,
  prompts: Mapping[str, Int[HostArray, '_']],
  own: str,
) -> list[Leak]:
  """Finds users evaluated on prompts that are not their split's, and histories that show those.

  Args:
    split: of the users.
    tasks: of T users.
    truth: of the same.
    prompts: split -> ids of its prompts.
    own: the split on whose prompts they are to be evaluated.
  """
  query = truth.query_prompts[tasks.query.mask]
  evaluated = np.concatenate([query, truth.slate_prompts.ravel()])
  strange = int(np.sum(~np.isin(evaluated, prompts[own])))
  found = []
  if strange:
    found.append(
      f'{strange} of {evaluated.size} prompts on which {split} users are evaluated are not {own} '
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
  return [Leak('prompts', message) for message in found]
