"""Comparisons that arrive one by one; preferences may change after 32 of 64 turns.

`turn_accuracy` is of the turns since the turn listed before, `cumulative_regret` of all so far.
With a window a learner remembers the last comparisons only.
Source: ours, after a question of FSPO's reviewers.

Expected: where preferences change cnp falls from 95 to 72 % at turn 36; at turn 64 it has 81, 93
  if it remembers the last 16 comparisons only.
Time: 26 minutes on one busy core; `:quick` 1 to 3.
Command: python -m experiments.benchmark --workdir=DIR
  --config=experiments/configs/stream.py
Arguments: quick; learner=NAME gives experiments.train that learner's run.
"""

from experiments.build import Config
from experiments.configs import base

LEARNERS = base.six()


def get_config(argument: str | None = None) -> Config:
  """Returns the config; `argument` is what follows the colon."""
  return base.of_protocol('stream', LEARNERS, argument)
