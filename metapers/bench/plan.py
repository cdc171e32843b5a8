"""What a table compares: learners × conditions × seeds, as objects that know no config."""

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from metapers.core import programs
from metapers.core.meta_learner import MetaLearner
from metapers.core.population import Population, Spec
from metapers.core.types import Float
from metapers.training.devices import Placement
from metapers.training.meta_training import Training

# Arguments of a learner's factory that are sizes of the population, by their names in `Spec`.
FROM_SPEC = (
  'num_features', 'num_users', 'num_candidates', 'num_context', 'num_histories', 'history_length',
  'features', 'context', 'outcomes',
)  # fmt: skip
MakePopulation = Callable[[], Population]  # called when it is needed; may be cached by whom made it
Log = Callable[[str], None]
NOTHING: Mapping[str, Any] = {}
RIVAL = 'openai/gpt-4o'
COUNTS = ('num_users', 'num_validation_users', 'chunk_size', 'num_resamples', 'num_particles')


class Evaluation(NamedTuple):
  """How learners are evaluated.

  shots: numbers of comparisons given of a user. num_users: test users of each condition, and fold.
  num_validation_users: those that parameters are chosen on. chunk_size: adaptations at once.
  validation_shots: numbers of comparisons given of these, those beyond a history left out; None for
    0 and the powers of two. They make a run; `shots` do not.
  num_resamples: of the bootstrap. num_particles: of the exact posterior.
  rival: response model whose response picks are compared with; '' for none, None for RIVAL where it
    wrote a response.
  mixture: what user models of `bayes_mixture` change of the true one; () for no such row.
  seen_prior: add `bayes_seen`, which believes that new users are like those of training.
  without: references that are not computed, of `references.NAMES`.
  flips: measure how many predictions change when all labels of the support are flipped.
  leaks: 'error' ends a table whose population leaks, 'warn' says so on top of its report.
  cut_shots: leave out numbers of shots that no history holds, in place of refusing them.
  """

  shots: tuple[int, ...] = (0, 1, 2, 4, 8, 16)
  num_users: int = 1000
  num_validation_users: int = 200
  chunk_size: int = 64
  num_resamples: int = 1000
  num_particles: int = 1024
  rival: str | None = None
  mixture: tuple[Mapping[str, float], ...] = ()
  seen_prior: bool = False
  flips: bool = False
  leaks: str = 'error'
  validation_shots: tuple[int, ...] | None = None
  cut_shots: bool = False
  without: tuple[str, ...] = ()


def run_identity(seed: int, fold: int | None) -> dict[str, Any]:
  """Returns what is known of a run of a learner that is given as an object."""
  return {'seed': seed, 'fold': fold}


class Entry(NamedTuple):
  """One learner of a table, and how it is trained.

  factory: makes the learner from `kwargs` and those sizes of `Spec` that it takes by name.
  name: as in `LEARNERS`, or 'path/to/file.py:factory': what an export is called; '' for a learner
    that is given as an object, of which no export is written.
  training: how.
  populations: whose train users it is trained on, one for each fold; () for those of the table.
  identity: `(seed, fold) -> JSON values` that make a run of it, the source of a learner outside of
    the package included; what a resumed run compares, beside the hash of the data.
  """

  factory: Callable[..., MetaLearner]
  kwargs: Mapping[str, Any] = NOTHING
  name: str = ''
  training: Training = Training()
  populations: tuple[MakePopulation, ...] = ()
  identity: Callable[[int, int | None], Mapping[str, Any]] = run_identity


class TextLengths(NamedTuple):
  """Sizes of a store's texts. lengths: [P, R] in words. subset: [P], where a prompt is from."""

  lengths: Float[np.ndarray, 'P R']
  subset: np.ndarray


class Stream(NamedTuple):
  """Comparisons evaluated as they arrive: see `evaluation.streams`.

  change_at: turn from which the preferences are another user's; 0 for none.
  window: comparisons remembered; 0 for all.
  """

  change_at: int
  window: int


