"""Trains one learner, resumes it where it stood, and evaluates it at the end.

    python -m experiments.train --config=experiments/configs/maml.py:quick --workdir=DIR

Any field is overridden by a flag: --config.training.num_steps=5000, and the learner is chosen by
--config=experiments/configs/maml.py:learner=cnp, or learner=path/to/file.py:factory for one of your
own. Killed at any moment, the same command goes on.
"""

import pathlib

from absl import flags

from experiments import build, commands, guide, overrides, parallel
from metapers.bench import report, results, runner, runs
from metapers.io import processes, workdirs

CONFIG = overrides.DEFINE_config('config', 'The run.')
WORKDIR = flags.DEFINE_string('workdir', None, 'Where checkpoints, metrics and results go.')
flags.adopt_module_key_flags(parallel)


def main(argv: list[str]) -> None:
  """Runs the command."""
  commands.no_arguments(argv)
  parallel.begin()
  config = commands.required(CONFIG)
  workdir = pathlib.Path(commands.required(WORKDIR))
  if 'benchmark' in config:
    names = ', '.join(config.benchmark.learners)
    raise ValueError(f'this config is a table; add :learner=NAME to it, one of {names}')
  with commands.holding(workdir):
    plan = build.plan(config)._replace(placement=parallel.placement())
    (setting,) = runner.prepare(plan)  # fails before anything is trained
    ((name, entry),) = plan.entries.items()
    population = plan.populations[0]()
    identity = {**plan.identity, 'data': population.content_hash}
    workdirs.check_claim(workdir, identity)
    known = runner.leaks_of(plan, workdir, commands.say)
    workdirs.claim(workdir, identity)
    runner.keep_leaks(workdir, known)
    run = runs.train(
      entry,
      population,
      evaluation=plan.evaluation,
      seed=config.seed,
      name=name,
      workdir=workdir,
      identity=identity,
      placement=plan.placement,
    )
    processes.leave_to_first()
    if run.was_done:
      commands.say(f'{workdir} was trained already, maybe by other code; its parameters are used')
    num_steps = entry.training.num_steps
    if num_steps:
      commands.say(f'best of {num_steps} steps on validation users: {run.best_step}')
    frame = runner.evaluate_run(plan, setting, run, log=commands.say)
    commands.say(report.summary(frame, setting))
    commands.say(f'\n{results.append_results(workdir / "results.csv", frame)}')


if __name__ == '__main__':
  commands.run(main, lambda: guide.of_runs('maml'))
