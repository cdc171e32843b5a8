"""Learners × conditions × seeds as a library: `compare`, and what it is made of."""

from metapers.bench.plan import Condition, Entry, Evaluation, Plan, Stream
from metapers.bench.runner import Result, compare
from metapers.training.meta_training import Training

__all__ = [
  'Condition', 'Entry', 'Evaluation', 'Plan', 'Result', 'Stream', 'Training', 'compare',
]  # fmt: skip
