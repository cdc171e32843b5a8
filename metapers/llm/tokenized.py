"""Published comparisons as the splits of a population: texts become tokens of fixed lengths."""

import functools
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging

from metapers.core import task
from metapers.core.population import SEEN
from metapers.core.task import Candidates, Choices, Task
from metapers.core.types import Callable, Context
from metapers.llm import chat_tokens, p_dpo
from metapers.llm.published import Comparison, Published, Turn
from metapers.llm.text_users import Split

PLAIN_END = 'TL;DR:'  # that what is asked without a template may end in: a reply follows a mark

Make = Callable[[Sequence[Comparison], int], Choices]


class Encoder(NamedTuple):
  """How texts become tokens.

  prompt: of turns, with the token that begins a text and without the response. response: of a
  response, with the token that ends it. text: of what users say of themselves.
  """

  prompt: Callable[[Sequence[Turn]], list[int]]
  response: Callable[[str], list[int]]
  text: Callable[[str], list[int]]


def encoder(tokenizer: Any, *, is_chat: bool = True) -> Encoder:
  """Returns how a tokenizer's own model reads texts: by its chat template, or as they are.

  Args:
    tokenizer: of transformers.
    is_chat: turns go through the template; else they are lines behind the token that begins a text,
      and a response follows a space.

  Raises:
    ValueError: for a tokenizer without a chat template where one is asked for, or without a token
      that begins a text where none is.
  """
  if is_chat:
    chat = chat_tokens.of(tokenizer)

    def conversation(turns: Sequence[Turn]) -> list[int]:
      return chat_tokens.conversation(tokenizer, [(turn.role, turn.text) for turn in turns])

    return Encoder(conversation, chat.response, chat.plain)
  plain, begin = functools.partial(chat_tokens.plain, tokenizer), tokenizer.bos_token_id
  if begin is None:
    raise ValueError(
      'this tokenizer has no token that begins a text, behind which soft tokens stand; take one '
      'that has, or prompts that go through a chat template'
    )

  def prompt(turns: Sequence[Turn]) -> list[int]:
    return [begin, *plain('\n'.join(turn.text for turn in turns))]

  def response(text: str) -> list[int]:
    return [*chat_tokens.reply(tokenizer, PLAIN_END, f' {text}'), tokenizer.eos_token_id]

  return Encoder(prompt, response, plain)


class Lengths(NamedTuple):
  """Most tokens of each part. A longer prompt loses its first ones, but not the very first."""

  prompt: int
  response: int
  text: int = 0


class CutCounts(NamedTuple):
  """Numbers of different prompts, replies and users' own texts of more tokens than Lengths has.

  equal_pairs: comparisons whose replies do not differ before the cut, so that they say nothing.
  """

  prompts: int
  replies: int
  texts: int
  equal_pairs: int


Cut = set[tuple[str, Any]]  # (a field of CutCounts, what is counted there)


