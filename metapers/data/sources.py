"""Prompts, responses and scores that are already known, from the hub or from files."""

import itertools
import pathlib
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from absl import logging

from metapers.core.types import Float
from metapers.data import frames, hub, people_tables, personal_llm, texts
from metapers.data.texts import Texts

TEXT_COLUMNS = ('prompt', 'prompt_id', 'subset', 'responses', 'response_models')
# What stands beside a response and is no score: also how `experiments.respond` says it came about.
ABOUT = '(?:model|served_model|finish_reason)'
SCORED = re.compile(rf'response_(\d+)_(?!{ABOUT}$)(.+)')
OF_RESPONSE = re.compile(rf'response_\d+(?:_{ABOUT})?')


class Source(NamedTuple):
  """Texts and what is known of them.

  texts: prompts and responses. scores: reward model -> raw [P, R]. name, licence: a line each.
  left_out: reason -> number of rows of the file that could not be read.
  """

  texts: Texts
  scores: dict[str, Float[np.ndarray, 'P R']]
  name: str
  licence: str
  left_out: Mapping[str, int] = {}


def read_source(
  kind: str, *, path: str = '', revision: str = 'main', scores: str = '', name: str = '',
  licence: str = '',
) -> Source:  # fmt: skip
  """Returns the source of a kind.

  Args:
    kind: 'personal_llm' (the hub, or `path` as its folder), 'texts' (a parquet or jsonl file with
      prompts and responses, and any columns `response_1_NAME`, ... as scores), 'ultrafeedback' (a
      file of completions with ratings by aspect), or 'people' (a folder of people's tables, whose
      items have texts).
    path: file or folder.
    revision: of a data set on the hub.
    scores: a file of more scores, joined by prompt_id: columns `response_1_NAME`, ...
    name: one line on the source, shown with every result; by default the file's name.
    licence: of the data.

  Raises:
    ValueError: for an unknown kind, or a file that does not fit.
  """
  readers = {
    'personal_llm': lambda: read_personal_llm(path, revision),
    'texts': lambda: read_texts(frames.read_frame(path)),
    'people': lambda: read_items(pathlib.Path(path)),
    'ultrafeedback': lambda: read_ultrafeedback(frames.read_frame(path)),
  }
  if kind not in readers:
    raise ValueError(f'unknown kind of source {kind!r}; known: {", ".join(readers)}')
  if not path and kind != 'personal_llm':
    raise ValueError(
      f'no {"folder" if kind == "people" else "file"} was given to read {kind!r} from: give its '
      'path, by the command --config.source.path=PATH'
    )
  found = readers[kind]()
  if scores:
    found = join_scores(found, frames.read_frame(scores))
  default = found.name or path.rpartition('/')[2]
  return found._replace(name=name or default, licence=licence or found.licence)


def describe_source(source: Source) -> str:
  """Returns lines on what was read, what is never shown, and how published statistics compare."""
  num_prompts, num_responses = source.texts.responses.shape
  lines = [
    f'{source.name}: {num_prompts} prompts x {num_responses} responses',
    f'never shown: {texts.left_out(source.texts)._asdict()}',
  ]
  if source.left_out:
    lines.append(f'rows left out: {dict(source.left_out)}')
  if set(source.scores) >= set(personal_llm.REWARD_MODELS):
    loaded = personal_llm.Loaded(source.texts, source.scores)
    lines.append(personal_llm.as_text(personal_llm.statistics(loaded)))
  return '\n'.join(lines)


def read_personal_llm(path: str, revision: str) -> Source:
  """Returns PersonalLLM with its ten reward models' scores."""
  commit = '' if path else hub.commit_of(personal_llm.DATA_SET, revision)
  loaded = personal_llm.load_data_set(path=path, revision=commit)
  origin = f'commit {commit}' if commit else 'from local files'
  name = f'PersonalLLM ({personal_llm.DATA_SET}, {origin})'
  return Source(loaded.texts, loaded.scores, name, personal_llm.LICENCE)


def read_texts(frame: pd.DataFrame) -> Source:
  """Returns the source of a table with a row per prompt."""
  found = texts.from_frame(frame)
  columns = score_columns(frame, found.responses.shape[1])
  name_unread(frame, columns)
  return Source(found, texts.scores_of(frame, columns), '', '')


def read_items(folder: pathlib.Path) -> Source:
  """Returns the items of people's tables as texts: a row each, of one response, in their order.

  The context of an item, where it has one, is its prompt.

  Raises:
    ValueError: for items without texts.
  """
  items = people_tables.read_items(folder)
  people_tables.check_columns(items, 'items', ['text'])
  nowhere = np.full(len(items), '')
  found = Texts(
    prompts=texts.strings(items['context'].to_numpy(object) if 'context' in items else nowhere),
    prompt_ids=items['item_id'].to_numpy(object),
    subset=nowhere,
    responses=texts.strings(items['text'].to_numpy(object))[:, None],
    response_model=np.zeros((len(items), 1), int),
    response_models=('item',),
    prompt_split=np.zeros(len(items), int),
  )
  return Source(found, {}, f'{folder.name}: items of people', '')


