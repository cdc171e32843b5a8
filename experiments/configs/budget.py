"""A budget of labels: m users with n labels each, trained anew for every (m, n).

Source: ours, after the (m, n) grid of Barreto et al. 2025 (RFM).

Result (one seed, after 8 comparisons): from 50 users x 8 labels to 1,000 x 128 `low_rank` goes from
85.0 to 86.5 %, `bayes_head` from 80.3 to 87.4, `cnp` from 81.1 to 90.0; `bayes` has 92.0.
Time: some 40 minutes of a shared core without `maml`, with 2,000 steps of `cnp`; `:quick` 1 to 3.
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
