"""The cells of a table: what learners and references predict for a setting, made once and kept."""

import itertools
import os
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from metapers.analysis import costs, flips
from metapers.analysis.costs import Costs
from metapers.bench import plan as plans
from metapers.bench import runs
from metapers.bench.plan import Condition, Log, Plan
from metapers.bench.runs import Run
from metapers.bench.settings import Setting
from metapers.core import array_files, fields, files, memory_maps
from metapers.evaluation import adaptation, streams
from metapers.evaluation.predictions import Predictions
from metapers.io import checkpoints, processes, progress, workdirs

INDEX, USERS = 'cells.json', 'users.json'
PREDICTIONS = 'predictions'
BySeed = dict[str, dict[str, Predictions]]  # row -> seed -> its predictions; '' of a reference


def folder_of(setting: Setting, name: str, made_by: str) -> pathlib.PurePath:
  """Returns where in a workdir the predictions of one cell are kept.

  Args:
    setting: whose users are predicted.
    name: of who predicts, to be read.
    made_by: digest of all that makes who predicts.
  """
  digest = workdirs.digest({'made_by': made_by, 'users': setting.fingerprint})
  return pathlib.PurePath(PREDICTIONS, setting.name, f'{name}-{digest}')


def part_of(folder: pathlib.Path, shots: int) -> pathlib.Path:
  """Returns the file of a cell that holds what is predicted after a number of comparisons."""
  return folder / f'{shots}.npz'


def keep_predictions(
  workdir: str | os.PathLike | None,
  setting: Setting,
  name: str,
  made_by: str,
  make: Callable[[Setting], Predictions],
) -> Predictions:
  """Returns the predictions of a cell; those after numbers of shots that are not kept are made.

  Args:
    workdir: of the table; None keeps nothing.
    setting: whose users are predicted.
    name: of who predicts, to be read.
    made_by: digest of all that makes who predicts.
    make: predicts.
  """
  if workdir is None:
    return made_now(setting, name, make)
  place = folder_of(setting, name, made_by)
  if setting.stream is not None:
    return keep_file(workdir, place / 'turns.npz', lambda: made_now(setting, name, make))
  folder = pathlib.Path(workdir) / place
  missing = tuple(k for k in setting.shots if not part_of(folder, k).exists())
  if missing:
    made = made_now(setting._replace(shots=missing), name, make)
    for index, k in enumerate(missing):
      part = jax.tree.map(lambda x, index=index: x[index : index + 1], made)
      array_files.write_npz(part_of(folder, k), part._asdict())
  return read_parts(folder, setting.shots)


def keep_file(
  workdir: str | os.PathLike | None, place: pathlib.PurePath, make: Callable[[], Predictions]
) -> Predictions:
  """Returns the predictions that a file of a workdir holds, or makes and keeps them."""
  if workdir is None:
    return make()
  path = pathlib.Path(workdir) / place
  if not path.exists():
    array_files.write_npz(path, make()._asdict())
  return read_predictions(path)


def made_now(setting: Setting, name: str, make: Callable[[Setting], Predictions]) -> Predictions:
  """Returns the predictions of one cell, and says how long was compiled for them."""
  with progress.compiling(f'{name}, {setting.name}'):
    return jax.device_get(make(setting))


def read_parts(folder: pathlib.Path, shots: Sequence[int]) -> Predictions:
  """Returns the predictions of a cell after all numbers of shots, [L, ...]."""
  parts = [read_predictions(part_of(folder, k)) for k in shots]
  return jax.tree.map(lambda *x: jnp.concatenate(x), *parts)


def read_predictions(path: str | os.PathLike) -> Predictions:
  """Returns the predictions in a file of a cell.

  Raises:
    ValueError: for a file that is missing, damaged or of something else.
  """
  stored = array_files.read_npz(path)
  if set(stored) != set(Predictions._fields):
    raise ValueError(f'{path} holds no predictions; delete it, and it is made anew')
  return Predictions(*(jnp.asarray(stored[field]) for field in Predictions._fields))


