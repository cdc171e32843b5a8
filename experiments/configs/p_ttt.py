"""P-TTT's protocol on PersonalLLM: 100 seen users and 20 new ones, 4 context pairs, not pooled.

Source: Wang et al. 2026 (P-TTT), table 1: 61.3 and 62.5 % there, MRM 58.2 and 57.4 %, with small
language models on pooled users; not comparable with scores as features.
Deviations: seen and new apart, concentration 0.05 (not stated there), no shared pool of pairs.

Time: 17 minutes on one core; `:quick` 1 to 3.
Command: python -m experiments.benchmark --workdir=DIR
  --config=experiments/configs/p_ttt.py
Arguments: quick; learner=NAME gives experiments.train that learner's run.
"""

from experiments.build import Config
from experiments.configs import base

LEARNERS = base.six(is_pool=True)


def get_config(argument: str | None = None) -> Config:
  """Returns the config; `argument` is what follows the colon."""
  return base.of_protocol('p_ttt', LEARNERS, argument)
