"""Prompts with the same number of responses each: what reward models read."""

import json
import re
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa

from metapers.core import files
from metapers.core.types import Bool, Int
from metapers.data import frames, rendering, reward_table

ERROR_TEXT = '!!!ERROR: FILTER THIS ROW OUT LATER!!!'  # upstream's mark of a failed request
NUMBERED = re.compile(r'response_(\d+)(_model)?')


class Texts(NamedTuple):
  """P prompts with R responses each, as host arrays.

  prompts: [P] strings. prompt_ids: [P] as in the source. subset: [P] where each prompt is from.
  responses: [P, R] strings, '' where there is none. response_model: [P, R], index of
  response_models. prompt_split: [P], index into `population.SPLITS`.
  """

  prompts: np.ndarray
  prompt_ids: np.ndarray
  subset: np.ndarray
  responses: np.ndarray
  response_model: Int[np.ndarray, 'P R']
  response_models: tuple[str, ...]
  prompt_split: Int[np.ndarray, 'P']


class LeftOut(NamedTuple):
  """Numbers of what is never shown.

  errors, empty, repeated: responses that are upstream's error mark, without text, or a text that
  another response to the prompt has. empty_prompts: prompts without text, and so all responses to
  them.
  """

  errors: int
  empty: int
  repeated: int
  empty_prompts: int


def readable(texts: Texts) -> Bool[np.ndarray, 'P R']:
  """Returns whether each response has a text, and its prompt too unless no prompt has one."""
  stripped, has_prompt = _stripped(texts.responses), _stripped(texts.prompts) != ''
  is_text = (stripped != '') & (stripped != ERROR_TEXT)
  return is_text & has_prompt[:, None] if has_prompt.any() else is_text


def left_out(texts: Texts) -> LeftOut:
  """Returns the numbers of responses and prompts that are never shown."""
  stripped, is_readable = _stripped(texts.responses), readable(texts)
  repeated = reward_table.repeated_texts(texts.responses) & is_readable
  errors, empty = np.sum(stripped == ERROR_TEXT), np.sum(stripped == '')
  is_empty = _stripped(texts.prompts) == ''
  empty_prompts = 0 if is_empty.all() else is_empty.sum()
  return LeftOut(int(errors), int(empty), int(repeated.sum()), int(empty_prompts))


def digest(texts: Texts) -> str:
  """Returns the sha256 of prompts and responses."""
  content = json.dumps([texts.prompts.tolist(), texts.responses.tolist()], ensure_ascii=False)
  return files.sha256(content.encode('utf-8', 'surrogatepass'))


def to_table(texts: Texts) -> pa.Table:
  """Returns the rows of a store's `texts.parquet`."""
  names = np.array(texts.response_models, object)[texts.response_model]
  return pa.table(
    {
      'prompt_id': [str(name) for name in texts.prompt_ids],
      'prompt': texts.prompts.tolist(),
      'subset': [str(name) for name in texts.subset],
      'responses': texts.responses.tolist(),
      'response_models': names.tolist(),
    }
  )


def response_columns(frame: pd.DataFrame) -> list[str]:
  """Returns response_1 .. response_R in order.

  Raises:
    ValueError: without at least two, or with a gap in their numbers.
  """
  found = [NUMBERED.fullmatch(str(name)) for name in frame.columns]
  numbers = sorted(int(match[1]) for match in found if match and not match[2])
  if len(numbers) < 2 or numbers != list(range(1, len(numbers) + 1)):
    raise ValueError(
      'expected the columns prompt and response_1, response_2, ... (and response_1_model, ...), or '
      f'a column responses of lists; got {", ".join(map(str, frame.columns))}'
    )
  return [f'response_{number}' for number in numbers]


def from_frame(frame: pd.DataFrame, prompt_split: Int[np.ndarray, 'P'] | None = None) -> Texts:
  """Returns the texts of a table with a row per prompt.

  Args:
    frame: columns `prompt`, and `response_1`.. [, `response_1_model`..] or `responses` [,
      `response_models`] of lists; optional `prompt_id` and `subset`.
    prompt_split: [P]; drawn by default (`reward_table.draw_splits`).

  Raises:
    ValueError: for missing columns, different numbers of responses, what is no text, or a response
      without the model that wrote it where others have one.
  """
  if 'prompt' not in frame.columns:
    raise ValueError(f'a column prompt is needed; got {", ".join(map(str, frame.columns))}')
  if 'responses' in frame.columns:
    responses = _lists(frame, 'responses')
    models = _lists(frame, 'response_models') if 'response_models' in frame.columns else None
  else:
    names = response_columns(frame)
    responses = frame[names].to_numpy(object)
    models = _numbered_models(frame, [f'{name}_model' for name in names])
  responses = strings(responses, 'response')
  writers = _writers(models, responses)
  response_models, response_model = np.unique(writers.astype(str), return_inverse=True)
  size = len(frame)
  subset = frame['subset'].fillna('').to_numpy(object) if 'subset' in frame else np.full(size, '')
  prompts = strings(frame['prompt'].to_numpy(object), 'prompt')
  return Texts(
    prompts=prompts,
    prompt_ids=prompt_ids(frame),
    subset=subset.astype(str),
    responses=responses,
    response_model=response_model.reshape(responses.shape),
    response_models=tuple(map(str, response_models)),
    prompt_split=reward_table.draw_splits(prompts) if prompt_split is None else prompt_split,
  )


