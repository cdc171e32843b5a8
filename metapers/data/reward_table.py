"""Splits, usable responses and statistics of the raw scores of a `RewardTable`."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from metapers.core.population import SPLITS, varies
from metapers.core.tables import RewardTable
from metapers.core.types import Bool, Float, Int

# PersonalLLM's prompts; the validation prompts are carved from its train split by a fixed seed.
NUM_PROMPTS, NUM_VALIDATION, NUM_TEST = 10402, 1000, 1000
VALIDATION_SEED = 8402
DRAWN_SEED = 10402  # of tables without splits


def assign_splits(num_prompts: int, *, num_validation: int, num_test: int) -> Int[np.ndarray, 'P']:
  """Returns the split of each prompt: the last are test, validation is drawn from the rest.

  Args:
    num_prompts: P.
    num_validation: how many of the first P - num_test prompts, by a fixed seed.
    num_test: how many at the end.

  Returns:
    [P], index into `population.SPLITS`.

  Raises:
    ValueError: if a split is empty.
  """
  num_train = num_prompts - num_validation - num_test
  if min(num_train, num_validation, num_test) < 1:
    raise ValueError(
      f'{num_prompts} prompts cannot be split into {num_train} train, {num_validation} validation '
      f'and {num_test} test; each needs at least one'
    )
  split = np.full(num_prompts, SPLITS.index('train'), np.int8)
  split[-num_test:] = SPLITS.index('test')
  order = np.random.default_rng(VALIDATION_SEED).permutation(num_prompts - num_test)
  split[order[:num_validation]] = SPLITS.index('validation')
  return split


def draw_splits(prompts: np.ndarray) -> Int[np.ndarray, 'P']:
  """Returns the split of each prompt of a table that has none: a tenth each for both held out.

  They are drawn by a fixed seed, since files are sorted by where prompts are from, so that their
  ends are other prompts than the rest. Equal prompts share a split, and those without text, which
  are never shown, are train; where none has a text, each is drawn.

  Args:
    prompts: [P] strings.

  Raises:
    ValueError: for fewer than three different prompts.
  """
  stripped = np.array([prompt.strip() for prompt in prompts])
  is_text = stripped != ''
  if not is_text.any():
    stripped, is_text = np.arange(len(prompts)), ~is_text
  different, number = np.unique(stripped[is_text], return_inverse=True)
  if len(different) < len(SPLITS):
    raise ValueError(
      f'{len(different)} different prompts cannot be split into train, validation and test; '
      f'give {len(SPLITS)} at least'
    )
  held_out = max(1, len(different) // 10)
  assigned = assign_splits(len(different), num_validation=held_out, num_test=held_out)
  split = np.full(len(prompts), SPLITS.index('train'), np.int8)
  split[is_text] = np.random.default_rng(DRAWN_SEED).permutation(assigned)[number]
  return split


def split_sizes(prompt_split: Int[np.ndarray, 'P']) -> dict[str, int]:
  """Returns the number of prompts of each split."""
  return dict(zip(SPLITS, np.bincount(prompt_split, minlength=len(SPLITS)).tolist()))


def is_train(prompt_split: Int[np.ndarray, 'P']) -> Bool[np.ndarray, 'P']:
  """Returns whether statistics may use each prompt: train and validation, PersonalLLM's train."""
  return prompt_split != SPLITS.index('test')


def missing_responses(rewards: Float[np.ndarray, 'P R B']) -> Bool[np.ndarray, 'P R']:
  """Returns whether each response lacks a score: NaN, or infinite."""
  return np.any(~np.isfinite(rewards), -1)


def repeated_responses(
  rewards: Float[np.ndarray, 'P R B'], texts: np.ndarray | None = None
) -> Bool[np.ndarray, 'P R']:
  """Returns whether each response repeats an earlier one of its prompt.

  A repeat has the same B raw scores, or, where texts are known, the same text.

  Args:
    rewards: raw scores [P, R, B].
    texts: [P, R] of strings, or None.
  """
  same = (rewards[:, :, None] == rewards[:, None]).all(-1)  # [P, R, R]
  repeated = np.any(same & np.tri(rewards.shape[1], k=-1, dtype=bool), -1)
  return repeated if texts is None else repeated | repeated_texts(texts)


