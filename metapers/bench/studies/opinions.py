"""Against human opinion, as a part of the page."""

import functools
from collections.abc import Sequence

import numpy as np
import pandas as pd

from metapers.analysis import opinions
from metapers.analysis.study_frame import Whose
from metapers.analysis.voters import DIRICHLET, UNIFORM
from metapers.bench.studies import part
from metapers.bench.studies.part import Part, Shown
from metapers.data import opinion_qa, personal_llm_constants
from metapers.data.opinion_qa import OVERALL
from metapers.io import panels
from metapers.io.plots import Figure

TITLE = 'Against human opinion: OpinionQA'
TEXT = (
  'Representativeness is 1 minus the mean Wasserstein distance of shares of answers to those of '
  'the people surveyed, as a share of the largest that the scale of a question allows; refusals '
  'are left out, people count by their survey weights. Errors are for new questions.',
  'Users who spread over the options are near everybody: what they reach is to be compared with '
  'uniform answers, with those of one reward model, and with the same shares given to the options '
  'in random order.',
)


def part_of(
  folder: str, scores: str, concentrations: Sequence[float], *, num_users: int, seed: int = 0
) -> Part:
  """Returns the part of the page.

  Args:
    folder: of OpinionQA's human responses.
    scores: table of the scores of all options; '' for baselines alone.
    concentrations: α of the simulated users.
    num_users: U.
    seed: of all that is drawn.

  Raises:
    ValueError: for a folder or table that cannot be read.
  """
  questions = opinion_qa.read_questions(folder)
  given: dict[Whose, opinions.Answers] = {}
  is_paper = False
  if scores:
    names, values = opinion_qa.read_scores(scores, questions)
    given = opinions.answerers(values, names, concentrations, num_users=num_users, seed=seed)
    is_paper = set(names) == set(personal_llm_constants.REWARD_MODELS)
  frame = opinions.study(questions, given, is_published=is_paper, seed=seed)
  return Part(
    TITLE,
    frame,
    findings=[sentence(frame, len(questions))],
    text=TEXT,
    figures={'opinions': Shown(functools.partial(figure, named(frame)), 'Lines: 95 % intervals.')},
    tables=[
      part.table(
        named(frame), caption='representativeness by group', down='group', across='name', digits=3
      )
    ],
  )


def named(frame: pd.DataFrame) -> pd.DataFrame:
  """Returns the rows with a short name of each answerer."""
  alpha = ['' if np.isnan(value) else part.alpha(value) for value in frame['concentration']]
  names = frame['population'].str.replace(DIRICHLET, 'users', regex=False) + ' ' + alpha
  return frame.assign(name=names.str.strip())


def figure(own: pd.DataFrame, *, is_narrow: bool = False) -> Figure:
  """Returns the overall representativeness of every answerer."""
  overall = own[own['group'] == OVERALL]
  height = 1.0 + 0.26 * len(overall)
  drawn = panels.rows({'': part.numbers(overall, 'name')}, 'representativeness')
  return panels.figure(
    [panels.Panel(drawn, '', height)],
    title='How near answers are to those of the people surveyed',
    described='see the table',
    is_narrow=is_narrow,
  )


def sentence(frame: pd.DataFrame, num_questions: int) -> str:
  """Returns what was found, in words."""
  overall = named(frame)
  overall = overall[overall['group'] == OVERALL]
  rows = part.numbers(overall, 'name')
  uniform = part.written(*rows[UNIFORM], digits=3)
  users = overall[overall['population'] == DIRICHLET]
  if users.empty:
    return (
      f'On {num_questions:,} questions uniform answers have representativeness {uniform}; no table '
      'of option scores was given, so that simulated users could not answer.'
    )
  said = ', '.join(
    f'{part.written(value, error, digits=3)} ({part.alpha(concentration)})'
    for value, error, concentration in zip(
      users['value'], users['standard_error'], users['concentration']
    )
  )
  return (
    f'On {num_questions:,} questions simulated users have representativeness {said}, uniform '
    f'answers {uniform}.'
  )
