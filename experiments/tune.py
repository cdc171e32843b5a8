"""Tunes every learner of a table by equally many trials, on validation users alone.

    python -m experiments.tune --config=experiments/configs/features_k5.py --workdir=DIR

What was best is in DIR/tuned.json. `--config=...:tuned=DIR/tuned.json` makes the table with it, and
with the same workdir and seed trains none of the chosen anew. The trials are those of the config's
`trials`: a row's own, or those of all others. Killed at any moment, the same command goes on.
"""

import pathlib

from absl import flags

from experiments import build, commands, guide, overrides, parallel, trials
from metapers.bench import tables, tuning
from metapers.core import files
from metapers.io import processes

CONFIG = overrides.DEFINE_config('config', 'The table whose learners are tuned.')
WORKDIR = flags.DEFINE_string('workdir', None, 'Where runs and the chosen options go.')
flags.adopt_module_key_flags(parallel)


def main(argv: list[str]) -> None:
  """Runs the command."""
  commands.no_arguments(argv)
  parallel.begin()
  config = commands.required(CONFIG)
  workdir = pathlib.Path(commands.required(WORKDIR))
  tried = trials.of_config(config)
  with commands.holding(workdir):
    plans = [build.plan(trials.changed(config, each)) for each in trials.by_number(tried)]
    made = [plan._replace(placement=parallel.placement()) for plan in plans]
    found = tuning.run(made, tried, workdir, log=commands.say)
    processes.leave_to_first()
    commands.say('\n' + tables.as_text(tuning.table_of(found)))
    best = {'tuned_on': trials.made_on(config), 'rows': tuning.best(found)}
    chosen = files.write_json(workdir / 'tuned.json', best)
    commands.say(f'\n{chosen}')
    trials_csv = tuning.frame_of(found).to_csv(index=False, float_format='%.6g')
    commands.say(f'{files.write_atomically(workdir / "trials.csv", trials_csv)}')


if __name__ == '__main__':
  commands.run(main, lambda: guide.of_runs('features_k5'))
