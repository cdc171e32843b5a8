"""Times the loss of a batch of users and its gradient, beside the same in other frameworks.

    python -m experiments.speed --workdir=runs/speed --peers=torch.func --rows=maml/10,cnp

All are given the same arrays and the same start; loss and norm of the gradient must agree before
anything is timed. Each works in a process of its own, in turn, so that what disturbs one round
disturbs all. Writes speed.csv and speed.png. On a machine that others use give one core
(`taskset -c 1`) and --clock=process: seconds of the processor, of which it had one.

Time: half a minute a row and a minute more for each framework in which users go one by one.
"""

import pathlib

from absl import flags

from experiments import commands
from metapers.bench import tables
from metapers.bench.speed import implementation, report, rounds, worker, workload
from metapers.io import plots

WORKDIR = flags.DEFINE_string('workdir', None, 'Where speed.csv and the figures go.')
PEERS = flags.DEFINE_list('peers', ['torch.func'], 'What is timed beside ours.')
ROWS = flags.DEFINE_list('rows', [], 'row, row/features or row/features/hidden; all without.')
USERS = flags.DEFINE_integer('users', 256, 'In a batch.', lower_bound=1)
ROUNDS = flags.DEFINE_integer('rounds', 5, 'How often each takes its turn.', lower_bound=1)
CLOCK = flags.DEFINE_enum('clock', 'wall', list(worker.CLOCKS), 'Whose seconds.')


def main(argv: list[str]) -> None:
  """Runs the command."""
  commands.no_arguments(argv)
  workdir = pathlib.Path(commands.required(WORKDIR))
  cases = [case._replace(users=USERS.value) for case in workload.chosen(ROWS.value)]
  for name in PEERS.value:
    if absent := implementation.missing(name):
      commands.say(
        f"{name} is left out: {', '.join(absent)} is not installed; pip install 'metapers[peers]'"
      )
  plan = rounds.Plan(ROUNDS.value, CLOCK.value)
  with commands.holding(workdir):
    for case in cases:
      timed = rounds.time_case(case, rounds.available(PEERS.value, case), plan)
      found = report.append(workdir / 'speed.csv', timed)
      commands.say(tables.as_text(report.table(found[-len(timed) :])))
    title = f'Loss and gradient of {USERS.value} users, users a second'
    path = plots.save(report.figure(found, title), workdir / 'speed.png')
  commands.say(f'\n{tables.as_text(report.table(found))}')
  commands.say(f'{workdir / "speed.csv"}\n{path}')


if __name__ == '__main__':
  commands.run(main)