def predict(
  setting: Setting, trained: Sequence[Run], *, chunk_size: int, is_flipped: bool = False
) -> Predictions:
  """Returns predictions for all users of a setting, each fold's by the run that never saw them.

  Args:
    setting: whose users are predicted.
    trained: one for each fold, or a single one.
    chunk_size: adaptations at once.
    is_flipped: give learners the opposite of what the users chose.
  """
  given = flips.flipped(setting.tasks) if is_flipped else setting.tasks
  num_turns = given.support.mask.shape[1]
  parts = []
  for run, start, size in zip(trained, starts(setting.sizes), setting.sizes, strict=True):
    mine = slice(start, start + size)
    tasks, truth = jax.tree.map(lambda x, mine=mine: x[mine], (given, setting.truth))
    parts.append(
      adaptation.evaluate(
        run.learner,
        run.params,
        tasks,
        truth,
        shots=range(num_turns) if setting.stream else setting.shots,
        window=setting.stream.window if setting.stream else 0,
        chunk_size=chunk_size,
        key=jax.random.key(1),
      )
    )
  made = jax.tree.map(lambda *x: jnp.concatenate(x, axis=1), *parts)
  return jax.device_get(streams.by_turn(made, given.support.mask) if setting.stream else made)


def starts(sizes: Sequence[int]) -> list[int]:
  """Returns where each part begins in the whole."""
  return [sum(sizes[:index]) for index in range(len(sizes))]


class Trained:
  """One learner and seed of a table; trains on first use, so that finished cells cost nothing.

  Args:
    plan: of the table.
    row: name of the learner in it.
    seed: of training.
    workdir: of the table; None keeps nothing.
    condition: under which it is trained anew; None for the learner of the whole table.
    log: is given a line for each training run.

  Raises:
    ValueError: for a workdir in which it was trained for longer.
  """

  def __init__(
    self,
    plan: Plan,
    row: str,
    seed: int,
    workdir: str | os.PathLike | None,
    *,
    condition: Condition | None = None,
    log: Log = print,
  ):
    self._plan, self._seed, self._log = plan, seed, log
    self._entry = plans.entries_of(plan, condition)[row]
    self._folder = None if workdir is None else pathlib.Path(workdir) / workdirs.RUNS
    own = '' if condition is None else f'-{condition.name}'
    self._row = f'{row}-{seed}{own}'
    self._runs: list[Run] | None = None
    self._identities = [self._identity(*each) for each in self._folds()]
    self._digests = [workdirs.digest_of_run(each) for each in self._identities]
    self.name = f'{row}-{seed}-{self._num_steps}'
    self.made_by = workdirs.digest({'runs': self._digests})
    self._check_length()

  def predict(self, setting: Setting) -> Predictions:
    """Returns predictions for the users of a setting."""
    size = self._plan.evaluation.chunk_size
    return predict(setting, self.fold_runs(), chunk_size=size)

  def predict_flipped(self, setting: Setting) -> Predictions:
    """Returns predictions after adapting to the opposite of what the users chose."""
    size = self._plan.evaluation.chunk_size
    return predict(setting, self.fold_runs(), chunk_size=size, is_flipped=True)

  def measure_costs(self, setting: Setting) -> Costs:
    """Returns what it costs to adapt to users of a setting."""
    run, size = self.fold_runs()[0], self._plan.evaluation.chunk_size
    return costs.measure(
      run.learner, run.params, setting.tasks, batch_size=size, key=jax.random.key(0)
    )

  def fold_runs(self) -> list[Run]:
    """Returns the run of each fold, trained if it is not yet."""
    if self._runs is None:
      self._runs = [self._train(number) for number in range(len(self._digests))]
    return self._runs

  @property
  def _num_steps(self) -> int:
    return self._entry.training.num_steps

  def _folds(self) -> list[tuple[int | None, plans.MakePopulation]]:
    return list(zip(self._plan.folds or (None,), self._entry.populations, strict=True))

  def _identity(self, fold: int | None, make_population: plans.MakePopulation) -> dict[str, Any]:
    identity = self._entry.identity(self._seed, fold)
    return {**identity, 'data': make_population().content_hash}

  def _run_name(self, number: int) -> str:
    fold = self._plan.folds[number] if self._plan.folds else None
    return self._row + ('' if fold is None else f'-fold{fold}')

  def _workdir(self, number: int) -> pathlib.Path | None:
    name = f'{self._run_name(number)}-{self._digests[number]}'
    return None if self._folder is None else self._folder / name

  def _check_length(self) -> None:
    for workdir in filter(None, map(self._workdir, range(len(self._digests)))):
      done = checkpoints.newest_step(workdir)
      if done > self._num_steps:
        raise ValueError(
          f'{workdir} was trained for {done} steps, and {self._num_steps} are asked for: a run can '
          'be extended, not shortened; give another workdir, or as many steps'
        )

  def _train(self, number: int) -> Run:
    name, workdir = self._run_name(number), self._workdir(number)
    is_done = workdir is not None and checkpoints.newest_step(workdir) == self._num_steps
    self._log(f'{name}: {self._num_steps} steps' + (' are done' if is_done else ''))
    memory_maps.drop_programs()  # of the runs before
    return runs.train(
      self._entry,
      self._entry.populations[number](),
      evaluation=self._plan.evaluation,
      seed=self._seed,
      name=name,
      workdir=workdir,
      identity=self._identities[number],
      placement=self._plan.placement,
    )


