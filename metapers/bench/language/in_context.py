"""In-context learning on simulated users: whose replies a model is shown, and what it then prefers.

Three places where examples come from, after PersonalLLM: a short history of the user's own
(`own`), every train prompt with the user's labels (`retrieved`), and the histories of known users
whose replies are like the user's (`lookup`). Of each the k nearest to the question are shown.

Reference:
  Zollo et al. 2024 (PersonalLLM), arXiv:2409.20296, section 4. Unlike there, each user's own
  weights choose the examples, and a model is judged by which of two given replies it finds the more
  likely (policy accuracy), so that neither a judge nor generation is needed.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from metapers.analysis import drivers, user_lookup
from metapers.analysis.slates import Slates
from metapers.analysis.user_lookup import Interactions
from metapers.core.types import Float, Int
from metapers.llm import in_context
from metapers.llm.chat_tokens import ChatTokens
from metapers.llm.in_context import Example
from metapers.populations import dirichlet

OWN, RETRIEVED, LOOKUP = 'own', 'retrieved', 'lookup'
SOURCES = (OWN, RETRIEVED, *(f'{LOOKUP} {kind}' for kind in user_lookup.EMBEDDINGS))
BEST = 'best'  # the candidate of the store that the user likes best


class Row(NamedTuple):
  """What is shown: `shots` examples from a source, in an arm of `in_context`."""

  source: str
  arm: str
  shots: int

  def __str__(self) -> str:
    return self.arm if self.arm == in_context.ZERO_SHOT else ':'.join(map(str, self))


ZERO = Row('', in_context.ZERO_SHOT, 0)


class Sizes(NamedTuple):
  """Of a study. num_history: interactions of every user. num_neighbors: known users pooled."""

  num_users: int = 200
  num_queries: int = 2
  num_history: int = 5
  num_known: int = 1000
  num_neighbors: int = 5


class Queries(NamedTuple):
  """Two replies to test prompts, the one that the user likes better first."""

  prompts: Int[np.ndarray, 'T M']
  preferred: Int[np.ndarray, 'T M']
  other: Int[np.ndarray, 'T M']


class Texts(NamedTuple):
  """Texts of the store: [P] prompts and [P, R] responses."""

  prompts: Any  # an array of objects; strings to who reads one
  responses: Any


class Study(NamedTuple):
  """Simulated users and what is asked.

  train, test: slates. weights: [T, B] of the new users, known_weights of the known ones.
  """

  train: Slates
  test: Slates
  weights: Float[np.ndarray, 'T B']
  known_weights: Float[np.ndarray, 'U B']
  history: Interactions
  known: Interactions
  queries: Queries


def parse_row(text: str) -> Row:
  """Returns the row of `SOURCE:ARM:SHOTS`, or of `zero_shot`.

  Raises:
    ValueError: naming what there is.
  """
  if text == in_context.ZERO_SHOT:
    return ZERO
  source, _, rest = text.partition(':')
  arm, _, shots = rest.partition(':')
  if source not in SOURCES or arm not in in_context.ARMS or not shots.isdigit() or shots == '0':
    raise ValueError(
      f'a row is {in_context.ZERO_SHOT} or SOURCE:ARM:SHOTS with a source of {", ".join(SOURCES)}, '
      f'an arm of {", ".join(in_context.ARMS)} and shots from 1 up; got {text!r}'
    )
  return Row(source, arm, int(shots))


def check_shots(rows: Sequence[Row], sizes: Sizes, num_train: int | float = math.inf) -> None:
  """Refuses rows of more examples than their source holds.

  Args:
    rows: what is shown.
    sizes: of the study.
    num_train: train prompts, where they are known.

  Raises:
    ValueError: naming the row.
  """
  pooled = min(sizes.num_neighbors, sizes.num_known) * sizes.num_history
  held = {OWN: (sizes.num_history, 'num_history'), RETRIEVED: (num_train, 'max_response')}
  for row in rows:
    most, raised = held.get(row.source, (pooled, 'num_history, num_neighbors or num_known'))
    if row != ZERO and row.shots > most:
      raise ValueError(
        f'the row {row} shows {row.shots} examples, and there are {most} to choose from; ask for '
        f'at most so many, or raise {raised}'
      )


def that_fit(
  given: Slates,
  texts: Texts,
  chat: ChatTokens,
  *,
  max_prompt: int,
  max_response: int,
  ended: Callable[[], object] = lambda: None,
) -> Slates:
  """Returns slates of prompts and responses that a model reads whole.

  Args:
    given: of a store.
    texts: of the store.
    chat: the model's template.
    max_prompt: tokens of a prompt with the template around it.
    max_response: of a response with what ends it.
    ended: is called after each response of `given`, real or not.

  Raises:
    ValueError: as `shortened`.
  """

  def length(text):
    ended()
    return len(chat.response(text)) if text else 0

  lengths = np.vectorize(length, otypes=[np.int64])(texts.responses[given.rows])
  short = np.array([len(chat.prompt(texts.prompts[row])) <= max_prompt for row in given.rows])
  return shortened(given, lengths * short[:, None], max_response)


def shortened(slates: Slates, lengths: Int[np.ndarray, 'P R'], most: int) -> Slates:
  """Returns slates without responses of more than `most` tokens, and without prompts that lose.

  Args:
    slates: of a store.
    lengths: tokens of each response of the slates.
    most: of one response.

  Raises:
    ValueError: where no prompt has two responses left.
  """
  mask = slates.mask & (lengths > 0) & (lengths <= most)
  kept = mask.sum(1) > 1
  if not kept.any():
    raise ValueError(f'no prompt has two responses of at most {most} tokens; allow longer ones')
  return slates._replace(mask=mask).only(kept)


def draw(train: Slates, test: Slates, concentration: float, sizes: Sizes, *, seed: int) -> Study:
  """Returns a study of users from Dirichlet(α·1), α = `concentration`, none of whom is known.

  Raises:
    ValueError: for longer histories than there are train prompts, or more queries than test ones.
  """
  if sizes.num_queries > len(test.mask):
    raise ValueError(
      f'{sizes.num_queries} queries of a user need as many test prompts; there are {len(test.mask)}'
    )
  rng = np.random.default_rng([seed, round(1e6 * concentration)])
  num_models = len(train.reward_models)
  new, known = (
    np.exp(dirichlet.sample_log_weights(rng, count, concentration, num_models))
    for count in (sizes.num_users, sizes.num_known)
  )
  return Study(
    train, test, new, known,
    user_lookup.interactions(rng, train, new, sizes.num_history),
    user_lookup.interactions(rng, train, known, sizes.num_history),
    draw_queries(rng, test, new, sizes.num_queries),
  )  # fmt: skip


def draw_queries(
  rng: np.random.Generator, test: Slates, weights: Float[np.ndarray, 'T B'], count: int
) -> Queries:
  """Returns random pairs of replies to random test prompts, each prompt once."""
  prompts = np.argsort(rng.random((len(weights), len(test.mask))), 1)[:, :count]
  order = np.where(test.mask[prompts], rng.random((*prompts.shape, test.mask.shape[1])), 2)
  pair = np.argsort(order, -1)[..., :2]  # [T, M, 2]
  scores = np.take_along_axis(test.scores['z'][prompts], pair[..., None], 2)  # [T, M, 2, B]
  rewards = np.einsum('tmkb,tb->tmk', scores, weights)
  better = rewards.argmax(-1)[..., None]
  preferred, other = (np.take_along_axis(pair, x, -1)[..., 0] for x in (better, 1 - better))
  return Queries(prompts, preferred, other)


def references(study: Study, store: Slates, rival: str) -> dict[str, Float[np.ndarray, 'T M']]:
  """Returns what each user makes of the best candidate, and of a named model's; NaN for none.

  Args:
    study: users and queries.
    store: all candidates for the test prompts, also those too long for the study.
    rival: the model; '' for none.

  Raises:
    ValueError: for a model that wrote no candidate.
  """
  prompts = np.searchsorted(store.rows, study.test.rows)[study.queries.prompts]
  own = np.einsum('tmrb,tb->tmr', store.scores['z'][prompts], study.weights)
  own = np.where(store.mask[prompts], own, np.nan)
  if not rival:
    return {BEST: np.nanmax(own, -1)}
  if rival not in store.response_models:
    raise ValueError(f'unknown rival {rival!r}; known: {", ".join(store.response_models)}')
  is_own = store.response_model[prompts] == store.response_models.index(rival)
  named = np.where(is_own, own, np.nan)
  some: np.ndarray = np.any(is_own & store.mask[prompts], -1)
  filled = np.where(some[..., None], named, 0)
  return {BEST: np.nanmax(own, -1), rival: np.where(some, np.nanmax(filled, -1), np.nan)}


def embeddings(slates: Slates) -> Float[np.ndarray, 'P D']:
  """Returns unit vectors of prompts: the mean features of their replies, scaled to length one.

  Raises:
    ValueError: for slates without features.
  """
  if slates.features is None:
    raise ValueError('examples are looked up by features, and this store has none: extract some')
  total = np.where(slates.mask[..., None], slates.features, 0).sum(1)
  return total / np.maximum(np.linalg.norm(total, axis=1, keepdims=True), 1e-12)


def pools_of(study: Study, source: str, sizes: Sizes) -> Interactions:
  """Returns the interactions that examples of each new user are taken from, [T, ...].

  Raises:
    ValueError: for a lookup in slates without features.
  """
  if source == OWN:
    return study.history
  if source == RETRIEVED:
    found = drivers.extremes(study.train.scores['z'], study.train.mask, study.weights)
    rows = np.arange(len(study.train.mask))
    return Interactions(np.broadcast_to(rows, found.best.shape), found.best, found.worst)
  if study.train.features is None:
    raise ValueError('users are looked up by features, and this store has none: extract some')
  kind = source.removeprefix(f'{LOOKUP} ')
  own, known = (
    user_lookup.embed(
      user_lookup.known_users(weights, study.train.features, history), kind, sizes.num_history
    )
    for weights, history in (
      (study.weights, study.history), (study.known_weights, study.known),
    )
  )  # fmt: skip
  near = user_lookup.nearest(own, known)[:, : sizes.num_neighbors]  # [T, k]
  return Interactions(*(each[near].reshape(len(near), -1) for each in study.known))


def of_user(pools: Interactions, user: int) -> Interactions:
  """Returns one user's interactions."""
  return Interactions(*(each[user] for each in pools))


