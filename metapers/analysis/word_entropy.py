"""How divided users are over the responses to prompts, by the words of the prompt.

Reference:
  Zollo et al. 2024, arXiv:2409.20296, section 2: entropy of the vote over prompts that hold a word,
  or begin with one.
"""

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from metapers.analysis import diversity, sampling, study_frame, vote_table
from metapers.analysis.study_frame import NONE, Cell
from metapers.analysis.voters import Voters
from metapers.core.types import Bool

# In nats, read off a figure, for users of an α that is not stated; it is taken for the one that the
# paper uses where it names none.
KEYWORDS = {'imagine': 1.275, 'opinion': 1.277, 'poem': 1.232, 'taste': 1.333}
OPENINGS = {'Who': 1.112, 'What': 1.187, 'When': 1.009, 'Where': 1.048}
EVERY = 'all prompts'
ENTROPY, OVER_REST, NUMBER = 'entropy', 'entropy over that of the other prompts', 'prompts'
LEAST = 3  # prompts with a word, below which it has no error


class Words(NamedTuple):
  """Words to look for: anywhere in a prompt, and at its beginning; whole words, in any case."""

  anywhere: Sequence[str] = tuple(KEYWORDS)
  opening: Sequence[str] = tuple(OPENINGS)


PAPER = Words()


def holds(prompts: Sequence[str], word: str) -> Bool[np.ndarray, 'P']:
  """Returns whether each prompt holds a word, as a whole and in any case."""
  pattern = re.compile(rf'\b{re.escape(word)}\b', re.IGNORECASE)
  return np.array([bool(pattern.search(text)) for text in prompts])


def opens(prompts: Sequence[str], word: str) -> Bool[np.ndarray, 'P']:
  """Returns whether each prompt begins with a word, as a whole and in any case."""
  pattern = re.compile(rf'\W*{re.escape(word)}\b', re.IGNORECASE)
  return np.array([bool(pattern.match(text)) for text in prompts])


def groups(prompts: Sequence[str], words: Words) -> dict[str, Bool[np.ndarray, 'P']]:
  """Returns name -> which prompts are in the group: the words, those that open, and all prompts."""
  found = {word: holds(prompts, word) for word in words.anywhere}
  found[EVERY] = np.ones(len(prompts), bool)
  return found | {f'{word} ...': opens(prompts, word) for word in words.opening}


def published() -> Mapping[str, float]:
  """Returns the published entropies by the names of `groups`."""
  of_openings = {f'{word} ...': value for word, value in OPENINGS.items()}
  return {**KEYWORDS, EVERY: diversity.ENTROPY, **of_openings}


def study(
  prompts: Sequence[str],
  voted: Sequence[Voters],
  *,
  words: Words = PAPER,
  has_published: bool = False,
) -> pd.DataFrame:
  """Returns the mean entropy of the vote by group of prompts, as `study_frame.COLUMNS`.

  Args:
    prompts: their texts.
    voted: who voted on the responses to these prompts.
    words: to look for.
    has_published: whether published numbers are of these prompts and responses.

  Raises:
    ValueError: for other prompts than were voted on.
  """
  members, known = groups(prompts, words), published()
  blocks = []
  for one in voted:
    if one.counts.shape[1] != len(prompts):
      raise ValueError(f'{len(prompts)} prompts, but votes on {one.counts.shape[1]}; give the same')
    is_paper = has_published and one.whose.concentration == diversity.ENTROPY_CONCENTRATION
    entropy = vote_table.entropies(one.counts)  # [draws, P]
    cells = []
    for name, inside in members.items():
      cells += group_cells(name, entropy, inside, known.get(name, NONE) if is_paper else NONE)
    blocks.append(study_frame.rows(one.whose._replace(study='words'), cells))
  return study_frame.joined(blocks)


def group_cells(
  name: str, entropy: np.ndarray, inside: Bool[np.ndarray, 'P'], paper: float
) -> list[Cell]:
  """Returns the entropy of a group of prompts, how far over the others, and how many they are."""
  size = int(inside.sum())
  cells = [Cell(name, NUMBER, float(size))]
  if not size:
    return [*cells, Cell(name, ENTROPY, NONE, NONE, paper)]
  value, error = sampling.two_way(entropy[:, inside])
  error = error if size >= LEAST else NONE
  cells.append(Cell(name, ENTROPY, value, error, paper))
  if size < len(inside):
    rest, rest_error = sampling.two_way(entropy[:, ~inside])
    cells.append(Cell(name, OVER_REST, value - rest, float(np.hypot(error, rest_error))))
  return cells
