"""Histories of people, and scores of responses, as arrays: what data hands to populations."""

from typing import NamedTuple

import numpy as np

from metapers.core.types import Bool, Float, Int


class Histories(NamedTuple):
  """Pairwise choices of U people among I items, as host arrays.

  features: [I, D] of the items, raw, as exact as the source; [I, 0] for one-hot ids, of which rows
    are made when an episode is.
  item_ids: [I] as in the source.
  user_ids: [U] as in the source. chosen, rejected: [U, N] rows of `features`, in the person's own
    order, or in random order where none is known. mask: [U, N], True where the comparison is real.
  context: [I] the group (prompt, topic) of an item; two items of a comparison share it.
  identity: True where the features are one-hot item ids: then unseen items cannot be predicted.
  num_dropped: people left out for having fewer than the asked minimum of comparisons.
  source: one line on where this comes from, shown with every result.
  content_hash: sha256 of features, contexts and comparisons: what a resumed run compares.
  feature_names: D names, in order; () where they have none.
  item_texts: [I] texts of the items, '' for none; None where they have none.
  licence: of the data, in words; '' where nobody says it.
  outcome: [U, N] the answer of each comparison: 0 for a choice, n for `outcomes.KINDS[n - 1]`, of
    which 'strong' is a choice, too, and the others prefer neither item. None where all are choices.
  remarks: what of the source was left out, and what counts more than once, in words.
  """

  features: Float[np.ndarray, 'I D']
  item_ids: np.ndarray
  user_ids: np.ndarray
  chosen: Int[np.ndarray, 'U N']
  rejected: Int[np.ndarray, 'U N']
  mask: Bool[np.ndarray, 'U N']
  context: Int[np.ndarray, 'I']
  identity: bool
  num_dropped: int
  source: str
  content_hash: str
  feature_names: tuple[str, ...] = ()
  item_texts: np.ndarray | None = None
  licence: str = ''
  outcome: Int[np.ndarray, 'U N'] | None = None
  remarks: str = ''


class RewardTable(NamedTuple):
  """Scores, and optionally features, of P prompts with R responses each, as host arrays.

  rewards: [P, R, B] RAW scores; NaN where missing. features: [P, R, D], or None.
  mask: [P, R], False for a response that must never be shown: a missing score or a repeated text.
  reward_models: the B names, in order; weights are carried by name, never by bare position.
  response_models: the names that `response_model` [P, R] indexes.
  mean, std: [B] of the raw scores over the train and validation prompts (its train split).
  prompt_split: [P], index into `population.SPLITS`.
  source: one line on where this comes from, shown with every result ('synthetic ...').
  manifest_hash: sha256 of the manifest: what a resumed run compares.
  prompt_texts: [P] texts of the prompts, '' for none; None where they are not kept.
  licence: of the data, in words; '' where nobody says it.
  """

  rewards: Float[np.ndarray, 'P R B']
  features: Float[np.ndarray, 'P R D'] | None
  mask: Bool[np.ndarray, 'P R']
  reward_models: tuple[str, ...]
  response_model: Int[np.ndarray, 'P R']
  response_models: tuple[str, ...]
  mean: Float[np.ndarray, 'B']
  std: Float[np.ndarray, 'B']
  prompt_split: Int[np.ndarray, 'P']
  source: str
  manifest_hash: str
  prompt_texts: np.ndarray | None = None
  licence: str = ''
