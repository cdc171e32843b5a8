"""Noisy labels: trained on users of whose labels 100 to 60 % are right, judged on each.

Source: ours, after noisy raters in Barreto et al. 2025 (RFM).

Time: `:quick` 1 to 3 minutes on one core; in full not run yet.
Command: python -m experiments.benchmark --workdir=DIR
  --config=experiments/configs/label_noise.py
Arguments: quick; learner=NAME gives experiments.train that learner's run.
"""

from experiments.build import Config
from experiments.configs import base

LEARNERS = base.six()


def get_config(argument: str | None = None) -> Config:
  """Returns the config; `argument` is what follows the colon."""
  return base.of_protocol('label_noise', LEARNERS, argument)