def nearest_last(
  pool: Interactions, question: Float[np.ndarray, 'D'], prompts: Float[np.ndarray, 'P D'], k: int
) -> Interactions:
  """Returns the k interactions whose prompts are nearest to a question by cosine, nearest last."""
  order = np.argsort(prompts[pool.prompts] @ question, kind='stable')[-k:]
  return Interactions(*(each[order] for each in pool))


def examples_for(
  study: Study,
  pools: Interactions,
  asked: Float[np.ndarray, 'Q D'],
  known: Float[np.ndarray, 'P D'],
  user: int,
  query: int,
  *,
  k: int,
  texts: Texts,
) -> list[Example]:
  """Returns the k examples whose prompts are nearest to a query of a user, nearest last.

  Args:
    study: users and queries.
    pools: where examples are taken from, see `pools_of`.
    asked, known: `embeddings` of the test and of the train prompts.
    user, query: rows of the study's queries.
    k: how many.
    texts: of the store.
  """
  question = asked[study.queries.prompts[user, query]]
  near = nearest_last(of_user(pools, user), question, known, k)
  return [
    Example(texts.prompts[row], texts.responses[row, winning], texts.responses[row, losing])
    for row, winning, losing in zip(study.train.rows[near.prompts], near.winning, near.losing)
  ]


def shares_right(
  preferred: Float[np.ndarray, 'T M'], other: Float[np.ndarray, 'T M']
) -> Float[np.ndarray, 'T M']:
  """Returns 1 where the preferred reply has more, one half where both have the same."""
  return np.where(preferred > other, 1.0, np.where(preferred == other, 0.5, 0.0))
