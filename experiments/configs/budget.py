"""A budget of labels: m users with n labels each, trained anew for every (m, n).

Source: ours, after the (m, n) grid of Barreto et al. 2025 (RFM).

Time: `:quick` 1 to 3 minutes on one core; in full not run yet.
Command: python -m experiments.benchmark --workdir=DIR
  --config=experiments/configs/budget.py
Arguments: quick; learner=NAME gives experiments.train that learner's run.
"""

from experiments.build import Config
from experiments.configs import base

LEARNERS = base.six(is_pool=True)


def get_config(argument: str | None = None) -> Config:
  """Returns the config; `argument` is what follows the colon."""
  return base.of_protocol('budget', LEARNERS, argument)