class Condition(NamedTuple):
  """Users whom all learners of a table are evaluated on.

  populations: one for each fold of people, else one.
  changes: option -> value by which it differs from the other conditions; for names and labels.
  split: of the users: 'test', or 'seen'.
  stream: None where users are evaluated after fixed numbers of comparisons.
  entries: learners trained anew under this condition, on its populations where they have none of
    their own; None for those of the table.
  """

  populations: tuple[MakePopulation, ...]
  changes: Mapping[str, Any] = NOTHING
  split: str = 'test'
  stream: Stream | None = None
  entries: Mapping[str, Entry] | None = None

  @property
  def name(self) -> str:
    """A short name, for files."""
    return '-'.join(f'{key}={value}' for key, value in self.changes.items()) or 'default'


class Plan(NamedTuple):
  """A table.

  entries: row name -> learner. conditions: under which all are evaluated. seeds: of training.
  folds: numbers of the folds of people, in the order of the populations; () where there are none.
  protocol: name of the table, in results and reports.
  populations: that entries without their own are trained on, one for each fold.
  identity: JSON values that make the table: a workdir holds results of one identity.
  texts: lengths and subsets of a store's texts, for what picks cost; None where there are none.
  placement: of training over devices; None for `devices.placement()`. It makes no other table.
  """

  entries: Mapping[str, Entry]
  conditions: tuple[Condition, ...]
  populations: tuple[MakePopulation, ...]
  seeds: tuple[int, ...] = (0,)
  folds: tuple[int, ...] = ()
  evaluation: Evaluation = Evaluation()
  protocol: str = 'metapers'
  identity: Mapping[str, Any] = NOTHING
  texts: TextLengths | None = None
  placement: Placement | None = None


def sizes(factory: Callable[..., MetaLearner], spec: Spec) -> dict[str, Any]:
  """Returns the arguments of a learner's factory that are sizes of a population."""
  known = inspect.signature(factory).parameters
  return {name: getattr(spec, name) for name in FROM_SPEC if name in known}


def build(entry: Entry, spec: Spec) -> MetaLearner:
  """Returns the learner of an entry for a population; equal arguments give the same object."""
  arguments = {**entry.kwargs, **sizes(entry.factory, spec)}
  return _build(entry.factory, _Frozen(arguments))


def trained_on(plan: Plan, condition: Condition | None) -> tuple[MakePopulation, ...]:
  """Returns what learners without populations of their own are trained on.

  Args:
    plan: of the table.
    condition: whose learners; None, or one without learners of its own, for those of the table.
  """
  if condition is None or condition.entries is None:
    return plan.populations
  return condition.populations


def entries_of(plan: Plan, condition: Condition | None) -> dict[str, Entry]:
  """Returns learners by row, each with the populations that it is trained on; see `trained_on`."""
  entries = plan.entries if condition is None else condition.entries or plan.entries
  default = trained_on(plan, condition)
  return {
    row: entry._replace(populations=entry.populations or default) for row, entry in entries.items()
  }


def check_options(evaluation: Evaluation, spec: Spec) -> None:
  """Refuses numbers below 1, and numbers of shots that no history holds.

  Raises:
    ValueError: naming what was given and what there is.
  """
  small = [
    f'{name}={getattr(evaluation, name)}' for name in COUNTS if getattr(evaluation, name) < 1
  ]
  if small:
    raise ValueError(f'evaluation needs at least 1 of each, got {", ".join(small)}')
  if evaluation.leaks not in ('error', 'warn'):
    raise ValueError(f"evaluation.leaks must be 'error' or 'warn', got {evaluation.leaks!r}")
  validation_shots(evaluation, spec)
  shots, most = held_shots(evaluation, spec), spec.num_support
  if not shots or max(shots) > most or min(shots) < 0:
    raise ValueError(
      f'shots must lie in 0..{most} (num_support of the population), got {shots}; raise '
      'num_support, or leave the larger numbers of shots out'
    )


def validation_shots(evaluation: Evaluation, spec: Spec) -> tuple[int, ...]:
  """Returns after how many comparisons of a validation user parameters are chosen.

  Raises:
    ValueError: for numbers of which a history holds none.
  """
  most = spec.num_support
  wanted = evaluation.validation_shots
  if wanted is None:
    wanted = (0, *(2**power for power in range(most.bit_length())))
  kept = tuple(k for k in wanted if 0 <= k <= most)
  if not kept:
    raise ValueError(
      f'evaluation.validation_shots={tuple(wanted)} lie outside of 0..{most} (num_support of the '
      'population); give numbers within'
    )
  return kept


