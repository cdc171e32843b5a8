"""One table of many workdirs: learners and seeds that were run apart, evaluated together."""

import json
import os
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from metapers.bench import cells, fingerprints, runner, runs, settings
from metapers.bench.cells import BySeed
from metapers.bench.plan import Log, Plan
from metapers.bench.runner import Result
from metapers.bench.settings import Setting
from metapers.evaluation.predictions import Predictions
from metapers.io import checkpoints, workdirs

# What rows of one table may differ in. Users to evaluate are compared by their hash.
OF_ROWS = (
  'learner', 'learners', 'training', 'seed', 'learner_source', 'learner_sources', 'data',
  'trained_on', 'benchmark.learners', 'benchmark.seeds', 'population.kwargs.num_users',
)  # fmt: skip
MADE_BY = ('learner', 'training', 'population')  # parts of a config that a run is made by
Row = tuple[str, int]  # of a work, and its seed
Cells = tuple[Predictions, ...]  # of a row under one condition; with flipped labels behind


class Work(NamedTuple):
  """A workdir of a table, or of one run.

  folder: where it is. plan: of the table, or of the run as a table. is_table: which it is.
  """

  folder: pathlib.Path
  plan: Plan
  is_table: bool


def parts_that_differ(first: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
  """Returns in words by which fields two configs are of different tables; [] of one table."""
  differences = []
  before, after = flat(first), flat(other)
  for name in sorted({*before, *after}):
    is_of_row = any(f'{name}.'.startswith(f'{part}.') for part in OF_ROWS)
    was, now = before.get(name, 'absent'), after.get(name, 'absent')
    if was != now and not is_of_row:
      differences.append(f'{name}: {was} and {now}')
  return differences


def flat(config: Mapping[str, Any]) -> dict[str, Any]:
  """Returns the fields of a config as JSON has them, without the places of data."""
  fields = workdirs.flat(json.loads(json.dumps(config)))
  return {name: value for name, value in fields.items() if name not in workdirs.PATHS}


def require_one_table(works: Sequence[Work]) -> None:
  """Refuses workdirs of different users, protocols or kinds.

  Raises:
    ValueError: naming two workdirs and what they differ in.
  """
  first = works[0]
  for work in works[1:]:
    differences = parts_that_differ(first.plan.identity, work.plan.identity)
    if work.is_table != first.is_table:
      differences = ['a table and a single run']
    if differences:
      raise ValueError(
        f'{first.folder} and {work.folder} are not of one table ({"; ".join(differences)}): '
        'gather them apart, or make them conditions of one table'
      )


def names_of(works: Sequence[Work]) -> list[dict[str, str]]:
  """Returns what the rows of each work are called in one table, row -> name.

  A learner that was run with different options has a row for each, named by those that differ.
  """
  options = [{row: made_by(work, row) for row in work.plan.entries} for work in works]
  kinds: dict[str, list[Mapping[str, Any]]] = {}
  for own in options:
    for row, given in own.items():
      kinds.setdefault(row, []).append(given)

  def name(row: str, given: Mapping[str, Any]) -> str:
    known = sorted({option for other in kinds[row] for option in other})
    telling = [
      f'{option.rpartition(".")[2]}={given.get(option)}'
      for option in known
      if any(other.get(option) != given.get(option) for other in kinds[row])
    ]
    return ' '.join([row, *telling])

  return [{row: name(row, given) for row, given in own.items()} for own in options]


def made_by(work: Work, row: str) -> dict[str, Any]:
  """Returns the options that a row of a work is made by, whatever its seed and its data's place."""
  identity = work.plan.entries[row].identity(work.plan.seeds[0], None)
  return flat({part: identity[part] for part in MADE_BY if part in identity})


def missing_of(work: Work) -> str:
  """Returns in words what a work lacks to be whole; '' for one that has finished."""
  if not (work.folder / 'results.csv').exists():
    return 'has not finished'
  if work.is_table:
    return '' if (work.folder / cells.INDEX).exists() else 'has no cells'
  wanted = next(iter(work.plan.entries.values())).training.num_steps
  done = checkpoints.newest_step(work.folder)
  return '' if done >= wanted else f'has {max(done, 0)} of {wanted} steps'


def gather(works: Sequence[Work], out: str | os.PathLike, *, log: Log = print) -> Result:
  """Returns the table of finished works, of which nothing is trained.

  Args:
    works: of one table; each run once: what several of them hold is taken from the first.
    out: keeps what runs predict, and what references do.
    log: is given lines of progress.

  Raises:
    ValueError: for works of different tables or users, or cells that are not there.
  """
  require_one_table(works)
  first, names = works[0], names_of(works)
  made = runner.prepare(first.plan)
  require_same_users(works, made)
  learned, flipped = learned_cells(works, names, made, out)  # first: what lacks a cell is refused
  kept = first.folder if first.is_table else pathlib.Path(out)
  known = runner.leaks_of(first.plan, kept, log)
  known_cells = runner.reference_cells(first.plan, made, kept, log)
  predicted = [{**own, **in_order(learners)} for own, learners in zip(known_cells, learned)]
  told = [
    setting._replace(trained=trained(works, names, number)) for number, setting in enumerate(made)
  ]
  result = runner.lay_out(joined(works, names), told, predicted, list(map(in_order, flipped)), {})
  warnings = [f'{name}: {line}' for name, each in known.items() for line in each.lines]
  return result._replace(warnings=tuple(warnings))


def learned_cells(
  works: Sequence[Work],
  names: Sequence[Mapping[str, str]],
  made: Sequence[Setting],
  out: str | os.PathLike,
) -> tuple[list[BySeed], list[BySeed]]:
  """Returns what learners predict under each condition, and with flipped labels.

  Args:
    works: that have finished.
    names: what their rows are called.
    made: the conditions, with their users.
    out: keeps what runs predict.
  """
  plain: list[BySeed] = [{} for _ in made]
  flipped: list[BySeed] = [{} for _ in made]
  for work, own in zip(works, names, strict=True):
    read = stored_cells if work.is_table else made_cells
    for (row, seed), cells_of_row in read(work, made, out):
      for number, pair in enumerate(cells_of_row):
        for found, cell in zip((plain, flipped), pair, strict=False):
          found[number].setdefault(own[row], {}).setdefault(str(seed), cell)
  return plain, flipped


def in_order(made: BySeed) -> BySeed:
  """Returns the seeds of every row in the order of their numbers, in which they are averaged."""
  return {row: {seed: own[seed] for seed in sorted(own, key=int)} for row, own in made.items()}


def joined(works: Sequence[Work], names: Sequence[Mapping[str, str]]) -> Plan:
  """Returns the plan of the whole table."""
  rows = {
    own[row]: entry
    for work, own in zip(works, names, strict=True)
    for row, entry in work.plan.entries.items()
  }
  seeds = sorted({seed for work in works for seed in work.plan.seeds})
  shared = {name: value for name, value in works[0].plan.identity.items() if name not in OF_ROWS}
  identity = {**shared, 'gathered': [work.folder.name for work in works]}
  return works[0].plan._replace(entries=rows, seeds=tuple(seeds), identity=identity)


def trained(
  works: Sequence[Work], names: Sequence[Mapping[str, str]], number: int
) -> dict[str, dict[str, str]]:
  """Returns how each row is trained, for the labels of one condition."""
  return {
    own[row]: labels
    for work, own in zip(works, names, strict=True)
    for row, labels in settings.trained(work.plan, work.plan.conditions[number]).items()
  }


def require_same_users(works: Sequence[Work], made: Sequence[Setting]) -> None:
  """Refuses works that are evaluated on others than the users of the settings.

  Raises:
    ValueError: naming the workdirs.
  """
  first = works[0]
  for work in works[1:]:
    for setting, own, other in zip(made, first.plan.conditions, work.plan.conditions, strict=True):
      if own.populations == other.populations:
        continue
      if settings.make_setting(work.plan, other).fingerprint != setting.fingerprint:
        raise ValueError(
          f'{first.folder} and {work.folder} are evaluated on different users, so that their '
          'learners cannot be compared: gather them apart'
        )


def made_cells(
  work: Work, made: Sequence[Setting], out: str | os.PathLike
) -> Iterator[tuple[Row, list[Cells]]]:
  """Yields what a trained run predicts, kept in `out`."""
  ((row, entry),), (seed,), (setting,) = work.plan.entries.items(), work.plan.seeds, made
  population = work.plan.populations[0]()
  identity = {**work.plan.identity, 'data': population.content_hash}
  run = runs.restored(entry, population, work.folder, seed=seed, identity=identity)
  made_by = workdirs.digest({'runs': [workdirs.digest_of_run(identity)]})

  def kept(is_flipped: bool) -> Predictions:
    def make(users: Setting) -> Predictions:
      size = work.plan.evaluation.chunk_size
      return cells.predict(users, [run], chunk_size=size, is_flipped=is_flipped)

    name = f'{row}-{seed}-{entry.training.num_steps}' + ('-flipped' if is_flipped else '')
    return cells.keep_predictions(out, setting, name, made_by, make)

  yield (row, seed), [tuple(map(kept, kinds_of(work)))]


def stored_cells(
  work: Work, made: Sequence[Setting], out: str | os.PathLike
) -> Iterator[tuple[Row, list[Cells]]]:
  """Yields what the learners of a table predicted.

  Raises:
    ValueError: for a cell that is not there.
  """
  del out
  plan = fingerprints.identified(work.plan)
  for row, trained_anew in cells.learned(plan, work.folder, lambda line: None).items():
    found = []
    for one, setting in zip(trained_anew, made, strict=True):
      names = [one.name + ('-flipped' if is_flipped else '') for is_flipped in kinds_of(work)]
      found.append(tuple(read_cell(work.folder, setting, name, one.made_by) for name in names))
    yield row, found


def kinds_of(work: Work) -> tuple[bool, ...]:
  """Returns whether labels are flipped, of each kind of cell that a work has."""
  return (False, True) if work.plan.evaluation.flips else (False,)


def read_cell(folder: pathlib.Path, setting: Setting, name: str, made_by: str) -> Predictions:
  """Returns the predictions of a cell that was made.

  Raises:
    ValueError: where it was not.
  """
  place = folder / cells.folder_of(setting, name, made_by)
  if setting.stream is not None:
    return cells.read_predictions(place / 'turns.npz')
  missing = [count for count in setting.shots if not cells.part_of(place, count).exists()]
  if missing:
    raise ValueError(
      f'{place} has no predictions after {", ".join(map(str, missing))} shots: run the table of '
      f'{folder} to its end'
    )
  return cells.read_parts(place, setting.shots)
