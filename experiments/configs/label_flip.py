"""What changes when every label of a user's support is turned around, under three pair rules.

Source: the flip rate of Wang et al. 2026 (P-TTT): 77.8 % there, 14.1 % for in-context learning.
Deviations: simulated users, and every query of theirs.

Time: `:quick` 1 to 3 minutes on one core; in full not run yet.
Command: python -m experiments.benchmark --workdir=DIR
  --config=experiments/configs/label_flip.py
Arguments: quick; learner=NAME gives experiments.train that learner's run.
"""

from experiments.build import Config
from experiments.configs import base

LEARNERS = base.six()


def get_config(argument: str | None = None) -> Config:
  """Returns the config; `argument` is what follows the colon."""
  return base.of_protocol('label_flip', LEARNERS, argument)