def held_shots(evaluation: Evaluation, spec: Spec) -> tuple[int, ...]:
  """Returns the numbers of shots to evaluate, least first: with `cut_shots` what histories hold."""
  most = spec.num_support if evaluation.cut_shots else max(evaluation.shots, default=0)
  return tuple(sorted(count for count in evaluation.shots if count <= most))


def check_conditions(plan: Plan) -> None:
  """Refuses a fold given twice, and conditions of one name or with other rows than the table.

  Raises:
    ValueError: naming them.
  """
  conditions = plan.conditions
  if len(set(plan.folds)) < len(plan.folds):
    raise ValueError(f'folds must differ, for each has people of its own; got {plan.folds}')
  for condition in conditions:
    if condition.entries is not None and set(condition.entries) != set(plan.entries):
      raise ValueError(
        f'{condition.name}: learners trained anew must be those of the table, '
        f'{", ".join(plan.entries)}; got {", ".join(condition.entries)}'
      )
  names = [condition.name for condition in conditions]
  if len(set(names)) < len(names):
    raise ValueError(
      f'conditions need names of their own, got {", ".join(names)}; give each `changes` that tell '
      'it from the others'
    )


class _Frozen:
  """Keyword arguments as a key of a cache: equal where they are written alike."""

  def __init__(self, arguments: Mapping[str, Any]):
    self.arguments = arguments
    # An array by its content: of a long one the text leaves numbers out.
    known = jax.tree.map(
      lambda x: programs.content(x) if isinstance(x, np.ndarray | jax.Array) else x, dict(arguments)
    )
    self._text = repr(sorted(known.items()))

  def __eq__(self, other: object) -> bool:
    return isinstance(other, _Frozen) and self._text == other._text

  def __hash__(self) -> int:
    return hash(self._text)


@functools.lru_cache(maxsize=64)  # equal entries share one object, and so what jit compiled for it
def _build(factory: Callable[..., MetaLearner], frozen: _Frozen) -> MetaLearner:
  return factory(**frozen.arguments)


def populations_of(plan: Plan) -> dict[str, MakePopulation]:
  """Returns all populations that learners of a table are evaluated or trained on, each once.

  Returns:
    Name -> what makes it: under each condition, in common, and of a learner's own; by fold.
  """
  groups = {each.name: each.populations for each in plan.conditions}
  groups['trained on'] = plan.populations
  for owner in (plan, *plan.conditions):
    behind = f'{owner.name}, ' if isinstance(owner, Condition) else ''
    for row, entry in (owner.entries or {}).items():
      groups[f'{behind}trained on by {row}'] = entry.populations
  found: dict[str, MakePopulation] = {}
  for name, several in groups.items():
    folds = plan.folds or (None,) * len(several)
    for fold, make in zip(folds, several, strict=bool(several)):
      if make not in found.values():
        found[name if fold is None else f'{name}, fold {fold}'] = make
  return found


def data_of(plan: Plan) -> str:
  """Returns the hash of the data of a table, of all of them where there are several."""
  found = {make().content_hash for make in populations_of(plan).values()}
  return ' '.join(sorted(found))


def table_identity(plan: Plan, kind: str) -> dict[str, Any]:
  """Returns the JSON values that the workdir of a table keeps, of which some make it."""
  trained_on = sorted({make().content_hash for make in plan.populations})
  own = {'kind': kind, 'data': data_of(plan), 'trained_on': ' '.join(trained_on)}
  return {**plan.identity, **own}


def as_entries(learners: Mapping[str, MetaLearner | Entry], training: Training) -> dict[str, Entry]:
  """Returns entries of learners that are given as objects, trained alike."""
  return {
    name: given if isinstance(given, Entry) else Entry(_Given(given), training=training)
    for name, given in learners.items()
  }


class _Given(NamedTuple):
  """The factory of a learner that is there already."""

  learner: MetaLearner

  def __call__(self) -> MetaLearner:
    return self.learner


def as_conditions(
  populations: Population | Sequence[Condition],
) -> tuple[Condition, ...]:
  """Returns conditions; a population alone is the only one."""
  if isinstance(populations, Population):
    return (Condition((lambda: populations,)),)
  return tuple(populations)
