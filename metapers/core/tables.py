"""Histories of real or stored users as arrays: what data hands to populations."""

from typing import NamedTuple

import numpy as np

from metapers.core.types import Bool, Float, Int


class Histories(NamedTuple):
  """Pairwise choices of U people among I items, as host arrays.

  features: [I, D] of the items. item_ids: [I] as in the source.
  user_ids: [U] as in the source. chosen, rejected: [U, N] rows of `features`, in the person's own
    order. mask: [U, N], True where the comparison is real.
  context: [I] the group (prompt, topic) of an item; two items of a comparison share it.
  identity: True where the features are one-hot item ids: then unseen items cannot be judged.
  num_dropped: people left out for having fewer than the asked minimum of comparisons.
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
