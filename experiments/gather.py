"""Makes one table of the workdirs of a sweep, beside the oracle and the exact answer.

    python -m experiments.gather --root=ROOT --out=DIR

ROOT is the --workdir of a launcher, or any folder of workdirs of `experiments.train` or of
`experiments.benchmark`. Nothing is trained: what has not finished is named and left out. Writes
results.csv, adaptation.png and report.html into DIR.
"""

import pathlib

from absl import flags

from experiments import commands, works
from metapers.bench import gathering, report, runner

ROOT = flags.DEFINE_string('root', None, 'Folder of workdirs.')
OUT = flags.DEFINE_string('out', None, 'Where the table goes.')
LEARNER = flags.DEFINE_multi_string('learner', [], 'Of runs of one from a file: FILE.py:factory.')
POPULATION = flags.DEFINE_string('population', '', 'The same of a population from a file.')


def main(argv: list[str]) -> None:
  """Runs the command."""
  commands.no_arguments(argv)
  root, out = pathlib.Path(commands.required(ROOT)), commands.required(OUT)
  found = [works.of(folder, LEARNER.value, POPULATION.value) for folder in works.folders_in(root)]
  lacking = {work.folder.name: gathering.missing_of(work) for work in found}
  lacking |= {name: 'has not begun' for name in works.launched(root) if name not in lacking}
  for name, why in lacking.items():
    if why:
      commands.say(f'{name} {why}: left out')
  finished = [work for work in found if not lacking[work.folder.name]]
  if not finished:
    raise ValueError(f'{root} holds no workdir that has finished')
  with commands.holding(out):
    result = gathering.gather(finished, out, log=commands.say)
    for setting in result.settings:
      commands.say('\n' + report.summary(result.frame, setting))
    commands.say('\n' + '\n'.join(result.verdict()))
    commands.say('\n' + '\n'.join(map(str, runner.write_result(result, out, name=root.name))))


if __name__ == '__main__':
  commands.run(main)
