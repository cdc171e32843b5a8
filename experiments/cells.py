"""Finished cells of a table: predictions on disk, so that a restart goes on where it stood."""

import io
import pathlib
from collections.abc import Callable

import numpy as np

from metapers.core import files
from metapers.evaluation.predictions import Predictions


def cell(path: pathlib.Path, make: Callable[[], Predictions]) -> Predictions:
  """Loads the predictions at `path` (.npz), or makes and keeps them."""
  if not path.exists():
    made = make()
    buffer = io.BytesIO()
    np.savez(buffer, log_probs=made.log_probs, slate_scores=made.slate_scores)
    files.write_atomically(path, buffer.getvalue())
  with np.load(path, allow_pickle=False) as stored:
    return Predictions(stored['log_probs'], stored['slate_scores'])
