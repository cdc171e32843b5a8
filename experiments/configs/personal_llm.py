"""PersonalLLM as its authors evaluate: 1,000 known users with 50 choices, new ones with 0 to 5.

Pairs are a user's best of eight responses against their worst, noiseless; `win_rate` of the pick is
against GPT-4o's response.
Source: Zollo et al. 2024 (arXiv:2409.20296), section 4, and its code.
Deviations: episodes have distinct prompts, supports are of train prompts (there also of test
prompts), users are disjoint, and a pick is one of the eight responses and not a generation.

Expected: win rate of unseen users after 5 choices 84.7 of bayes, 78.2 of cnp, 67.5 of pooled.
Time: 15 minutes on one core; `:quick` 1 to 3.
Command: python -m experiments.benchmark --workdir=DIR
  --config=experiments/configs/personal_llm.py
Arguments: quick; learner=NAME gives experiments.train that learner's run.
"""

from experiments.build import Config
from experiments.configs import base

LEARNERS = base.six(is_pool=True)


def get_config(argument: str | None = None) -> Config:
  """Returns the config; `argument` is what follows the colon."""
  return base.of_protocol('personal_llm', LEARNERS, argument)
