"""OpinionQA: what people answer to questions of Pew's American Trends Panel, by group.

A folder holds `American_Trends_Panel_W{wave}` folders with info.csv (key, references,
option_ordinal), responses.csv (a row a person: answers by key, groups, WEIGHT_W{wave}) and
metadata.csv (key, options: the groups of an attribute).

Reference:
  Santurkar et al. 2023, arXiv:2303.17548; github.com/tatsu-lab/opinions_qa.
"""

import ast
import pathlib
import re
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from metapers.core.types import Float
from metapers.data import frames

OVERALL = 'Overall'
ATTRIBUTES = (
  'CREGION', 'AGE', 'SEX', 'EDUCATION', 'CITIZEN', 'MARITAL', 'RELIG', 'RELIGATTEND', 'POLPARTY',
  'INCOME', 'POLIDEOLOGY', 'RACE',
)  # fmt: skip
WAVE = re.compile(r'American_Trends_Panel_W(\d+)')


class Question(NamedTuple):
  """One question. options: O texts without refusals. ordinal: their places on its scale.

  people: group ('Overall', 'AGE: 18-29') -> share of each option, weighted by survey weights.
  """

  wave: int
  key: str
  options: tuple[str, ...]
  ordinal: Float[np.ndarray, 'O']
  people: dict[str, Float[np.ndarray, 'O']]


def read_questions(path: str) -> list[Question]:
  """Returns the questions of all waves in a folder.

  Raises:
    ValueError: for a folder without waves, or a table without its columns.
  """
  folder = pathlib.Path(path)
  found = {place: WAVE.fullmatch(place.name) for place in sorted(folder.glob('*'))}
  waves = [(place, int(match[1])) for place, match in found.items() if match]
  if not waves:
    raise ValueError(
      f'{path} holds no folder American_Trends_Panel_W...; give the folder human_resp of OpinionQA'
    )
  return [question for place, wave in waves for question in read_wave(place, wave)]


def read_wave(folder: pathlib.Path, wave: int) -> list[Question]:
  """Returns the questions of one wave that its responses answer.

  Raises:
    ValueError: for a table that is absent or lacks columns.
  """
  info, responses, metadata = (
    _table(folder, name, wanted)
    for name, wanted in (
      ('info', ('key', 'references', 'option_ordinal')),
      ('responses', (f'WEIGHT_W{wave}',)),
      ('metadata', ('key', 'options')),
    )
  )
  groups = {str(row.key): _literal(row.options, folder) for row in metadata.itertuples(index=False)}
  weight = responses[f'WEIGHT_W{wave}'].astype(float)
  made = []
  for row in info.itertuples(index=False):
    if row.key in responses:
      ordinal = np.array(_literal(row.option_ordinal, folder), float)
      options = tuple(map(str, _literal(row.references, folder)[: len(ordinal)]))
      people = answers_of(responses, str(row.key), options, weight, groups)
      if people:
        made.append(Question(wave, str(row.key), options, ordinal, people))
  return made


def answers_of(
  responses: pd.DataFrame,
  key: str,
  options: tuple[str, ...],
  weight: pd.Series,
  groups: dict[str, list[str]],
) -> dict[str, Float[np.ndarray, 'O']]:
  """Returns the shares of the options, refusals left out, of everyone and of each group.

  Args:
    responses: a row a person.
    key: of the question.
    options: without refusals, in order.
    weight: of each person.
    groups: attribute -> its groups; others, such as refusals to say, are left out.
  """
  chosen = [responses[key] == option for option in options]
  members = {OVERALL: np.ones(len(responses), bool)}
  for attribute in ATTRIBUTES:
    if attribute in responses:
      own = {name: responses[attribute] == name for name in groups.get(attribute, [])}
      members |= {f'{attribute}: {name}': rows.to_numpy() for name, rows in own.items()}
  made = {}
  for name, inside in members.items():
    counts = np.array([weight[rows & inside].sum() for rows in chosen])
    if counts.sum() > 0:
      made[name] = counts / counts.sum()
  return made


def read_scores(path: str, questions: list[Question]) -> tuple[tuple[str, ...], list[np.ndarray]]:
  """Returns the names of reward models, and the scores [O, B] of each question's options.

  Args:
    path: a table (parquet or csv) with the columns wave, key, option, and one for each reward
      model.
    questions: whose options are scored.

  Raises:
    ValueError: for a table without these columns, or an option without a score.
  """
  table = frames.read_frame(pathlib.Path(path))
  missing = [name for name in ('wave', 'key', 'option') if name not in table]
  names = tuple(str(name) for name in table if name not in ('wave', 'key', 'option'))
  if missing or not names:
    raise ValueError(
      f'{path} needs the columns wave, key, option and one for each reward model; it has '
      f'{list(table.columns)}'
    )
  values = frames.numbers(table, list(names), 'scores')
  keys = zip(table['wave'].astype(int), table['key'].astype(str), table['option'].astype(str))
  rows = dict(zip(keys, values))
  scores = []
  for question in questions:
    wanted = [(question.wave, question.key, option) for option in question.options]
    lost = [each for each in wanted if each not in rows]
    if lost:
      raise ValueError(f'{path} has no scores of {lost[0]}; score every option of every question')
    scores.append(np.stack([rows[each] for each in wanted]))
  return names, scores


def _table(folder: pathlib.Path, name: str, wanted: tuple[str, ...]) -> pd.DataFrame:
  path = folder / f'{name}.csv'
  if not path.is_file():
    raise ValueError(f'{path} is missing; OpinionQA gives it with its human responses')
  table = pd.read_csv(
    path,
    dtype=str,  # options may be numbers, and are compared as texts
    keep_default_na=False,  # 'None' and 'NA' are options
    na_values=[''],
  )
  missing = [column for column in wanted if column not in table]
  if missing:
    raise ValueError(f'{path} lacks the columns {missing}; it has {list(table.columns)[:8]} ...')
  return table


def _literal(text: Any, source: pathlib.Path) -> list:
  try:
    found = ast.literal_eval(str(text))
  except (ValueError, SyntaxError) as error:
    raise ValueError(f'{source}: {text!r:.60} is no list') from error
  return list(found)
