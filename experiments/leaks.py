"""Looks for leaks in the users of a config, before anything is trained on them.

    python -m experiments.leaks --config=experiments/configs/lore.py:quick

One line for each check of each population that is trained or evaluated on: `ok`, `LEAK`, `note` for
a likeness that chance may explain, or `--` for what could not be looked for. Exit code 1 says that
something leaks. `--conversations` says that a context of the people's comparisons is a conversation
of one person, which must not be divided.
"""

import sys
from collections.abc import Mapping

from absl import flags

from experiments import build, commands, guide, overrides
from metapers.bench import plan
from metapers.evaluation import leaks
from metapers.evaluation.leaks import Leaks

CONFIG = overrides.DEFINE_config('config', 'The run or table.')
CONVERSATIONS = flags.DEFINE_bool('conversations', False, 'Contexts are conversations.')


def main(argv: list[str]) -> None:
  """Runs the command."""
  commands.no_arguments(argv)
  config, num_leaks = commands.required(CONFIG), 0
  for name, make in plan.populations_of(build.plan(config)).items():
    commands.say(f'{config.protocol}: {name}')
    population = make()
    found = leaks.find_leaks(population, contexts_are_conversations=CONVERSATIONS.value)
    num_leaks += report(found, leaks.not_run(population, found))
  if num_leaks:
    sys.exit(1)


def report(found: Leaks, not_run: Mapping[str, str]) -> int:
  """Prints a line for each check, and returns the number of leaks."""
  for kind, leaks_of_kind in found.items():
    if not leaks_of_kind:
      commands.say(f'  ok    {kind}: {leaks.CLAIMS[kind]}')
    for leak in leaks_of_kind:
      commands.say(f'  {"LEAK" if leak.is_certain else "note"}  {kind}: {leak.message}')
  for kind, why in not_run.items():
    commands.say(f'  --    {kind}: not looked for, {why}')
  return sum(leak.is_certain for leaks_of_kind in found.values() for leak in leaks_of_kind)


if __name__ == '__main__':
  commands.run(main, lambda: guide.of_runs('lore'))
