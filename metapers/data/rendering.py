"""Conversations as one text each, and whether their form gives the choice away."""

import unicodedata
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

# What chat models end or part their turns with; some published answers still hold it.
MARKS = (
  '<|end_of_text|>', '<|endoftext|>', '<|eot_id|>', '<|im_end|>', '<|im_start|>', '</s>', '<s>',
)  # fmt: skip
ROLE_TAGS = ('user:', 'assistant:', 'human:', '[inst]', '[/inst]')
MOST_PAIRS, ONE_SIDE = 0.5, 0.9  # a cue that differs in most pairs, and nearly always one way
FEWEST_PAIRS = 20


class Turn(NamedTuple):
  """One turn of a conversation. role: 'user' or 'assistant'."""

  role: str
  text: str


def clean(text: str) -> str:
  """Removes marks of chat templates and outer white space, and composes unicode."""
  for mark in MARKS:
    text = text.replace(mark, '')
  return unicodedata.normalize('NFC', text).strip()


def render(history: Sequence[Turn], response: str) -> str:
  """Writes a conversation that ends with a response: the one way, for chosen and rejected alike."""
  turns = [*history, Turn('assistant', response)]
  return '\n\n'.join(f'{turn.role}: {clean(turn.text)}' for turn in turns)


CUES: Mapping[str, Callable[[str], float]] = {
  'white space at the start': lambda text: float(text[:1].isspace()),
  'white space at the end': lambda text: float(text[-1:].isspace()),
  'marks of a chat template': lambda text: float(sum(text.count(mark) for mark in MARKS)),
  'tags of roles': lambda text: float(sum(text.lower().count(tag) for tag in ROLE_TAGS)),
  'capital tags of roles': lambda text: float(text.count('User:') + text.count('Assistant:')),
  'decomposed unicode': lambda text: float(not unicodedata.is_normalized('NFC', text)),
}


def check_cues(items: pd.DataFrame, comparisons: pd.DataFrame) -> None:
  """Asserts that nothing in the form of texts, apart from what they say, tells the chosen one.

  Args:
    items: item_id and text.
    comparisons: chosen and rejected, by item_id.

  Raises:
    ValueError: for a cue that differs in more than half of the pairs, and nine times in ten the
      same way round.
  """
  if len(comparisons) < FEWEST_PAIRS:
    return
  text_of = dict(zip(items['item_id'], items['text']))
  for name, cue in CUES.items():
    found = {item: cue(text) for item, text in text_of.items()}
    gaps = np.array(
      [found[a] - found[b] for a, b in zip(comparisons['chosen'], comparisons['rejected'])]
    )
    differing = gaps[gaps != 0]
    more = float(np.mean(differing > 0)) if differing.size else 0.5
    if differing.size > MOST_PAIRS * gaps.size and max(more, 1 - more) >= ONE_SIDE:
      raise ValueError(
        f'{name} differ in {differing.size} of {gaps.size} pairs, and the chosen text has '
        f'{"more" if more > 0.5 else "less"} in {max(more, 1 - more):.0%} of them: a learner would '
        'read the form; render both texts alike'
      )
