"""Noisy labels: trained on users of whose labels 100 to 60 % are right, evaluated on each.

Source: ours, after noisy raters in Barreto et al. 2025 (RFM).

Expected: labels predicted after 16 comparisons where 100, 75 and 60 % are right: bayes 95.4, 73.1
  and 58.9, cnp 92.2, 72.3 and 58.5, per_user 87.8, 66.6 and 54.3, pooled 78.1, 68.2 and 57.8.
Time: 9 minutes on one core; `:quick` 1 to 3.
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