def score_columns(frame: pd.DataFrame, num_responses: int) -> dict[str, list[str]]:
  """Returns NAME -> columns `response_1_NAME` .. `response_R_NAME`.

  Raises:
    ValueError: for a name that some responses lack.
  """
  matches = [SCORED.fullmatch(str(column)) for column in frame.columns]
  names = dict.fromkeys(match[2] for match in matches if match)
  made = {name: [f'response_{i + 1}_{name}' for i in range(num_responses)] for name in names}
  for name, wanted in made.items():
    missing = [column for column in wanted if column not in frame.columns]
    if missing:
      raise ValueError(f'scores {name!r}: no column {", ".join(missing)}')
  return made


def name_unread(frame: pd.DataFrame, scores: Mapping[str, list[str]]) -> None:
  """Logs the columns of a table that are neither texts, nor what is known of them, nor scores."""
  read = {*TEXT_COLUMNS, *itertools.chain(*scores.values())}
  names = [str(name) for name in frame if name not in read]
  unread = [name for name in names if not OF_RESPONSE.fullmatch(name)]
  if unread:
    logging.warning('columns of the source that are not read: %s', ', '.join(unread))


def join_scores(source: Source, frame: pd.DataFrame) -> Source:
  """Returns a source with more scores, matched by prompt_id; NaN for a prompt without a row.

  Raises:
    ValueError: for a table without prompt_id or scores, ids that repeat or are unknown, or a name
      that the source has already.
  """
  columns = score_columns(frame, source.texts.responses.shape[1])
  if 'prompt_id' not in frame.columns or not columns:
    raise ValueError(
      'a table of scores needs prompt_id and response_1_NAME, response_2_NAME, ...; got '
      f'{", ".join(map(str, frame.columns))}'
    )
  ids = texts.prompt_ids(frame).tolist()
  unknown = sorted(set(ids) - set(source.texts.prompt_ids))
  if unknown or len(set(ids)) != len(ids):
    raise ValueError(
      f'prompt_id of the scores must be different ids of the texts; unknown: {unknown[:5]}, '
      f'repeated: {len(ids) - len(set(ids))}'
    )
  both = sorted(set(columns) & set(source.scores))
  if both:
    raise ValueError(f'scores {", ".join(both)} are in the texts already; leave out one of them')
  name_unread(frame, columns)
  row = {name: number for number, name in enumerate(ids)}
  found = texts.scores_of(frame, columns)
  place = np.array([row.get(value, -1) for value in source.texts.prompt_ids])
  aligned = {
    name: np.where(place[:, None] >= 0, values[place], np.float32('nan'))
    for name, values in found.items()
  }
  return source._replace(scores=source.scores | aligned)


def read_ultrafeedback(frame: pd.DataFrame) -> Source:
  """Returns the source of completions with ratings by aspect, a row per prompt.

  Each row has `instruction` and `completions`: a list of `model`, `response` and `annotations`
  (aspect -> {'Rating': '1'..'5'}). Aspects become reward models. Rows of another form, or with
  another number of completions than most, are left out and counted.

  Raises:
    ValueError: for a table without these columns, or without any row of this form.

  Reference:
    Cui et al. 2023, arXiv:2310.01377.
  """
  missing = [name for name in ('instruction', 'completions') if name not in frame.columns]
  if missing:
    raise ValueError(f'no column {", ".join(missing)} among {", ".join(map(str, frame.columns))}')
  rows = frame[frame['completions'].map(_is_rated)]
  if rows.empty:
    raise ValueError(
      'no row has completions with model, response and annotations (aspect -> Rating); is it '
      'another data set?'
    )
  sizes = rows['completions'].map(len)
  alike = rows[sizes == sizes.mode().iloc[0]]
  counts = {
    'completions of another form': len(frame) - len(rows),
    'another number of completions': len(rows) - len(alike),
  }
  wide = pd.DataFrame([_wide(row) for row in alike.to_dict('records')], dtype=object)
  return read_texts(wide)._replace(left_out={why: n for why, n in counts.items() if n})


def _is_rated(completions: Any) -> bool:
  """Tells whether completions are a list of answers, each with a mapping of ratings by aspect."""
  return isinstance(completions, list | np.ndarray) and all(
    isinstance(one, Mapping)
    and isinstance(one.get('response'), str)
    and isinstance(one.get('model'), str)
    and isinstance(one.get('annotations'), Mapping)
    and all(rated is None or isinstance(rated, Mapping) for rated in one['annotations'].values())
    for one in completions
  )


def _wide(row: Mapping[Any, Any]) -> dict[str, Any]:
  made = {'prompt': row['instruction'], 'subset': row.get('source', '')}
  for i, completion in enumerate(row['completions'], 1):
    made[f'response_{i}'] = completion['response']
    made[f'response_{i}_model'] = completion['model']
    for aspect, rated in completion['annotations'].items():
      rating = pd.Series([(rated or {}).get('Rating')])
      made[f'response_{i}_{aspect}'] = pd.to_numeric(rating, errors='coerce')[0]  # 'N/A' is missing
  return made
