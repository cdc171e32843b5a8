"""Known users who lie: how many of them cost new, honest users one point, by learner.

Liars answer the opposite of what they prefer, or all vote for one reward model.
Source: ours.

Result (one seed, after 16 comparisons): `cnp` loses a point to 12.5 % of users who answer the
opposite, `bayes_head` to 36 %, `lookup` and `gaussian_prior` to more than 40 %.
Time: an hour of half a core without `maml`, with 2,000 steps of `cnp`; `:quick` 1 to 3 of CPU.
Command: python -m experiments.benchmark --workdir=DIR
  --config=experiments/configs/poisoning.py
Arguments: quick; learner=NAME gives experiments.train that learner's run.
"""

from experiments.build import Config
from experiments.configs import base

LEARNERS = base.six(is_pool=True) | {
  'gaussian_prior': {'training': {'num_steps': 0}},
  'lookup': {'training': {'num_steps': 1000}},
}


def get_config(argument: str | None = None) -> Config:
  """Returns the config; `argument` is what follows the colon."""
  return base.of_protocol('poisoning', LEARNERS, argument)
