"""Trained on users of one concentration, judged on others: 0.1 against 0.01 to 1.

`bayes` knows the judged users' concentration, `bayes_seen` believes in that of the seen ones.
Source: ours; no deviations.

Time: `:quick` 1 to 3 minutes on one core; in full not run yet.
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
