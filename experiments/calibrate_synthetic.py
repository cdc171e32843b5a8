"""Finds the constants of the synthetic store, and prints them for metapers/data/synthetic.py.

python -m experiments.calibrate_synthetic [--restart]  (two minutes a step on one core)
"""

import numpy as np
from absl import flags

from experiments import commands
from metapers.analysis import synthetic_calibration
from metapers.data import synthetic
from metapers.data.synthetic import Parameters

RESTART = flags.DEFINE_bool('restart', False, 'Starts anew, not from the committed constants.')

STEPS = 12  # of least squares, at most
SEED = 2  # of prompts and users
CENTRE_SEED = 1
FEATURE_R2 = (0.3, 0.5, 0.8)


def main(argv: list[str]) -> None:
  """Prints the constants."""
  commands.no_arguments(argv)
  centre = synthetic_calibration.random_start(CENTRE_SEED)
  first = centre if RESTART.value else synthetic.CALIBRATED
  fitted = synthetic_calibration.calibrate(
    first, centre, num_steps=STEPS, seed=SEED, log=lambda line: commands.say(f'# {line}')
  )
  fitted = Parameters(*(np.round(x, 3) for x in fitted))
  noise = {
    r2: round(synthetic_calibration.calibrate_noise(fitted, r2, SEED), 3) for r2 in FEATURE_R2
  }
  commands.say(synthetic_calibration.source_text(fitted, noise))


if __name__ == '__main__':
  commands.run(main)
