"""What is timed besides the rows, as tables: training, adapting many users, growth, responses."""

import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from typing import Any

from metapers.bench.speed import adapting as adaptation
from metapers.bench.speed import scaling as growth
from metapers.bench.speed import training_steps
from metapers.data import extras
from metapers.io.plots import Figure
from metapers.io.report import Table

WHOLE = ('maml', 'cnp', 'bayes_head')
FIRST = ('maml', 'cnp', 'transformer_np', 'bayes_head', 'lore', 'hedge')
BATCH_SIZE = 64


def training(clock: str, whole: Sequence[str] = WHOLE, first: Sequence[str] = FIRST) -> Table:
  """Returns what a whole step takes beside the bare one, and when the first one has ended.

  Args:
    clock: of `worker.CLOCKS`.
    whole: learners whose steps are timed.
    first: learners whose first step is timed, twice, each time in a new process.
  """
  rows: dict[str, list[str]] = {name: [''] * 5 for name in dict.fromkeys((*whole, *first))}
  for name in whole:
    found = training_steps.end_to_end(name, BATCH_SIZE, clock)
    share = found.whole / found.bare
    rows[name][:3] = [f'{1e3 * found.whole:.2f}', f'{1e3 * found.bare:.2f}', f'{share:.2f}']
  for name in first:
    with tempfile.TemporaryDirectory() as folder:
      times = [run('training_steps', name, folder, clock) for _ in range(2)]
    rows[name][3:] = [f'{seconds:.1f}' for seconds in times]
  header = ['learner', 'whole, ms', 'bare, ms', 'whole by bare', 'first step, s', 'second time, s']
  body = [[name, *cells] for name, cells in rows.items()]
  return Table(f'a training step of {BATCH_SIZE} users, 8 + 32 comparisons each', header, body)


def adapting(num_users: int, clock: str, models: Sequence[str] = adaptation.MODELS) -> Table:
  """Returns what adapting many users in one call takes: time, and memory beside its result."""
  body = []
  for model in models:
    found = run('adapting', model, str(num_users), clock)
    body.append(
      [
        model,
        f'{num_users:,}',
        f'{found["users_per_second"]:,.0f}',
        f'{found["compile_seconds"]:.1f}',
        *(f'{found[name]:,.0f}' for name in ('given_mib', 'kept_mib', 'beside_mib')),
      ]
    )
  header = [
    'model', 'users', 'users/s', 'compiling, s', 'given, MiB', 'profiles, MiB', 'beside, MiB',
  ]  # fmt: skip
  return Table('adapting many users of 8 comparisons in one call', header, body)


def scaling(clock: str, most_users: int = growth.USERS[-1]) -> tuple[Table, Figure]:
  """Returns how the time of a batch grows along each size, as a table and a figure."""
  body, found = [], {}
  for axis, cases in growth.cases(most_users).items():
    sizes = [growth.size_of(case, axis) for case in cases]
    times = [growth.seconds(case, clock) for case in cases]
    found[axis] = sizes, times
    power = f'{growth.power(sizes, times):.2f}'
    body += [
      [growth.AXES[axis], f'{size:,}', f'{1e3 * time:.1f}', power if size == sizes[-1] else '']
      for size, time in zip(sizes, times, strict=True)
    ]
  header = ['what grows', 'to', 'ms a batch', 'power, of the last step']
  return Table('linear MAML: loss and gradient of a batch', header, body), growth.figure(found)


def generating(folder: str) -> Table:
  """Returns what a language model's responses take, beside transformers on torch.

  Args:
    folder: of Hugging Face.

  Raises:
    ValueError: without torch, or where it writes other tokens.
  """
  extras.require('torch', ('torch',))
  from metapers.bench.speed import generating as responses  # not above: it wants torch

  body = [
    [
      str(one.num_prompts),
      one.name,
      f'{statistics.median(one.rounds):.2f}',
      f'{min(one.rounds):.2f} to {max(one.rounds):.2f}',
      f'{one.first:.1f}',
    ]
    for one in responses.times(folder)
  ]
  title = f'{responses.NUM_TOKENS} tokens after {responses.LENGTH}, in seconds'
  return Table(title, ['prompts', 'by', 'median', 'of rounds', 'first call'], body)


def run(module: str, *words: str) -> Any:
  """Returns what a module of this folder prints, in a process of its own.

  Raises:
    ValueError: if the process fails, with what it said last.
  """
  command = [sys.executable, '-m', f'metapers.bench.speed.{module}', *words]
  ran = subprocess.run(command, capture_output=True, text=True, check=False)
  if ran.returncode:
    said = ran.stderr.strip().splitlines() or ['it said nothing']
    raise ValueError(f'{" ".join((module, *words))} ended with {ran.returncode}: {said[-1]}')
  return json.loads(ran.stdout.splitlines()[-1])
