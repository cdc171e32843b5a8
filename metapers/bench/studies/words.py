"""Entropy by the words of prompts, as a part of the page."""

import functools
from collections.abc import Sequence

import numpy as np
import pandas as pd

from metapers.analysis import word_entropy
from metapers.analysis.slates import Slates
from metapers.analysis.study_frame import pick
from metapers.analysis.voters import DIRICHLET, Voters
from metapers.analysis.word_entropy import ENTROPY, NUMBER, OVER_REST, Words
from metapers.bench.studies import part
from metapers.bench.studies.part import Part, Shown
from metapers.evaluation import intervals
from metapers.io import panels
from metapers.io.plots import Figure

TITLE = 'Prompts: how divided users are, by words'
TEXT = (
  'Mean entropy of the vote over the prompts that hold a word, or that begin with one (...), in '
  'nats: 0 where all users agree, log of the number of responses where none is more popular. '
  'Words count as whole words, in upper or lower case.',
)


def part_of(
  given: Slates, prompt_texts: np.ndarray | None, voted: Sequence[Voters], words: Words
) -> Part:
  """Returns the part of the page.

  Args:
    given: what was voted on.
    prompt_texts: [P] of all prompts of the store, or None.
    voted: by whom.
    words: to look for.

  Raises:
    ValueError: without texts.
  """
  frame = frame_of(given, prompt_texts, voted, words)
  own = z_rows(frame)
  counts = own[own['statistic'] == NUMBER].drop_duplicates('group')
  crosses = ' Crosses: published.' if frame['published'].notna().any() else ''
  return Part(
    TITLE,
    frame,
    findings=sentences(own),
    text=TEXT,
    figures={
      'words': Shown(functools.partial(figure, own), f'z scores; lines: 95 % intervals.{crosses}')
    },
    tables=[
      part.table(
        pd.concat([counts.assign(column='prompts'), own[own['statistic'] == ENTROPY]]),
        caption='entropy of the vote by words of the prompt, in nats',
        down='group',
        across='column',
        digits=3,
      )
    ],
  )


def frame_of(
  given: Slates, prompt_texts: np.ndarray | None, voted: Sequence[Voters], words: Words
) -> pd.DataFrame:
  """Returns the numbers of the study.

  Raises:
    ValueError: without texts.
  """
  if prompt_texts is None:
    raise ValueError('the store holds no texts of its prompts; extract one from texts')
  users = [one for one in voted if one.whose.population == DIRICHLET]
  return word_entropy.study(
    prompt_texts[given.rows].tolist(), users, words=words, has_published=given.is_personal_llm
  )


def z_rows(frame: pd.DataFrame) -> pd.DataFrame:
  """Returns the rows of z scores with the name of their column in tables and figures."""
  own = pick(frame, convention='z')
  return own.assign(column=own['concentration'].map(part.alpha))


def figure(own: pd.DataFrame, *, is_narrow: bool = False) -> Figure:
  """Returns the entropies by word and concentration."""
  rows = own[(own['statistic'] == ENTROPY) & own['value'].notna()]
  series, crosses = {}, {}
  for name, each in rows.groupby('column', sort=False):
    series[str(name)] = part.numbers(each)
    known = each[each['published'].notna()]
    crosses[str(name)] = dict(zip(known['group'], known['published']))
  height = 1.4 + 0.3 * rows['group'].nunique()
  drawn = panels.rows(series, 'entropy of the vote, nats', marks=crosses)
  return panels.figure(
    [panels.Panel(drawn, '', height)],
    title='Entropy of the vote by words of the prompt',
    described='see the table',
    is_narrow=is_narrow,
  )


def sentences(own: pd.DataFrame) -> list[str]:
  """Returns what was found, in words."""
  middle = own['column'].unique()
  name = middle[len(middle) // 2]
  rows = own[(own['column'] == name) & (own['statistic'] == OVER_REST)]
  clear = rows[rows['value'].abs() > intervals.NORMAL * rows['standard_error']]
  listed = ', '.join(
    f'{group} ({value:+.2f} nats)' for group, value in zip(clear['group'], clear['value'])
  )
  empty = own[(own['statistic'] == NUMBER) & (own['value'] == 0)]['group'].unique()
  said = [
    f'More or less divided than over other prompts ({name}) are users over prompts with: {listed}.'
    if listed
    else f'On no word that was looked for do users divide differently than elsewhere ({name}).'
  ]
  if len(empty):
    said.append(f'No prompt holds: {", ".join(empty)}.')
  return said
