"""What a language model is shown of a user in its prompt: replies that they liked or disliked.

Reference:
  Zollo et al. 2024 (PersonalLLM), arXiv:2409.20296, section 4.1: the arms. Unlike there, the words
  are ours, and every arm goes through the model's chat template.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

LIKED, DISLIKED = 'Reply that this person liked', 'Reply that this person disliked'
INTRODUCTION = 'Below are earlier questions of one person, each with {which}.'
REQUEST = 'Answer the next question of the same person. Write {how}.'
NEXT = 'Next question:'


class Example(NamedTuple):
  """One earlier question of a user, and the replies to it that they liked best and least."""

  prompt: str
  winning: str
  losing: str


class Arm(NamedTuple):
  """What is shown of an example.

  which: in words. how: the reply that is asked for. shown: (label, field of the example) in order.
  """

  which: str
  how: str
  shown: tuple[tuple[str, str], ...]


ARMS = {
  'winning': Arm(
    'a reply that they liked', 'a reply like those that they liked', ((LIKED, 'winning'),)
  ),
  'losing': Arm(
    'a reply that they disliked', 'a reply unlike those that they disliked', ((DISLIKED, 'losing'),)
  ),
  'both': Arm(
    'a reply that they liked and one that they disliked',
    'a reply like those that they liked and unlike those that they disliked',
    ((LIKED, 'winning'), (DISLIKED, 'losing')),
  ),
  # A control: what was disliked, given out as liked.
  'mislabelled': Arm(
    'a reply that they liked', 'a reply like those that they liked', ((LIKED, 'losing'),)
  ),
}
ZERO_SHOT = 'zero_shot'


class Message(NamedTuple):
  """A user's turn. num_dropped: how many of the first examples were left out for its length."""

  text: str
  num_dropped: int


def message(arm: str, examples: Sequence[Example], prompt: str) -> str:
  """Returns the user's turn that shows examples, the last of which stands next to the question.

  Args:
    arm: a key of ARMS, or ZERO_SHOT.
    examples: may be none, and then only the prompt is shown.
    prompt: the question to answer.

  Raises:
    ValueError: for an unknown arm.
  """
  if arm not in (ZERO_SHOT, *ARMS):
    raise ValueError(f'unknown arm {arm!r}; known: {", ".join((ZERO_SHOT, *ARMS))}')
  if arm == ZERO_SHOT or not examples:
    return prompt
  which, how, shown = ARMS[arm]
  blocks = [INTRODUCTION.format(which=which)]
  for example in examples:
    replies = (f'{label}: {getattr(example, field)}' for label, field in shown)
    blocks.append('\n'.join([f'Question: {example.prompt}', *replies]))
  return '\n\n'.join([*blocks, REQUEST.format(how=how), f'{NEXT} {prompt}'])


def fitted(
  arm: str,
  examples: Sequence[Example],
  prompt: str,
  num_tokens: Callable[[str], int],
  *,
  most: int,
) -> Message:
  """Returns the longest message of at most so many tokens, without the first examples if need be.

  Args:
    arm: as in `message`.
    examples: in order, the most useful last.
    prompt: the question to answer.
    num_tokens: of a message.
    most: tokens.

  Raises:
    ValueError: for a prompt that alone is longer.
  """
  for num_dropped in range(len(examples) + 1):
    text = message(arm, examples[num_dropped:], prompt)
    if num_tokens(text) <= most:
      return Message(text, num_dropped)
  raise ValueError(
    f'a prompt of {num_tokens(prompt)} tokens does not fit in {most}: {prompt[:60]!r}...'
  )
