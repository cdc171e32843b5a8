"""Users who like more or less of one reward, and compare the replies of a store that fit whole.

The preferences are CONSTRUCTED (such as short replies, or lists) and the texts real: what a user
likes is known, so that neither a judge nor people are needed to tell what a policy has learned.
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from metapers.analysis.slates import Slates
from metapers.bench.language.in_context import Texts
from metapers.core.types import Float, Int
from metapers.llm.published import Comparison, Published, Turn

LENGTH = 'length'  # of other rewards only replies of like lengths are compared


class Taste(NamedTuple):
  """What a user likes. reward: of the store. sign: 1 for more of it, -1 for less. words: of it."""

  reward: str
  sign: int
  words: str


TASTES = {
  'short': Taste(LENGTH, -1, 'I like short replies.'),
  'long': Taste(LENGTH, 1, 'I like long replies.'),
  'lists': Taste('lists', 1, 'I like replies with lists.'),
  'prose': Taste('lists', -1, 'I like replies in plain prose, without lists.'),
  'formal': Taste('formality', 1, 'I like formal replies.'),
  'casual': Taste('formality', -1, 'I like casual replies.'),
}


class Sizes(NamedTuple):
  """Of a study. num_pairs: comparisons of a known user. num_held_out: new users, half of whom are
  validation users. margin: by how many standard deviations of its reward two replies differ at
  least. length_ratio: of the longer to the shorter reply at most, where length is not the reward.
  """

  num_users: int = 20
  num_pairs: int = 16
  num_held_out: int = 40
  num_support: int = 5
  num_query: int = 10
  margin: float = 0.5
  length_ratio: float = 1.1


class Pairs(NamedTuple):
  """Comparisons of two replies to one prompt, the one with more of the reward first."""

  prompts: Int[np.ndarray, 'M']
  more: Int[np.ndarray, 'M']
  less: Int[np.ndarray, 'M']


def users(
  train: Slates, test: Slates, texts: Texts, tastes: Sequence[str], sizes: Sizes, *, seed: int
) -> Published:
  """Returns users of each taste alike, whose tastes are `kinds`.

  Known users compare replies to train prompts, and are evaluated on test prompts; new ones have
  their support of train prompts, too. Each user draws pairs from all that there are, so that a
  prompt with many replies is compared more often than one with two.

  Args:
    train: slates without what does not fit.
    test: likewise, of other prompts.
    texts: of the store.
    tastes: keys of TASTES.
    sizes: of the study.
    seed: of what is compared.

  Raises:
    ValueError: for a taste or a reward that there is not, or one that too few pairs tell apart.
  """
  unknown = sorted(set(tastes) - set(TASTES))
  if unknown:
    raise ValueError(f'unknown taste {", ".join(unknown)}; known: {", ".join(TASTES)}')
  rng = np.random.default_rng([seed, 7])
  pools = {
    TASTES[name].reward: tuple(
      comparable(slates, TASTES[name].reward, texts, sizes) for slates in (train, test)
    )
    for name in tastes
  }
  known = dict(_named(tastes, sizes.num_users, 'known'))
  # Every second new user is a validation user, and so two of a taste follow each other.
  new = dict(_named([name for name in tastes for _ in range(2)], sizes.num_held_out, 'new'))

  def compared(user, taste, part, count):
    slates, pairs = (train, test)[part], pools[TASTES[taste].reward][part]
    rows = _drawn(rng, len(pairs.prompts), count, TASTES[taste].reward)
    return list(_comparisons(user, TASTES[taste], slates, pairs, rows, texts))

  trained, judged = [], []
  for user, taste in known.items():
    trained += compared(user, taste, 0, sizes.num_pairs)
    judged += compared(user, taste, 1, sizes.num_query)
  for user, taste in new.items():
    judged += compared(user, taste, 0, sizes.num_support)
    judged += compared(user, taste, 1, sizes.num_query)
  return Published(trained, judged, list(known), {}, known | new)


def comparable(slates: Slates, reward: str, texts: Texts, sizes: Sizes) -> Pairs:
  """Returns all pairs of replies that differ enough in a reward, and in length only if it is that.

  Raises:
    ValueError: for a reward that the store does not have.
  """
  scores = slates.scores['z'][..., _index(slates, reward)]
  lengths = np.vectorize(lambda text: len(text or ''), otypes=[float])(texts.responses[slates.rows])
  found = []
  for prompt, real in enumerate(slates.mask):
    for first, second in itertools.combinations(np.flatnonzero(real), 2):
      less, more = sorted((first, second), key=scores[prompt].__getitem__)
      is_far = scores[prompt, more] - scores[prompt, less] >= sizes.margin
      short, long = sorted(lengths[prompt, [first, second]])
      if is_far and (reward == LENGTH or long <= sizes.length_ratio * short):
        found.append((prompt, more, less))
  return Pairs(*np.array(found, np.int64).reshape(-1, 3).T)


def _index(slates: Slates, reward: str) -> int:
  if reward not in slates.reward_models:
    raise ValueError(
      f'the store has no reward {reward!r}, only {", ".join(slates.reward_models)}; extract it '
      'with constructed rewards'
    )
  return slates.reward_models.index(reward)


def _named(tastes: Sequence[str], count: int, kind: str) -> Iterator[tuple[str, str]]:
  for number, taste in zip(range(count), itertools.cycle(tastes)):
    yield f'{kind} {number}: {taste}', taste


def _drawn(
  rng: np.random.Generator, size: int, count: int, reward: str
) -> Int[np.ndarray, 'count']:
  if size < count:
    raise ValueError(
      f'{size} pairs of replies that fit differ enough in {reward}, and a user compares {count}; '
      'allow longer replies, a smaller margin, or fewer comparisons'
    )
  return rng.choice(size, count, replace=False)


def _comparisons(
  user: str, taste: Taste, slates: Slates, pairs: Pairs, rows: Int[np.ndarray, 'N'], texts: Texts
) -> Iterator[Comparison]:
  for prompt, more, less in zip(pairs.prompts[rows], pairs.more[rows], pairs.less[rows]):
    row = slates.rows[prompt]
    chosen, rejected = (more, less) if taste.sign > 0 else (less, more)
    asked = (Turn('user', texts.prompts[row]),)
    yield Comparison(user, asked, texts.responses[row, chosen], texts.responses[row, rejected])


Features = Mapping[tuple[str, str], Float[np.ndarray, 'D']]


def features_of(slates: Slates, texts: Texts) -> dict[str, Features]:
  """Returns what models of surfaces read of each (prompt, reply): rewards, its length, its writer.

  Args:
    slates: of all prompts.
    texts: of the store.
  """
  writers = np.eye(len(slates.response_models))[slates.response_model]
  length = slates.scores['z'][..., [_index(slates, LENGTH)]]
  kinds = {'surface': slates.scores['z'], 'length': length, 'writer': writers}
  places = [(int(prompt), int(reply)) for prompt, reply in np.argwhere(slates.mask)]
  return {
    kind: {_key(slates, texts, place): values[place].astype(np.float32) for place in places}
    for kind, values in kinds.items()
  }


def _key(slates: Slates, texts: Texts, place: tuple[int, int]) -> tuple[str, str]:
  row = slates.rows[place[0]]
  return texts.prompts[row], texts.responses[row, place[1]]
