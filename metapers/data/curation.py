"""PersonalLLM's selection of prompts, for any pool of prompts."""

import os
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa

from metapers.data import frames, texts


class PromptsLeftOut(NamedTuple):
  """Numbers of prompts not taken, by reason; each is counted once, by the first that applies."""

  empty: int
  repeated: int
  too_long: int
  not_drawn: int


class Curated(NamedTuple):
  """The prompts taken, in the order of the pool, and the numbers of those left out.

  prompts: the columns of the pool, `prompt_id` (the pool's own, else the row in the pool) and
    `split`, 'train' or 'test'.
  """

  prompts: pd.DataFrame
  left_out: PromptsLeftOut


def curate(
  pool: pd.DataFrame | pa.Table,
  *,
  num_prompts: int | None = 10_402,
  num_test: int = 1_000,
  max_characters: int = 2_400,
  seed: int = 0,
) -> Curated:
  """Returns a random draw of a pool's prompts, without empty, repeated and too long ones.

  The order of the draw does not depend on its size: a larger one holds the smaller one's prompts,
  and the same test prompts.

  Args:
    pool: with a column `prompt`; repeats have the same text up to outer white space, and the first
      is kept.
    num_prompts: how many to draw; None for all that remain.
    num_test: how many of those drawn are test prompts.
    max_characters: a longer prompt is left out.
    seed: of draw and split.

  Raises:
    ValueError: without a column `prompt`, with a repeated `prompt_id`, or if too few prompts
      remain.

  Reference: Zollo et al. 2024, arXiv:2409.20296, section 2 and appendix A.
  """
  frame = numbered(pool)
  text = frame['prompt'].map(lambda value: value if isinstance(value, str) else '').astype(object)
  stripped = text.str.strip()
  empty = (stripped == '').to_numpy(bool)
  repeated = stripped.duplicated().to_numpy(bool) & ~empty
  too_long = (text.str.len() > max_characters).to_numpy(bool) & ~empty & ~repeated
  remaining = np.flatnonzero(~(empty | repeated | too_long))
  size = len(remaining) if num_prompts is None else num_prompts
  if not 0 <= num_test < size <= len(remaining):
    raise ValueError(
      f'{len(remaining)} of {len(frame)} prompts remain ({empty.sum()} empty, {repeated.sum()} '
      f'repeated, {too_long.sum()} too long); cannot draw {size} with {num_test} test prompts; '
      'give a smaller num_prompts or num_test, or a larger pool'
    )
  drawn = np.random.default_rng(seed).permutation(remaining)[:size]
  split = pd.Series('train', index=frame.index)
  split.iloc[drawn[:num_test]] = 'test'
  prompts = frame.assign(split=split).iloc[np.sort(drawn)].reset_index(drop=True)
  counts = (empty.sum(), repeated.sum(), too_long.sum(), len(remaining) - size)
  return Curated(prompts, PromptsLeftOut(*map(int, counts)))


def numbered(pool: pd.DataFrame | pa.Table) -> pd.DataFrame:
  """Returns the pool with a `prompt_id` for each row: its own, else the row's number.

  Raises:
    ValueError: without a column `prompt`, or for a repeated `prompt_id`.
  """
  frame = pool if isinstance(pool, pd.DataFrame) else pool.to_pandas()
  if 'prompt' not in frame.columns:
    raise ValueError(f'a column prompt is needed; got {", ".join(map(str, frame.columns))}')
  frame = frame.reset_index(drop=True)
  frame = frame.assign(prompt_id=texts.prompt_ids(frame))
  twice = frame['prompt_id'].to_numpy()[frame['prompt_id'].duplicated()]
  if len(twice):
    raise ValueError(f'prompt_id {twice[0]!r} is repeated; give each prompt its own')
  return frame


def read_prompts(path: str | os.PathLike) -> pd.DataFrame:
  """Returns the prompts; those without `prompt_id` and `subset` have their row and ''.

  Raises:
    ValueError: without a column `prompt`, with an empty prompt, or an id that stands twice.
  """
  frame = numbered(frames.read_frame(path))
  if 'subset' not in frame.columns:
    frame = frame.assign(subset='')
  empty = [n for n, x in enumerate(frame['prompt']) if not isinstance(x, str) or not x.strip()]
  if empty or not len(frame):
    raise ValueError(
      f'{path}: {len(empty)} of {len(frame)} rows have no prompt (rows {empty[:5]}); '
      '`curate` leaves them out'
    )
  return frame
