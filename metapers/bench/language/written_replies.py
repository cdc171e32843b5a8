"""What a tuned model writes for users of each taste: how long, and with what of other rewards."""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from metapers.core import task
from metapers.core.types import Bool, Int
from metapers.data import constructed_rewards
from metapers.llm import generate, trained
from metapers.llm.chat_tokens import ChatTokens
from metapers.llm.decoder import Decoder
from metapers.llm.trained import Trained

PROMPTS = (
  'How do I sleep better?',
  'Why is the sky blue?',
  'What should I cook tonight?',
  'How can I learn a new language?',
  'What makes a good friend?',
  'How do I write a letter of thanks?',
  'Why do cats purr?',
  'How should I prepare for an interview?',
)
NUM_TOKENS = 128
NUM_SHOWN = 2
REWARDS = {'lists': constructed_rewards.lists, 'formality': constructed_rewards.formality}


class Written(NamedTuple):
  """Replies to PROMPTS. measured: means by name. texts: of the first user."""

  measured: dict[str, float]
  texts: list[str]


def of_rows(model: Decoder, made: Trained, rows: Sequence[int], chat: ChatTokens) -> Written:
  """Returns what users get for PROMPTS: the likeliest replies, of NUM_TOKENS tokens at most.

  `reply_cut` is the share of replies that so many tokens cut short.

  Args:
    model: decoder.
    made: a row's policy.
    rows: of the users; their number for somebody unknown.
    chat: the model's template.
  """
  replies = [_replies(model, made, row, chat) for row in rows]
  every = [text for texts, _, _ in replies for text in texts]
  lengths, cut = (np.concatenate([each[n] for each in replies]) for n in (1, 2))
  measured = {'reply_tokens': float(lengths.mean()), 'reply_cut': float(cut.mean())} | {
    f'reply_{name}': float(np.mean([reward('', text) for text in every]))
    for name, reward in REWARDS.items()
  }
  return Written(measured, replies[0][0])


def side_by_side(texts: dict[str, list[str]]) -> str:
  """Returns the first replies to the first prompts, by for whom they were written."""
  return '\n'.join(
    f'{prompt}\n' + '\n'.join(f'  {label:<10} {found[n]!r}' for label, found in texts.items())
    for n, prompt in enumerate(PROMPTS[:NUM_SHOWN])
  )


def _replies(
  model: Decoder, made: Trained, row: int, chat: ChatTokens
) -> tuple[list[str], Int[np.ndarray, 'P'], Bool[np.ndarray, 'P']]:
  state = made.policy.state_of(made.params, jnp.asarray(row, jnp.int32), task.no_context())
  prompts = [chat.prompt(text) for text in PROMPTS]
  generator = _generator(model, chat.end)
  found = trained.replies(model, made, state, prompts, generator, jax.random.key(0))
  tokens, lengths = np.asarray(found.tokens), np.asarray(found.mask).sum(1)
  texts = [
    chat.tokenizer.decode(own[:length], skip_special_tokens=True)
    for own, length in zip(tokens, lengths)
  ]
  last = tokens[np.arange(len(tokens)), lengths - 1]
  return texts, lengths, ~np.isin(last, chat.end)


@functools.cache
def _generator(model: Decoder, end: tuple[int, ...]) -> generate.Generator:
  return generate.generator(model, num_tokens=NUM_TOKENS, end_tokens=end)