def repeated_texts(texts: np.ndarray) -> Bool[np.ndarray, 'P R']:
  """Returns whether each text [P, R] repeats an earlier one of its prompt."""
  same = (texts[:, :, None] == texts[:, None]).astype(bool)
  return np.any(same & np.tri(texts.shape[1], k=-1, dtype=bool), -1)


def usable_responses(
  rewards: Float[np.ndarray, 'P R B'], texts: np.ndarray | None = None
) -> Bool[np.ndarray, 'P R']:
  """Returns whether each response may be shown: no score is missing, and it is no repeat."""
  return ~(missing_responses(rewards) | repeated_responses(rewards, texts))


def statistics(
  rewards: Float[np.ndarray, 'P R B'],
  mask: Bool[np.ndarray, 'P R'],
  prompt_split: Int[np.ndarray, 'P'],
  names: Sequence[str] = (),
) -> tuple[Float[np.ndarray, 'B'], Float[np.ndarray, 'B']]:
  """Returns mean and sd [B] of the raw scores of usable responses to non-test prompts.

  Args:
    rewards: raw scores [P, R, B].
    mask: [P, R], whether each response is usable.
    prompt_split: [P], index into `population.SPLITS`.
    names: B of the reward models, for messages; by default their numbers.

  Raises:
    ValueError: without any such response, or for reward models that are constant on them.
  """
  train = is_train(prompt_split)
  scores = rewards[train][mask[train]].astype(np.float64)  # [usable, B]
  if not len(scores):
    raise ValueError('no usable response to a train prompt; all scores are missing or repeated')
  models = names or [f'number {index}' for index in range(scores.shape[1])]
  refuse_constant({name: scores[:, index] for index, name in enumerate(models)})
  return scores.mean(0).astype(np.float32), scores.std(0).astype(np.float32)


def check_varied(
  scores: Mapping[str, Float[np.ndarray, 'P R']],
  mask: Bool[np.ndarray, 'P R'],
  prompt_split: Int[np.ndarray, 'P'],
) -> None:
  """Refuses scores that differ on no two responses to non-test prompts, where they are known.

  Args:
    scores: reward model -> raw scores, NaN where there is none.
    mask: whether each response may be shown.
    prompt_split: index into `population.SPLITS`.

  Raises:
    ValueError: naming the reward models.
  """
  shown = mask & is_train(prompt_split)[:, None]
  refuse_constant({name: values[shown & np.isfinite(values)] for name, values in scores.items()})


def refuse_constant(scores: Mapping[str, np.ndarray]) -> None:
  """Refuses reward models, by name, whose scores are all the same.

  Raises:
    ValueError: naming them.
  """
  constant = [
    name
    for name, values in scores.items()
    if values.size and not varies(values.astype(np.float64)[:, None]).all()
  ]
  if constant:
    raise ValueError(
      f'reward model {", ".join(constant)} gives every train response the same score; leave it out'
    )


def z_scores(
  rewards: Float[np.ndarray, 'P R B'],
  mask: Bool[np.ndarray, 'P R'],
  mean: Float[np.ndarray, 'B'],
  std: Float[np.ndarray, 'B'],
) -> Float[np.ndarray, 'P R B']:
  """Returns (score - mean) / sd, float32 [P, R, B]; 0 where masked."""
  return np.where(mask[..., None], (rewards - mean) / std, 0).astype(np.float32)


class MaskedCounts(NamedTuple):
  """Numbers of responses that are never shown, by reason; of `total` in all."""

  missing: int
  repeated: int
  total: int


def count_masked(table: RewardTable) -> MaskedCounts:
  """Returns the numbers of responses without a score and, of the others, masked as repeats."""
  missing = missing_responses(table.rewards)
  return MaskedCounts(int(missing.sum()), int((~table.mask & ~missing).sum()), table.mask.size)
