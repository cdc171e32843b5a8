"""No text, and no form of one, gives anything away; of texts that the caller has read."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from metapers.core.population import SPLITS
from metapers.core.tables import Histories
from metapers.core.types import Int
from metapers.data import rendering
from metapers.evaluation.leaks import cue_checks, prompt_checks
from metapers.evaluation.leaks.cue_checks import Offers
from metapers.evaluation.leaks.matching import Leak

OPENING, CLOSING = (
  ('"', "'", '[', '(', '{', '<', '«', '“'),
  ('"', "'", ']', ')', '}', '>', '»', '”'),
)
# How a list of texts looks once it is written as if it were one.
LIST_MARKS = ("['", '["', "']", '"]', "', '", '", "')

CUES: Mapping[str, Callable[[str], float]] = {
  'marks of a list': lambda text: float(sum(text.count(mark) for mark in LIST_MARKS)),
  'a quote or bracket at the start': lambda text: float(text.startswith(OPENING)),
  'a quote or bracket at the end': lambda text: float(text.endswith(CLOSING)),
  'no text': lambda text: float(not text.strip()),
  'an odd number of characters': lambda text: float(len(text) % 2),
  'the number of characters': lambda text: float(len(text)),
  'escaped line breaks': lambda text: float(text.count('\\n')),
  'a capital at the start': lambda text: float(text[:1].isupper()),
  'letters beyond ASCII': lambda text: float(not text.isascii()),
}


def revealing_forms(
  chosen: Sequence[str] | np.ndarray,
  rejected: Sequence[str] | np.ndarray,
  prompts: Sequence[str] | np.ndarray | None = None,
) -> list[Leak]:
  """Looks for a form that reveals the chosen text in nearly all pairs.

  Such as LoRe's: chosen replies were a string, rejected ones a list of strings, which its template
  rendered as "['...', '...']".

  Args:
    chosen: M texts.
    rejected: M texts.
    prompts: M texts that both answer.

  Raises:
    ValueError: unless there are as many rejected texts, and prompts, as chosen ones.
  """
  prompts = [''] * len(chosen) if prompts is None else prompts
  if not len(chosen) == len(rejected) == len(prompts):
    raise ValueError(
      f'{len(chosen)} chosen texts, {len(rejected)} rejected ones and {len(prompts)} prompts; give '
      'as many of each, pair by pair'
    )
  with_prompt = {
    name: cue for name, cue in rendering.CUES.items() if any(prompts) or name != 'the prompt'
  }
  found = [
    [[*(cue(text) for cue in CUES.values()), *(cue(text, prompt) for cue in with_prompt.values())]
     for text in pair]
    for pair, prompt in zip(zip(chosen, rejected), prompts)
  ]  # fmt: skip
  names = (*CUES, *with_prompt)
  values = np.array(found, np.float32).reshape(len(chosen), 2, len(names))
  every = np.ones((len(chosen), 2), bool)
  shown = Offers(values, every, np.zeros(len(chosen), int), None, names)
  return [
    Leak(
      'texts',
      f'{names[column]} reveals the chosen text in all pairs alike: render both texts alike',
    )
    for column in cue_checks.revealing(values, shown)
  ]


def revealing_items(
  texts: Sequence[str] | np.ndarray, histories: Histories, *, most_pairs: int = 5000
) -> list[Leak]:
  """Looks for a form of the items' texts that reveals which one people chose.

  Args:
    texts: [I] of the items.
    histories: who chose which.
    most_pairs: comparisons looked at, evenly spread.
  """
  texts, real = np.asarray(texts, object), histories.mask
  pairs = np.stack([histories.chosen[real], histories.rejected[real]])
  some = np.unique(np.linspace(0, pairs.shape[1] - 1, most_pairs).astype(int))
  return revealing_forms(*texts[pairs[:, some]])


def repeated_prompts(
  prompts: Sequence[str] | np.ndarray, prompt_split: Int[np.ndarray, 'P']
) -> list[Leak]:
  """Finds prompts of a store that stand in two splits under two ids.

  Args:
    prompts: [P] texts, in the order of the store.
    prompt_split: [P], index into SPLITS.

  Raises:
    ValueError: unless there are as many of both.
  """
  if len(prompts) != len(prompt_split):
    raise ValueError(
      f'{len(prompts)} texts of {len(prompt_split)} prompts; give the texts of the same store'
    )
  texts = np.asarray(prompts, object)
  return prompt_checks.repeated_texts(
    {name: texts[prompt_split == index] for index, name in enumerate(SPLITS)}
  )