def keep_index(
  workdir: str | os.PathLike,
  made: Sequence[Setting],
  learned: Mapping[tuple[str, int], Sequence[Trained]],
) -> None:
  """Writes where the learners' cells of a table are, by condition, row and seed, and whose."""
  index: dict[str, dict[str, dict[str, str]]] = {setting.name: {} for setting in made}
  for (row, seed), trained in learned.items():
    for setting, one in zip(made, trained, strict=True):
      folder = folder_of(setting, one.name, one.made_by)
      index[setting.name].setdefault(row, {})[str(seed)] = folder.name
  files.write_json(pathlib.Path(workdir) / INDEX, index)
  users = {setting.name: setting.fingerprint for setting in made}
  files.write_json(pathlib.Path(workdir) / USERS, users)


def users_of(workdir: str | os.PathLike, setting: str) -> str:
  """Returns the fingerprint of the users of a condition; '' where none was kept.

  Raises:
    ValueError: for a file of something else.
  """
  path = pathlib.Path(workdir) / USERS
  found = files.read_json(path) if path.exists() else {}
  fields.check(path, {'users': found}, {'users': dict[str, str]})
  return found.get(setting, '')


def read_index(workdir: str | os.PathLike, setting: str) -> dict[str, dict[str, pathlib.Path]]:
  """Returns the folders of the learners' cells of a condition, by row and seed; {} of no table.

  Raises:
    ValueError: for an index of something else.
  """
  path = pathlib.Path(workdir) / INDEX
  index = files.read_json(path) if path.exists() else {}
  fields.check(path, {'cells': index}, {'cells': dict[str, dict[str, dict[str, str]]]})
  found: dict[str, dict[str, pathlib.Path]] = {}
  for row, seeds in index.get(setting, {}).items():
    for seed, name in seeds.items():
      place = f'{PREDICTIONS}/{setting}/{name}'
      files.require_relative(place, path)
      found.setdefault(row, {})[seed] = pathlib.Path(workdir) / place
  return found


def learned(
  plan: Plan, workdir: str | os.PathLike | None, log: Log
) -> dict[tuple[str, int], list[Trained]]:
  """Returns a learner for each condition, by row and seed: the same one, or one trained anew.

  Raises:
    ValueError: for a workdir in which one was trained for longer.
  """
  found: dict[tuple[str, int], list[Trained]] = {
    (row, seed): [] for row in plan.entries for seed in plan.seeds
  }
  shared: dict[tuple[str, int], Trained] = {}
  for condition in plan.conditions:  # outermost: their populations are large
    for row, seed in found:
      if condition.entries is not None:
        one = Trained(plan, row, seed, workdir, condition=condition, log=log)
      else:
        one = shared.get((row, seed)) or Trained(plan, row, seed, workdir, log=log)
        shared[row, seed] = one
      found[row, seed].append(one)
  return found


def train_together(learned: Mapping[tuple[str, int], Sequence[Trained]]) -> None:
  """Trains all learners in all of several processes, of which the first alone evaluates them.

  Raises:
    SystemExit: in the others.
  """
  if processes.are_several():
    for one in itertools.chain(*learned.values()):
      one.fold_runs()
    processes.leave_to_first()


def keep_costs(
  workdir: str | os.PathLike | None, trained: Trained, setting: Setting, *, chunk_size: int
) -> Costs:
  """Returns what a learner costs: as it was measured on these users, or measured now and kept."""
  if workdir is None:
    return trained.measure_costs(setting)
  made_by = {'made_by': trained.made_by, 'users': setting.fingerprint, 'chunk_size': chunk_size}
  path = pathlib.Path(workdir) / 'costs' / f'{trained.name}-{workdirs.digest(made_by)}.json'
  if not path.exists():
    files.write_json(path, trained.measure_costs(setting)._asdict())
  found = files.read_json(path)
  fields.check(path, {'costs': found}, {'costs': Costs})
  return Costs(**found)
