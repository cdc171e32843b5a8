"""PersonalLLM's data set: 10,402 prompts, eight responses each, raw scores of ten reward models.

Reference: Zollo et al. 2024, arXiv:2409.20296; huggingface.co/datasets/namkoong-lab/PersonalLLM.
"""

from typing import NamedTuple

import numpy as np
import pandas as pd

from metapers.core.population import SPLITS
from metapers.core.types import Float, Int
from metapers.data import hub, reward_table, texts
from metapers.data.personal_llm_constants import REWARD_MODELS
from metapers.data.texts import Texts

DATA_SET = 'namkoong-lab/PersonalLLM'
LICENCE = 'CC BY-NC 4.0 (the paper) or CC BY 4.0 (the hub): treat as non-commercial'
NUM_RESPONSES = 8
TOLERANCE = 1e-3  # of a published mean or sd, beyond which the difference is told


class Loaded(NamedTuple):
  """texts: prompts in the order train, test. scores: reward model -> raw [P, R]."""

  texts: Texts
  scores: dict[str, Float[np.ndarray, 'P R']]


class Statistic(NamedTuple):
  """Mean and sd of one reward model's raw train scores, published and found here."""

  name: str
  mean: float
  published_mean: float
  std: float
  published_std: float

  @property
  def agrees(self) -> bool:
    """Tells whether both lie within the tolerance of what was published."""
    gaps = abs(self.mean - self.published_mean), abs(self.std - self.published_std)
    return max(gaps) <= TOLERANCE


def score_columns() -> dict[str, list[str]]:
  """Returns reward model -> its eight columns."""
  numbers = range(1, NUM_RESPONSES + 1)
  return {name: [f'response_{i}_{name}' for i in numbers] for name in REWARD_MODELS}


def columns() -> list[str]:
  """Returns the 99 columns of the data set."""
  numbers = range(1, NUM_RESPONSES + 1)
  written = [f'response_{i}{ending}' for i in numbers for ending in ('', '_model')]
  scored = [name for names in score_columns().values() for name in names]
  return ['prompt', 'prompt_id', 'subset', *written, *scored]


def check_columns(frame: pd.DataFrame, split: str) -> None:
  """Asserts the schema.

  Raises:
    ValueError: naming what is missing, and what is there that is not known.
  """
  missing = [name for name in columns() if name not in frame.columns]
  if missing:
    unknown = sorted(set(map(str, frame.columns)) - set(columns()))
    raise ValueError(
      f'split {split} of {DATA_SET} lacks {len(missing)} of its {len(columns())} columns: '
      f'{", ".join(missing[:6])}{", ..." if len(missing) > 6 else ""}; unknown among those there: '
      f'{", ".join(unknown[:6]) or "none"}'
    )


def load(*, path: str = '', revision: str = 'main') -> Loaded:
  """Loads prompts, responses and raw scores.

  Args:
    path: a local folder with train*.parquet and test*.parquet; '' for the hub.
    revision: of the hub's repository.

  Raises:
    ValueError: for a hub that cannot be reached, a column that is missing, or scores that are no
      numbers.
  """
  frames = {
    split: hub.read_table(DATA_SET, revision, path, split=split) for split in ('train', 'test')
  }
  for split, frame in frames.items():
    check_columns(frame, split)
  together = pd.concat(list(frames.values()), ignore_index=True)
  split = divide(len(frames['train']), len(frames['test']))
  return Loaded(texts.from_frame(together, split), texts.scores_of(together, score_columns()))


def divide(num_train: int, num_test: int) -> Int[np.ndarray, 'P']:
  """Carves the validation prompts from the train split by a fixed seed, 1,000 of the whole set."""
  share = reward_table.NUM_VALIDATION / (reward_table.NUM_PROMPTS - reward_table.NUM_TEST)
  num_validation = max(1, round(share * num_train))
  return reward_table.assign_splits(
    num_train + num_test, num_validation=num_validation, num_test=num_test
  )


def statistics(loaded: Loaded) -> list[Statistic]:
  """Recomputes every reward model's mean and sd over all responses to the train prompts."""
  train = loaded.texts.prompt_split != SPLITS.index('test')
  readable = texts.readable(loaded.texts)[train]
  found = []
  for name, (mean, std) in REWARD_MODELS.items():
    values = loaded.scores[name][train][readable].astype(np.float64)
    values = values[np.isfinite(values)]
    found.append(Statistic(name, float(values.mean()), mean, float(values.std()), std))
  return found


def as_text(found: list[Statistic]) -> str:
  """Writes the table of recomputed and published statistics, marking what differs."""
  lines = [f'{"reward model":20}{"mean":>10}{"published":>11}{"sd":>10}{"published":>11}']
  for one in found:
    mark = '' if one.agrees else f'  differs by more than {TOLERANCE:g}'
    lines.append(
      f'{one.name:20}{one.mean:10.4f}{one.published_mean:11.4f}{one.std:10.4f}'
      f'{one.published_std:11.4f}{mark}'
    )
  return '\n'.join(lines)
