"""Makes a table: learners × conditions × seeds, beside the oracle, the exact answer and `pooled`.

    python -m experiments.benchmark --config=experiments/configs/scores_gap.py --workdir=DIR

Each learner is trained once per seed (and fold of people) and evaluated under every condition.
Finished cells are skipped on a restart. Writes results.csv, adaptation.png and report.html into the
workdir. In a notebook, `metapers.bench.compare` does the same.
"""

from absl import flags
from ml_collections.config_flags import config_flags

from experiments import build, commands, guide, overrides, parallel, trials
from metapers.bench import report, runner, tables

CONFIG = overrides.DEFINE_config('config', 'The table to make.')
WORKDIR = flags.DEFINE_string('workdir', None, 'Where runs, predictions and results go.')
flags.adopt_module_key_flags(parallel)


def main(argv: list[str]) -> None:
  """Runs the command."""
  commands.no_arguments(argv)
  parallel.begin()
  config, workdir = commands.required(CONFIG), commands.required(WORKDIR)
  if 'benchmark' not in config:
    raise ValueError('this config is of a single run; give it to experiments.train')
  trials.check_tuned(config)
  with commands.holding(workdir):
    plan = build.plan(config)._replace(placement=parallel.placement())
    result = runner.run(plan, workdir, log=commands.say)
    for setting in result.settings:
      commands.say('\n' + report.summary(result.frame, setting))
    for shown in (table for section in result.across for table in section.tables):
      commands.say('\n' + tables.as_text(shown) + '\n' + shown.note)
    commands.say('\n' + '\n'.join(result.verdict()))
    name = overrides.name_of(config_flags.get_config_filename(flags.FLAGS[CONFIG.name]))
    commands.say('\n' + '\n'.join(map(str, runner.write_result(result, workdir, name=name))))


if __name__ == '__main__':
  commands.run(main, lambda: guide.of_runs('scores_gap'))
