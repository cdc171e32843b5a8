"""Trained on users of one concentration, evaluated on others: 0.1 against 0.01 to 1.

`bayes` knows the evaluated users' concentration, `bayes_seen` assumes that of
training.
Source: ours; no deviations.

Expected: accuracy after 8 comparisons at concentration .01 and 1: bayes 94.6 and 93.0, bayes_seen
  92.9 and 90.7, cnp 90.3 and 91.2, pooled 75.2 and 91.2.
Time: 7 minutes on one core; `:quick` 1 to 3.
Command: python -m experiments.benchmark --workdir=DIR
  --config=experiments/configs/alpha_shift.py
Arguments: quick; learner=NAME gives experiments.train that learner's run.
"""

from experiments.build import Config
from experiments.configs import base

LEARNERS = base.six()


def get_config(argument: str | None = None) -> Config:
  """Returns the config; `argument` is what follows the colon."""
  return base.of_protocol('alpha_shift', LEARNERS, argument)