def strings(values: np.ndarray, name: str = 'text') -> np.ndarray:
  """Returns texts as strings, by `rendering.read_text`, in an array of the same shape.

  Raises:
    ValueError: for what is no text, naming the row.
  """
  made = np.empty(values.shape, object)
  for place in np.ndindex(values.shape):
    try:
      made[place] = rendering.read_text(values[place])
      frames.check_unicode(made[place], 'it')
    except ValueError as error:
      raise ValueError(
        f'row {place[0]}, {name}{"".join(f" {1 + i}" for i in place[1:])}: {error}; convert or '
        'leave out that row'
      ) from error
  return made


def prompt_ids(frame: pd.DataFrame) -> np.ndarray:
  """Returns the prompts' ids as texts: their own, or without any their rows' numbers.

  Raises:
    ValueError: for a prompt without an id among others with one.
  """
  if 'prompt_id' not in frame:
    return np.array([str(row) for row in range(len(frame))], object)
  found = frames.ids(frame, 'prompt_id')
  missing = [row for row, value in enumerate(found) if value is None]
  if missing:
    raise ValueError(f'{len(missing)} rows have no prompt_id, such as row {missing[0]}; give all')
  return found


def scores_of(frame: pd.DataFrame, columns: Mapping[str, list[str]]) -> dict[str, np.ndarray]:
  """Returns precomputed scores, NaN where missing or infinite: reward model -> [P, R].

  Args:
    frame: a row per prompt.
    columns: reward model -> its R columns, in the order of the responses.

  Raises:
    ValueError: for a column that is missing or non-numeric.
  """
  found = {}
  for name, wanted in columns.items():
    missing = [one for one in wanted if one not in frame.columns]
    if missing:
      raise ValueError(f'{name}: no column {", ".join(missing)} among {", ".join(frame.columns)}')
    try:
      values = frame[wanted].to_numpy(np.float64)
    except (TypeError, ValueError) as error:
      raise ValueError(f'{name}: its columns must hold numbers: {error}') from error
    found[name] = np.where(np.isfinite(values), values, np.nan).astype(np.float32)
  return found


def _numbered_models(frame: pd.DataFrame, names: list[str]) -> np.ndarray | None:
  missing = [name for name in names if name not in frame]
  if 0 < len(missing) < len(names):
    raise ValueError(f'no column {", ".join(missing)}, and others name their models: give all')
  return None if missing else frame[names].to_numpy(object)


def _writers(models: np.ndarray | None, responses: np.ndarray) -> np.ndarray:
  """Returns who wrote each response, by its place where nobody is named."""
  numbers = [f'response {number + 1}' for number in range(responses.shape[1])]
  places = np.broadcast_to(np.array(numbers, object), responses.shape)
  if models is None:
    return places
  is_missing = pd.isna(models)
  wrong = np.argwhere(is_missing & (_stripped(responses) != ''))
  if wrong.size:
    row, response = wrong[0]
    raise ValueError(
      f'row {row}, response {response + 1}: no model is named that wrote it, and others have one; '
      'name all of them, or leave their columns out'
    )
  return np.where(is_missing, places, models)


def _stripped(values: np.ndarray) -> np.ndarray:
  return np.vectorize(str.strip, otypes=[object])(values)


def _lists(frame: pd.DataFrame, name: str) -> np.ndarray:
  rows = [list(row) if isinstance(row, list | tuple | np.ndarray) else [] for row in frame[name]]
  widths = sorted({len(row) for row in rows})
  if len(widths) != 1 or widths[0] < 2:
    raise ValueError(
      f'{name} must hold the same number of entries, two or more, for every prompt; got {widths}'
    )
  made = np.empty((len(rows), widths[0]), object)
  made[:] = rows
  return made
