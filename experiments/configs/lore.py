"""LoRe's protocol on PersonalLLM: 1,000 seen users with 47 best-worst pairs, 500 unseen with 9.

Raw scores, concentration 0.1; the learners see features. Their claim, from a secondary source:
93.8 % against 86.4 % of a single reward; their prompts and embeddings are not these.
Source: Bose et al. 2025 (arXiv:2504.14439) and its code.
Deviations: the store's features, 200 test prompts a user, seen users refitted, validation users.

Expected: accuracy of unseen users after 9 pairs 89.2 of low_rank and cnp, 79.4 of pooled, 92.7 of
  oracle_features; of `lore` 80.2 at rank 1, 88.6 at 2, 89.8 at 10.
Time: 30 minutes on one busy core, 20 more for three seeds of each rank; `:quick` 1 to 3.
Command: python -m experiments.benchmark --workdir=DIR
  --config=experiments/configs/lore.py
Arguments: quick; learner=NAME gives experiments.train that learner's run.
"""

from experiments.build import Config
from experiments.configs import base

RANKS = (1, 2, 3, 5, 10, 20)  # with one basis reward it is the Bradley-Terry model of everyone
PUBLISHED = {'name': 'lore', 'training': {'num_steps': 1000, 'learning_rate': 0.5}}
LEARNERS = base.six(is_pool=True) | {
  f'lore_rank{rank}': PUBLISHED | {'kwargs': {'rank': rank}} for rank in RANKS
}


def get_config(argument: str | None = None) -> Config:
  """Returns the config; `argument` is what follows the colon."""
  return base.of_protocol('lore', LEARNERS, argument)
