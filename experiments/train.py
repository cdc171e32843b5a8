"""Trains one learner, resumes it where it stood, and evaluates it at the end.

    python -m experiments.train --config=experiments/configs/maml.py:quick --workdir=DIR

Any field is overridden by a flag: --config.training.num_steps=5000, and the learner is chosen by
--config=experiments/configs/maml.py:learner=cnp. Killed at any moment, the same command goes on.
"""

import pathlib

from absl import flags
from ml_collections import config_flags

from experiments import commands, publish, runs, settings

CONFIG = config_flags.DEFINE_config_file('config', None, 'The run.', lock_config=True)
WORKDIR = flags.DEFINE_string('workdir', None, 'Where checkpoints, metrics and results go.')


def main(argv: list[str]) -> None:
  """Runs the command."""
  commands.no_arguments(argv)
  config = commands.required(CONFIG)
  workdir = pathlib.Path(commands.required(WORKDIR))
  if 'benchmark' in config:
    names = ', '.join(config.benchmark.learners)
    raise ValueError(f'this config is a table; add :learner=NAME to it, one of {names}')
  setting = settings.make(config, {})  # what cannot be judged is not trained
  run = runs.train(config, workdir)
  if run.was_done:
    commands.say(f'{workdir} was trained already, maybe by other code; its parameters are judged')
  commands.say(f'best of {config.training.num_steps} steps on validation users: {run.best_step}')
  publish.run(config, run, setting, workdir)


if __name__ == '__main__':
  commands.run(main)
