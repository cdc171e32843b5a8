"""The synthetic table of NP-BTL: two types of users, one feature, 0 to 10 comparisons.

Paper: Kobalczyk et al. 2024 (arXiv:2412.13998); populations/np_btl.py. Published, from one seeded
test split: 76.4 / 86.6 / 94.7 / 97.4 / 98.9 at 0 / 1 / 3 / 5 / 10 pairs. That split's exact
answer is 76.5 / 87.5 / 96.5 / 99.0 / 100.0; that of pairs drawn anew 75.0 / 87.5 / 96.9 / 99.2 /
100.0. Evaluated on both; trained on pairs drawn anew.
Unlike the paper, no pair that is evaluated was adapted to (there, some of them were).
Expected: `cnp` within 0.2 point of the exact answer at every number of pairs; 75.0 / 87.7 / 96.8 /
99.2 / 100.0 on those drawn anew.
Time: about 3 minutes on one core; `:quick` about 2.
Command: python -m experiments.benchmark --config=experiments/configs/np_btl.py --workdir=DIR
Arguments: quick; learner=NAME gives experiments.train that learner's run.
"""

from experiments.build import Config
from experiments.configs import base

# Tuned on validation users. No width of a Gaussian prior (bayes_head) makes it one of two types.
SMALL = {'hidden': 64, 'width': 16}
LEARNERS = {
  'cnp': {'kwargs': SMALL, 'training': {'num_steps': 2000}},
  'latent_np': {'kwargs': SMALL, 'training': {'num_steps': 2000}},
  'bayes_head': {},
  'maml': {},
  'pooled': {'training': {'num_steps': 500}},
}


def get_config(argument: str | None = None) -> Config:
  """Returns the config; `argument` is what follows the colon."""
  return base.of_protocol('np_btl', LEARNERS, argument)
