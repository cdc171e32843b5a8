"""No form of a text gives the chosen one away."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from metapers.core.population import ItemChoices
from metapers.data import rendering
from metapers.evaluation.leaks import cue_checks
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
  texts: Sequence[str] | np.ndarray, people: ItemChoices, *, most_pairs: int = 5000
) -> list[Leak]:
  """Looks for a form of the items' texts that reveals which one people chose.

  Args:
    texts: [I] of the items.
    people: who chose which.
    most_pairs: comparisons looked at, evenly spread.
  """
  texts, real = np.asarray(texts, object), people.mask
  pairs = np.stack([people.chosen[real], people.rejected[real]])
  some = np.unique(np.linspace(0, pairs.shape[1] - 1, most_pairs).astype(int))
  return revealing_forms(*texts[pairs[:, some]])
