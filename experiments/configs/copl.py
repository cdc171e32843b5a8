"""CoPL's protocol on PersonalLLM: 4 reward models, responses 5 to 7, pairs the four disagree on.

10,000 users with 16 labels; new ones with up to 15; 100 test pairs each; seen users apart.
Source: Choi et al. 2025 (EMNLP) and its code.
Deviations: learners see the four scores, pairs are drawn among those disagreed on, a user's labels
are divided in halves while training.

Time: `:quick` 1 to 3 minutes on one core; in full not run yet.
Command: python -m experiments.benchmark --workdir=DIR
  --config=experiments/configs/copl.py
Arguments: quick; learner=NAME gives experiments.train that learner's run.
"""

from experiments.build import Config
from experiments.configs import base

LEARNERS = base.six(is_pool=True)


def get_config(argument: str | None = None) -> Config:
  """Returns the config; `argument` is what follows the colon."""
  return base.of_protocol('copl', LEARNERS, argument)