def splits_of(
  published: Published,
  encoder: Encoder,
  lengths: Lengths,
  *,
  num_support: int = 5,
  num_query: int = 20,
) -> dict[str, Split]:
  """Returns the splits of `text_users.text_users`, without what a reference model says.

  It is logged how much is cut.

  Args:
    published: comparisons.
    encoder: of texts.
    lengths: at which they are cut.
    num_support: as in `splits_by`.
    num_query: likewise.

  Raises:
    ValueError: as there.
  """
  cut: Cut = set()
  made = functools.partial(choices_of, encoder=encoder, lengths=lengths, cut=cut)
  said = functools.partial(said_by, encoder=encoder, length=lengths.text, cut=cut)
  found = splits_by(published, made, said, num_support=num_support, num_query=num_query)
  if cut:
    numbers = Counter(field for field, _ in cut)
    counts = CutCounts(*(numbers[field] for field in CutCounts._fields))
    logging.warning('longer than %s: %s; read without the rest', lengths, counts)
  return found


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
  num_support comparisons as support, and who has no more of them is left out; there may be none.

  Args:
    published: comparisons.
    made: `(comparisons, size) -> Choices`, padded to the size.
    said: what somebody says of themselves as the context of a task; nothing by default.
    num_support: of new users.
    num_query: comparisons that a user is evaluated on, at most.

  Raises:
    ValueError: without known users.
  """
  if not published.known:
    raise ValueError('no user is known: nobody has comparisons to train on')
  divided = divide(published, num_support, num_query)
  rows = {user: row for row, user in enumerate(published.known)}
  train = by_user(published.train)
  history = max(map(len, train.values()), default=0)

  def task_of(user, support, query, sizes):
    number = jnp.asarray(rows.get(user, len(rows)), jnp.int32)
    given = [made(part[:size], size) for part, size in zip((support, query), sizes)]
    return Task(given[0], given[1], number, said(published.texts.get(user, '')))

  def split(users, support, query, sizes):
    own = [task_of(name, support.get(name, []), query.get(name, []), sizes) for name in users]
    like = own or [task_of('', [], [], sizes)]  # the shapes of nobody's
    return Split(jax.tree.map(lambda *leaves: jnp.stack(leaves)[: len(own)], *like))

  sizes = num_support, num_query
  return {
    'train': split(published.known, train, {}, (history, 0)),
    **{name: split(one.users, one.before, one.asked, sizes) for name, one in divided.items()},
  }


class Divided(NamedTuple):
  """The users of a split in their order, what each compared before, and what they are asked."""

  users: list[str]
  before: dict[str, list[Comparison]]
  asked: dict[str, list[Comparison]]


def divide(published: Published, num_support: int, num_query: int) -> dict[str, Divided]:
  """Returns SEEN, 'validation' and 'test' as texts; the arguments are those of `splits_by`."""
  train, judged = by_user(published.train), by_user(published.evaluation)
  known = set(published.known)
  before = {user: own[:num_support] for user, own in judged.items()}
  after = {user: unseen(own[num_support:], before[user]) for user, own in judged.items()}
  new = [user for user in judged if user not in known and after[user]]

  def held_out(users):
    own = {user: before[user] for user in users}
    return Divided(users, own, {user: after[user][:num_query] for user in users})

  asked = {user: judged.get(user, [])[:num_query] for user in published.known}
  return {
    SEEN: Divided(list(published.known), train, asked),
    'validation': held_out(new[::2]),
    'test': held_out(new[1::2]),
  }


def unseen(asked: Sequence[Comparison], shown: Sequence[Comparison]) -> list[Comparison]:
  """Returns the comparisons that do not answer what one of those shown does.

  Of four replies one is preferred to three others: who was shown one of these comparisons has read
  the chosen reply of the other two.
  """
  answered = {each.turns for each in shown}
  return [each for each in asked if each.turns not in answered]


def by_user(comparisons: Sequence[Comparison]) -> dict[str, list[Comparison]]:
  """Returns each user's comparisons, in their order."""
  found = defaultdict(list)
  for each in comparisons:
    found[each.user].append(each)
  return dict(found)


def said_by(text: str, encoder: Encoder, length: int, cut: Cut | None = None) -> Context:
  """Returns what somebody says of themselves as the context of a task: at most `length` tokens.

  Args:
    text: what they say.
    encoder: of it.
    length: most tokens; 0 reads nothing.
    cut: the text is added if it has more.
  """
  if not length:
    return task.no_context()
  said = encoder.text(text)
  if cut is not None and len(said) > length:
    cut.add(('texts', text))
  tokens, mask = pad(said, length, on_left=False)
  return {'text': jnp.asarray(tokens), 'mask': jnp.asarray(mask)}


def choices_of(
  comparisons: Sequence[Comparison],
  size: int,
  encoder: Encoder,
  lengths: Lengths,
  cut: Cut | None = None,
) -> Choices:
  """Returns comparisons padded to `size`; the chosen one is the first.

  Args:
    comparisons: at most `size`.
    size: of the result.
    encoder: of texts.
    lengths: at which they are cut.
    cut: what is longer is added.
  """
  shape, count = (size, 2), len(comparisons)
  prompt = np.zeros((*shape, lengths.prompt), np.int32), np.zeros((*shape, lengths.prompt), bool)
  response = (
    np.zeros((*shape, lengths.response), np.int32),
    np.zeros((*shape, lengths.response), bool),
  )
  for n, each in enumerate(comparisons):
    turns = encoder.prompt(each.turns)
    replies = [encoder.response(text) for text in (each.chosen, each.rejected)]
    if cut is not None:
      cut |= cut_of(each, turns, replies, lengths)
    asked = pad(turns, lengths.prompt, on_left=True)
    for k, reply in enumerate(replies):
      answered = pad(reply, lengths.response, on_left=False)
      for arrays, part in ((prompt, asked), (response, answered)):
        arrays[0][n, k], arrays[1][n, k] = part
  mask = np.arange(size) < count
  features = jax.tree.map(jnp.asarray, p_dpo.sequences(*prompt, *response))
  candidates = Candidates(features, jnp.repeat(jnp.asarray(mask)[:, None], 2, 1))
  return task.choices(candidates, jnp.zeros(size, jnp.int32), jnp.asarray(mask))


def cut_of(
  compared: Comparison, turns: Sequence[int], replies: Sequence[Sequence[int]], lengths: Lengths
) -> Cut:
  """Returns what of a comparison is longer than `lengths`, by the tokens of turns and replies."""
  texts = compared.chosen, compared.rejected
  found: Cut = {
    ('replies', text) for text, own in zip(texts, replies) if len(own) > lengths.response
  }
  if len(turns) > lengths.prompt:
    found.add(('prompts', compared.turns))
  first, second = (own[: lengths.response] for own in replies)
  if first == second and replies[0] != replies[1]:
    found.add(('equal_pairs', compared))
  return found


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
