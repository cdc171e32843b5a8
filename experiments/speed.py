"""Times the loss of a batch of users and its gradient, beside the same in other frameworks.

    python -m experiments.speed --workdir=runs/speed --peers=torch.func --rows=maml/10,cnp

All are given the same arrays and the same start; loss and norm of the gradient must agree before
anything is timed. Each works in a process of its own, in turn, so that what disturbs one round
disturbs all. Writes speed.csv, in which the rows of other cases stay, and speed.png. On a machine
that others use, give one core (`taskset -c 1`) and --clock=process: seconds of the processor.

What else is timed, in place of rows, where it is asked for: --training (a step of training beside
the bare one, and the first step), --adapting=1000000 (users in one call of the personaliser),
--scaling (users, comparisons and features) and --generating=FOLDER (responses of a language model
of Hugging Face, beside transformers; with the extra `llm`).

Time: half a minute a row, and more for frameworks in which users go one by one.
"""

import pathlib

from absl import flags

from experiments import commands
from metapers.bench import tables
from metapers.bench.speed import implementation, parts, report, rounds, worker, workload
from metapers.io import plots

WORKDIR = flags.DEFINE_string('workdir', None, 'Where speed.csv and the figures go.')
PEERS = flags.DEFINE_list('peers', ['torch.func'], 'What is timed beside ours.')
ROWS = flags.DEFINE_list('rows', [], 'row, row/features or row/features/hidden; all without.')
USERS = flags.DEFINE_integer('users', 256, 'In a batch.', lower_bound=1)
ROUNDS = flags.DEFINE_integer('rounds', 5, 'How often each takes its turn.', lower_bound=1)
CLOCK = flags.DEFINE_enum('clock', 'wall', list(worker.CLOCKS), 'Whose seconds.')
TRAINING = flags.DEFINE_bool('training', False, 'Time steps of training.')
ADAPTING = flags.DEFINE_integer('adapting', 0, 'Adapt so many users in one call.', lower_bound=0)
SCALING = flags.DEFINE_bool('scaling', False, 'Time batches of growing sizes.')
GENERATING = flags.DEFINE_string('generating', None, "Time responses of this folder's model.")


def time_rows(workdir: pathlib.Path) -> None:
  """Times the rows asked for, and prints and draws all that the workdir holds."""
  cases = [case._replace(users=USERS.value) for case in workload.chosen(ROWS.value)]
  for name in PEERS.value:
    if absent := implementation.missing(name):
      commands.say(
        f"{name} is left out: {', '.join(absent)} is not installed; pip install 'metapers[peers]'"
      )
  plan, path = rounds.Plan(ROUNDS.value, CLOCK.value), workdir / 'speed.csv'
  for case in cases:
    timed = rounds.time_case(case, rounds.available(PEERS.value, case), plan)
    found = report.append(path, timed)
    commands.say(tables.as_text(report.table(found[-len(timed) :])))
  made = report.figure(found, 'Loss and gradient of a batch of users')
  commands.say(f'\n{tables.as_text(report.table(found))}')
  commands.say(f'{path}\n{plots.save(made, workdir / "speed.png")}')


def main(argv: list[str]) -> None:
  """Runs the command."""
  commands.no_arguments(argv)
  workdir = pathlib.Path(commands.required(WORKDIR))
  with commands.holding(workdir):
    if TRAINING.value:
      commands.say(tables.as_text(parts.training(CLOCK.value)))
    if ADAPTING.value:
      commands.say(tables.as_text(parts.adapting(ADAPTING.value, CLOCK.value)))
    if SCALING.value:
      shown, made = parts.scaling(CLOCK.value)
      commands.say(tables.as_text(shown))
      commands.say(str(plots.save(made, workdir / 'scaling.png')))
    if GENERATING.value:
      commands.say(tables.as_text(parts.generating(GENERATING.value)))
    if not (TRAINING.value or ADAPTING.value or SCALING.value or GENERATING.value):
      time_rows(workdir)


if __name__ == '__main__':
  commands.run(main)
