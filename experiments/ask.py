"""Active querying: which rule picks the questions that a learner gains most by, and how much.

    python -m experiments.ask --config=experiments/configs/asking.py --workdir=DIR

Every learner, and `bayes`, asks unseen users by every rule of `evaluation.acquisition`. Which rule
is best is read off validation users; what it saves is measured on test users. Finished parts are
skipped on a restart. Writes results.csv, asking.png and report.html into the workdir.
"""

from absl import flags

from experiments import build, commands, guide, overrides, parallel
from experiments.build import Config
from metapers.bench import asking, asking_report
from metapers.bench.asking import Questioning

CONFIG = overrides.DEFINE_config('config', 'What to ask whom.')
# Of the episodes whose support is the pool that is asked from.
SIZES = {'pool_size': 'num_support', 'num_queries': 'num_query'}
WORKDIR = flags.DEFINE_string('workdir', None, 'Where runs, predictions and results go.')
flags.adopt_module_key_flags(parallel)


def main(argv: list[str]) -> None:
  """Runs the command."""
  commands.no_arguments(argv)
  parallel.begin()
  config, workdir = commands.required(CONFIG), commands.required(WORKDIR)
  if 'asking' not in config or 'benchmark' not in config:
    raise ValueError('this config asks nobody; give one such as experiments/configs/asking.py')
  with commands.holding(workdir):
    plan = build.plan(config)._replace(placement=parallel.placement())
    result = asking.run(plan, questioning(config), workdir, log=commands.say)
    commands.say('\n' + asking_report.summary(result))
    commands.say('\n' + '\n'.join(map(str, asking_report.write_result(result, workdir))))


def questioning(config: Config) -> Questioning:
  """Returns `config.asking` as an object, with the users of its pools."""
  part = config.asking.to_dict()
  sizes = {option: part.pop(name) for name, option in SIZES.items() if name in part}
  (population,) = build.condition(config, sizes).populations
  unknown = sorted(set(part) - set(Questioning._field_defaults))
  if unknown:
    known = ', '.join([*SIZES, *Questioning._field_defaults])
    raise ValueError(f'asking takes no {", ".join(unknown)}; it takes {known}')
  return Questioning(population, **part)


if __name__ == '__main__':
  commands.run(main, lambda: guide.of_runs('asking'))
