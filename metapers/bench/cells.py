"""The cells of a table: what learners and references predict for a setting, made once and kept."""

import os
import pathlib
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

from metapers.analysis import costs, flips
from metapers.analysis.costs import Costs
from metapers.bench import plan as plans
from metapers.bench import runs
from metapers.bench.plan import Condition, Log, Plan
from metapers.bench.runs import Run
from metapers.bench.settings import Setting
from metapers.core import fields, files
from metapers.evaluation import adaptation, streams
from metapers.evaluation.predictions import Predictions
from metapers.io import progress

BySeed = dict[str, dict[str, Predictions]]  # row -> seed -> its predictions; '' of a reference


def predictions_file(workdir: str | os.PathLike, setting: str, name: str) -> pathlib.Path:
  """Returns where the predictions of one cell are kept."""
  return pathlib.Path(workdir) / 'predictions' / setting / f'{name}.npz'


def name_of(row: str, seed: int, num_steps: int) -> str:
  """Returns the name of the cells of a learner that was trained for so many steps."""
  return f'{row}-{seed}-{num_steps}'


def keep_predictions(
  workdir: str | os.PathLike | None,
  setting: Setting,
  name: str,
  make: Callable[[Setting], Predictions],
) -> Predictions:
  """Returns the predictions of a finished cell, or makes and keeps them.

  Args:
    workdir: of the table; None keeps nothing.
    setting: whose users are predicted.
    name: of who predicts, with all that makes another cell of it.
    make: predicts.
  """
  if workdir is None:
    return made_now(setting, name, make)
  path = predictions_file(workdir, setting.name, name)
  if not path.exists():
    files.write_npz(path, made_now(setting, name, make)._asdict())
  return read_predictions(path)


def made_now(setting: Setting, name: str, make: Callable[[Setting], Predictions]) -> Predictions:
  """Returns the predictions of one cell, and says how long was compiled for them."""
  with progress.compiling(f'{name}, {setting.name}'):
    return jax.device_get(make(setting))


def read_predictions(path: str | os.PathLike) -> Predictions:
  """Returns the predictions of one cell.

  Raises:
    ValueError: for a file that is missing, damaged or of something else.
  """
  stored = files.read_npz(path)
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
    self._folder = None if workdir is None else pathlib.Path(workdir) / 'runs'
    own = '' if condition is None else f'-{condition.name}'
    self._row = f'{row}-{seed}{own}'
    self._runs: list[Run] | None = None
    self.name = name_of(row, seed, self._entry.training.num_steps)

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
      folds = self._plan.folds or (None,)
      self._runs = [self._train(*each) for each in zip(folds, self._entry.populations, strict=True)]
    return self._runs

  def _train(self, fold: int | None, make_population: plans.MakePopulation) -> Run:
    name = self._row + ('' if fold is None else f'-fold{fold}')
    self._log(f'{name}: {self._entry.training.num_steps} steps')
    population = make_population()
    identity = self._entry.identity(self._seed, fold)
    return runs.train(
      self._entry,
      population,
      evaluation=self._plan.evaluation,
      seed=self._seed,
      name=name,
      workdir=None if self._folder is None else self._folder / name,
      identity={**identity, 'data': population.content_hash},
    )


def trained_by_condition(
  plan: Plan, row: str, seed: int, workdir: str | os.PathLike | None, log: Log
) -> list[Trained]:
  """Returns a learner for each condition: the same one, or one trained anew in each."""
  shared = Trained(plan, row, seed, workdir, log=log)
  return [
    shared
    if condition.entries is None
    else Trained(plan, row, seed, workdir, condition=condition, log=log)
    for condition in plan.conditions
  ]


def keep_costs(workdir: str | os.PathLike | None, trained: Trained, setting: Setting) -> Costs:
  """Returns what a learner costs: as it was measured, or measured now and kept."""
  if workdir is None:
    return trained.measure_costs(setting)
  path = pathlib.Path(workdir) / 'costs' / f'{trained.name}.json'
  if not path.exists():
    files.write_json(path, trained.measure_costs(setting)._asdict())
  found = files.read_json(path)
  fields.check(path, {'costs': found}, {'costs': Costs})
  return Costs(**found)
