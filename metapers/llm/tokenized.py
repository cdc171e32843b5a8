"""Published comparisons as the splits of a population: texts become tokens of fixed lengths."""

import functools
from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from metapers.core import task
from metapers.core.population import SEEN
from metapers.core.task import Candidates, Choices, Task
from metapers.core.types import Callable, Context
from metapers.llm import p_dpo
from metapers.llm.published import Comparison, Published, Turn
from metapers.llm.text_users import Split

Make = Callable[[Sequence[Comparison], int], Choices]


class Encoder(NamedTuple):
  """How texts become tokens.

  prompt: of turns, with the token that begins a text and without the response. response: of a
  response, with the token that ends it. text: of what users say of themselves.
  """

  prompt: Callable[[Sequence[Turn]], list[int]]
  response: Callable[[str], list[int]]
  text: Callable[[str], list[int]]


class Lengths(NamedTuple):
  """Most tokens of each part. A longer prompt loses its first ones, but not the very first."""

  prompt: int
  response: int
  text: int = 0


def splits_of(
  published: Published,
  encoder: Encoder,
  lengths: Lengths,
  *,
  num_support: int = 5,
  num_query: int = 20,
) -> dict[str, Split]:
  """Returns the splits of `text_users.text_users`, without what a reference model says.

  Args:
    published: comparisons.
    encoder: of texts.
    lengths: at which they are cut.
    num_support: as in `splits_by`.
    num_query: likewise.

  Raises:
    ValueError: as there.
  """
  made = functools.partial(choices_of, encoder=encoder, lengths=lengths)
  said = functools.partial(_said, encoder=encoder, length=lengths.text)
  return splits_by(published, made, said, num_support=num_support, num_query=num_query)


def splits_by(
  published: Published,
  made: Make,
  said: Callable[[str], Context] = lambda text: task.no_context(),
  *,
  num_support: int = 5,
  num_query: int = 20,
) -> dict[str, Split]:
  """Returns the users of an experiment, whose comparisons are arrays of any form.

  New users are divided between 'validation' and 'test', one after the other; each gives the first
  num_support comparisons as support, and who has no more of them is left out.

  Args:
    published: comparisons.
    made: `(comparisons, size) -> Choices`, padded to the size.
    said: what somebody says of themselves as the context of a task; nothing by default.
    num_support: of new users.
    num_query: comparisons that a user is evaluated on, at most.

  Raises:
    ValueError: where a split would be empty.
  """
  train, judged = by_user(published.train), by_user(published.evaluation)
  rows = {user: row for row, user in enumerate(published.known)}
  users = users_of(published, num_support)
  history = max(map(len, train.values()), default=0)

  def choices(users, given, size):
    own = [made(list(given.get(user, ()))[:size], size) for user in users]
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *own)

  def split(users, support, query, sizes):
    if not users:
      raise ValueError(
        'a split has no users: known ones need comparisons to evaluate, new ones too'
      )
    number = jnp.asarray([rows.get(user, len(rows)) for user in users], jnp.int32)
    told = [said(published.texts.get(user, '')) for user in users]
    context = jax.tree.map(lambda *leaves: jnp.stack(leaves), *told)
    given = choices(users, support, sizes[0]), choices(users, query, sizes[1])
    return Split(Task(*given, number, context))

  def held_out(users):
    support, query = (
      {user: judged[user][part] for user in users}
      for part in (slice(num_support), slice(num_support, None))
    )
    return split(users, support, query, (num_support, num_query))

  return {
    'train': split(published.known, train, {}, (history, 0)),
    SEEN: split(published.known, train, judged, (num_support, num_query)),
    'validation': held_out(users['validation']),
    'test': held_out(users['test']),
  }


def users_of(published: Published, num_support: int) -> dict[str, list[str]]:
  """Returns the users of SEEN, 'validation' and 'test', in the order of `splits_by`."""
  judged = by_user(published.evaluation)
  known = set(published.known)
  new = [user for user in judged if user not in known and len(judged[user]) > num_support]
  return {SEEN: list(published.known), 'validation': new[::2], 'test': new[1::2]}


def by_user(comparisons: Sequence[Comparison]) -> dict[str, list[Comparison]]:
  """Returns each user's comparisons, in their order."""
  found = defaultdict(list)
  for each in comparisons:
    found[each.user].append(each)
  return dict(found)


def _said(text: str, encoder: Encoder, length: int) -> Context:
  if not length:
    return task.no_context()
  tokens, mask = pad(encoder.text(text), length, on_left=False)
  return {'text': jnp.asarray(tokens), 'mask': jnp.asarray(mask)}


def choices_of(
  comparisons: Sequence[Comparison], size: int, encoder: Encoder, lengths: Lengths
) -> Choices:
  """Returns comparisons padded to `size`; the chosen one is the first."""
  shape, count = (size, 2), len(comparisons)
  prompt = np.zeros((*shape, lengths.prompt), np.int32), np.zeros((*shape, lengths.prompt), bool)
  response = (
    np.zeros((*shape, lengths.response), np.int32),
    np.zeros((*shape, lengths.response), bool),
  )
  for n, each in enumerate(comparisons):
    asked = pad(encoder.prompt(each.turns), lengths.prompt, on_left=True)
    for k, answer in enumerate((each.chosen, each.rejected)):
      answered = pad(encoder.response(answer), lengths.response, on_left=False)
      for arrays, part in ((prompt, asked), (response, answered)):
        arrays[0][n, k], arrays[1][n, k] = part
  mask = np.arange(size) < count
  features = jax.tree.map(jnp.asarray, p_dpo.sequences(*prompt, *response))
  candidates = Candidates(features, jnp.repeat(jnp.asarray(mask)[:, None], 2, 1))
  return task.choices(candidates, jnp.zeros(size, jnp.int32), jnp.asarray(mask))


def pad(tokens: Sequence[int], length: int, *, on_left: bool) -> tuple[np.ndarray, np.ndarray]:
  """Returns tokens and mask [length]; what is padded on the left is cut behind its first token."""
  if len(tokens) > length:
    tail = [*tokens[:1], *tokens[len(tokens) - length + 1 :]]
    tokens = tail if on_left else tokens[:length]
  gap = (length - len(tokens), 0) if on_left else (0, length - len(tokens))
  return (
    np.pad(np.asarray(tokens, np.int32), gap),
    np.pad(np.ones(len(tokens), bool), gap),
  )
