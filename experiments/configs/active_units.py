"""VPL's active units: how many latent dimensions tell users apart, by decoder width and β.

With a wide decoder and a strong pull to the prior a variational latent may carry nothing of the
user (posterior collapse). Rows are hidden widths x β, and swap-guided training (`spl`) beside. The
share of active units stands beside the costs in the report.
Source: Burda et al. 2016, arXiv:1509.00519; Kim and Kim 2026 (swap-guided preference learning).
Deviations: simulated users on scores; decoders, widths and β are ours.

Result (one seed): at the published β, 0 to 1e-4, .97 to 1.00 of the dimensions are active with any
width; at .1 it is .09 to .47, and 4 to 7 points of accuracy are lost after 16 comparisons.
Time: 16 rows took 65 minutes of half a core.
Command: python -m experiments.benchmark --config=experiments/configs/active_units.py --workdir=DIR
Arguments: quick; learner=NAME gives experiments.train that learner's run.
"""

import itertools

from experiments import build
from experiments.build import Config
from experiments.configs import base

WIDTHS = (32, 128, 512)  # of the decoder's hidden layers
WEIGHTS = {'free': 0.0, 'weak': 1e-4, 'medium': 1e-2, 'strong': 1e-1}  # β


def get_config(argument: str | None = None) -> Config:
  """Returns the config; `argument` is what follows the colon."""
  given = base.parse(argument)
  config = base.base(build.population_config('reward_ensemble', concentration=0.05), given)
  config.training.num_steps = 2000
  config.training.learning_rate = 1e-3
  config.evaluation.num_users = 1000
  config.evaluation.shots = (0, 4, 8, 16)
  return base.finish(base.table(config, rows()), given)


def rows():
  """Returns `vpl` of each width and weight, `spl` of each width, and who does not learn."""
  found = {
    f'vpl_{hidden}_{pull}': {'name': 'vpl', 'kwargs': {'hidden': hidden, 'kl_weight': weight}}
    for hidden, (pull, weight) in itertools.product(WIDTHS, WEIGHTS.items())
  }
  guided = {f'spl_{hidden}': {'name': 'spl', 'kwargs': {'hidden': hidden}} for hidden in WIDTHS}
  return found | guided | {'pooled': {'training': {'num_steps': 1000}}}
