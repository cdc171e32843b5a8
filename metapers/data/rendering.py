"""Conversations as one text each, and whether the form of these texts reveals the choice."""

import datetime
import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from metapers.core.types import Float

# Chat models end or separate their turns with these; some published answers still hold them.
MARKS = (
  '<|end_of_text|>', '<|endoftext|>', '<|eot_id|>', '<|im_end|>', '<|im_start|>', '</s>', '<s>',
)  # fmt: skip
ROLES = {'user': 'user', 'assistant': 'assistant', 'model': 'assistant'}
ALL_ROLES = ROLES | {'system': 'system'}  # of texts that nobody chose among
ROLE_TAGS = ('user:', 'assistant:', 'human:', '[inst]', '[/inst]')
MOST_PAIRS, ONE_SIDE = 0.5, 0.9  # a cue that differs in most pairs, and nearly always one way
FEWEST_PAIRS = 20
TODAY = re.compile(r"""strftime_now\(\s*(['"])(.*?)\1\s*\)""")  # in a chat template
DATE = '2024-07-26'  # Llama 3's, of templates that are told none


class Turn(NamedTuple):
  """One turn of a conversation. role: 'user', 'assistant' or 'system'."""

  role: str
  text: str


def clean(text: str) -> str:
  """Returns a text without marks of chat templates and outer white space, in composed unicode."""
  for mark in MARKS:
    text = text.replace(mark, '')
  return unicodedata.normalize('NFC', text).strip()


def read_text(value: Any) -> str:
  """Returns the text of a prompt or an answer; '' for None and NaN, which say that there is none.

  A list of messages, `{'role': ..., 'content': ...}`, that is one message is its content; several
  are written as in `render`.

  Raises:
    ValueError: for anything else, such as a number.
  """
  if isinstance(value, str):
    return value
  if pd.api.types.is_scalar(value) and pd.isna(value):
    return ''
  listed = [value] if isinstance(value, Mapping) else value
  if not isinstance(listed, list | tuple | np.ndarray) or not all(map(_is_message, listed)):
    raise ValueError(f'expected text or messages, got {type(value).__name__} {value!r:.60}')
  turns = [Turn(ALL_ROLES[message['role']], message['content']) for message in listed]
  return turns[0].text if len(turns) == 1 else conversation(turns)


def _is_message(value: Any) -> bool:
  return (
    isinstance(value, Mapping)
    and value.get('role') in ALL_ROLES
    and isinstance(value.get('content'), str)
  )


def conversation(turns: Sequence[Turn]) -> str:
  """Returns turns as one text."""
  return '\n\n'.join(f'{turn.role}: {clean(turn.text)}' for turn in turns)


def render(history: Sequence[Turn], response: str) -> str:
  """Returns a conversation that ends with a response, written alike for chosen and rejected."""
  return conversation([*history, Turn('assistant', response)])


# Of a text and the prompt that its conversation opens with.
CUES: Mapping[str, Callable[[str, str], float]] = {
  'white space at the start': lambda text, _: float(text[:1].isspace()),
  'white space at the end': lambda text, _: float(text[-1:].isspace()),
  'marks of a chat template': lambda text, _: float(sum(text.count(mark) for mark in MARKS)),
  'tags of roles': lambda text, _: float(sum(text.lower().count(tag) for tag in ROLE_TAGS)),
  'capital tags of roles': lambda text, _: float(text.count('User:') + text.count('Assistant:')),
  'decomposed unicode': lambda text, _: float(not unicodedata.is_normalized('NFC', text)),
  'the prompt': lambda text, prompt: float(prompt in text),
}


def check_cues(items: pd.DataFrame, comparisons: pd.DataFrame) -> None:
  """Checks that no cue in the form of texts, apart from their content, reveals the chosen one.

  Args:
    items: item_id, text and, where it is the prompt, context.
    comparisons: chosen and rejected, by item_id.

  Raises:
    ValueError: for a cue that differs in more than half of the pairs, and nine times in ten the
      same way round.
  """
  if len(comparisons) < FEWEST_PAIRS:
    return
  prompts = items['context'].astype(str) if 'context' in items else [''] * len(items)
  ids = pd.Index(comparisons[['chosen', 'rejected']].to_numpy().ravel())
  rows = pd.Index(items['item_id']).get_indexer(ids)
  for name, cue in CUES.items():
    found = np.array([cue(text, prompt) for text, prompt in zip(items['text'], prompts)])
    first, second = found[rows].reshape(-1, 2).T
    check_cue(name, first - second)


def check_cue(name: str, gaps: Float[np.ndarray, 'M']) -> None:
  """Checks that a cue, chosen minus rejected in M pairs, does not reveal the chosen side.

  Raises:
    ValueError: naming the cue, in how many pairs it differs and how often it is on one side.
  """
  differing = gaps[gaps != 0]
  more = float(np.mean(differing > 0)) if differing.size else 0.5
  if differing.size > MOST_PAIRS * gaps.size and max(more, 1 - more) >= ONE_SIDE:
    raise ValueError(
      f'{name} differ in {differing.size} of {gaps.size} pairs, and the chosen text has '
      f'{"more" if more > 0.5 else "less"} in {max(more, 1 - more):.0%} of them: a learner would '
      'read the form; render both texts alike'
    )


def with_date(template: str, date: str) -> str:
  """Returns a chat template that prints a fixed date in place of today's.

  Raises:
    ValueError: for a template that prints today's date in a form that it works out.
  """
  day = datetime.datetime.fromisoformat(date)
  fixed = TODAY.sub(lambda found: repr(day.strftime(found[2])), template)
  if 'strftime_now(' in fixed:
    raise ValueError('the chat template prints the date of today in a form that is not written out')
  return fixed
