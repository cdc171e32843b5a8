"""What every config shares: a document of one run, or of one table of runs."""

from collections.abc import Mapping, Sequence
from typing import Any

from ml_collections import config_dict

from experiments import build, kinds, trials
from experiments.build import Config
from metapers.bench import protocols
from metapers.bench.plan import Evaluation

MOST_MIXED = 4  # user models of `bayes_mixture` in a quick table
ARGUMENTS = {'quick': False, 'learner': '', 'objective': 'mean', 'optimizer': 'adamw'}


def switches(argument: str | None, *names: str) -> dict[str, bool]:
  """Returns which of some names follow `--config=X.py:`, of a config that has no learners to name.

  Raises:
    ValueError: for a name that is not among them.
  """
  return _parsed(argument, dict.fromkeys(names, False))


def parse(argument: str | None, **known: Any) -> dict[str, Any]:
  """Returns what follows `--config=X.py:`, such as `quick,learner=cnp`, by name.

  Args:
    argument: comma-separated `flag` or `name=value`.
    **known: names with their defaults, where these differ from ARGUMENTS; a bool takes no value.

  Raises:
    ValueError: for a name that is not known; lists the known ones.
  """
  return _parsed(argument, ARGUMENTS | known)


def _parsed(argument: str | None, defaults: Mapping[str, Any]) -> dict[str, Any]:
  given = dict(defaults)
  for part in filter(None, (argument or '').split(',')):
    name, equals, value = part.partition('=')
    if name not in defaults or bool(equals) == isinstance(defaults[name], bool):
      forms = [
        key if isinstance(default, bool) else f'{key}=...' for key, default in defaults.items()
      ]
      raise ValueError(f'unknown config argument {part!r}; known: {", ".join(forms) or "none"}')
    given[name] = value if equals else True
  return given


def base(population: Config, given: Mapping[str, Any] = ARGUMENTS) -> Config:
  """Returns what all runs of a config share; `table` adds learners, `finish` chooses one.

  Args:
    population: see `build.population_config`.
    given: what `parse` returned: the objective and the optimiser.
  """
  config: Config = config_dict.ConfigDict()
  config.protocol = 'metapers'
  config.seed = 0
  config.population = population
  config.training = build.training_config(given['objective'], given['optimizer'])
  config.evaluation = kinds.of_tuple(Evaluation())
  return config


def table(
  config: Config,
  learners: Mapping[str, Mapping[str, Any]],
  *,
  seeds: tuple[int, ...] = (0,),
  folds: tuple[int, ...] = (),
  conditions: tuple[Mapping[str, Any], ...] = ({},),
  retrain: bool = False,
) -> Config:
  """Returns a config with what `experiments.benchmark` runs over.

  Args:
    config: what all runs share.
    learners: name -> {'kwargs': ..., 'training': ..., 'population': ...}: that learner's own
      values, which win over the shared ones. 'name' is the learner's own, where it differs from
      that of its row; 'path/to/file.py:factory' is one from outside of the package.
    seeds: of training.
    folds: of people; every person is unseen in one of them. Empty: the population has no folds.
    conditions: changes of the population's options under which all learners are evaluated.
    retrain: train every learner anew under each condition, in place of once.
  """
  config.learners = {name: dict(changes) for name, changes in learners.items()}
  config.benchmark = {
    'learners': tuple(learners),
    'seeds': seeds,
    'folds': folds,
    'conditions': tuple(dict(condition) for condition in conditions),
    'retrain': retrain,
  }
  return config


def with_trials(
  config: Config,
  others: Sequence[Mapping[str, Any]],
  rows: Mapping[str, Sequence[Mapping[str, Any]]],
  *,
  tuned: str = '',
) -> Config:
  """Returns a table with what `experiments.tune` tries of each learner, or with what it chose.

  Args:
    config: of a table.
    others: changes of a row's options, one for each trial of the rows that have none of their own.
    rows: row -> as many changes.
    tuned: the file that `experiments.tune` wrote; '' leaves the rows as they are.

  Raises:
    ValueError: for a file of another table's rows.
  """
  config.trials = {'others': tuple(others), 'rows': {row: tuple(own) for row, own in rows.items()}}
  return trials.chosen(config, tuned) if tuned else config


def of_protocol(
  name: str,
  learners: Mapping[str, Mapping[str, Any]],
  argument: str | None,
  *,
  in_quick: tuple[str, ...] = ('cnp', 'bayes_head', 'pooled'),
) -> Config:
  """Returns the table of a protocol, or with `learner=NAME` in the argument one run of it.

  Args:
    name: a key of `protocols.PROTOCOLS`.
    learners: as in `table`.
    argument: what follows the colon of `--config`. What the conditions change can be named there to
      keep some of them, such as `pair_rule=random`.
    in_quick: the learners of the quick variant.

  Raises:
    ValueError: for an argument that is not known, or a value that no condition has.
  """
  protocol = protocols.PROTOCOLS[name]
  given = parse(argument, **dict.fromkeys(changed_in(protocol.conditions), ''))
  if given['quick'] and not given['learner']:
    learners = {name: learners[name] for name in in_quick}
  options = {**protocol.options, **(protocol.quick if given['quick'] else {})}
  config = base(build.population_config(protocol.population, **options), given)
  config.protocol = name
  build.update('training', config.training, protocol.training)
  build.update('evaluation', config.evaluation, protocol.evaluation)
  config.evaluation.shots = protocol.shots
  config.evaluation.num_users = protocol.num_users
  conditions = protocol.quick_conditions if given['quick'] else protocol.conditions
  kept = chosen_conditions(conditions, given)
  config = table(config, learners, conditions=kept, retrain=protocol.retrain)
  return finish(config, given)


def changed_in(conditions: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
  """Returns the names of all options that conditions change to a number or a name."""
  changes = [item for condition in conditions for item in condition.items()]
  return tuple(dict.fromkeys(name for name, value in changes if isinstance(value, str | float)))


def chosen_conditions(
  conditions: Sequence[Mapping[str, Any]], given: Mapping[str, Any]
) -> tuple[Mapping[str, Any], ...]:
  """Returns the conditions that have every value asked for.

  Raises:
    ValueError: where none has, naming those there are.
  """
  asked = {name: given[name] for name in changed_in(conditions) if given[name]}
  kept = tuple(
    one for one in conditions if all(str(one.get(name)) == x for name, x in asked.items())
  )
  if not kept:
    there = {name: list(dict.fromkeys(str(one.get(name)) for one in conditions)) for name in asked}
    raise ValueError(f'no condition has {asked}; there are {there}')
  return kept


def six(*, is_pool: bool = False) -> dict[str, dict[str, Any]]:
  """Returns the six learners that a protocol is run with, as tuned on the scores track.

  Args:
    is_pool: the population has known users already; else low_rank is given 2,000.
  """
  pool: dict[str, Any] = {} if is_pool else {'population': {'num_users': 2000}}
  return {
    'cnp': {'training': {'num_steps': 8000}},
    'bayes_head': {},
    'maml': {},
    'low_rank': pool,
    'per_user': {},
    'pooled': {'training': {'num_steps': 1000}},
  }


def hedge_of_scores() -> dict[str, Any]:
  """Returns a row of `hedge` on the scores track: also of a prior that treats all scores alike."""
  members = {'cnp': {}, 'pooled': {}, 'dirichlet_mixture': {}}
  return {
    'kwargs': {
      'members': members,
      'untrained': ('dirichlet_mixture',),
      'outside_prior': 0.05,  # one member serves users from outside, too
    },
    'training': {'num_steps': 4000, 'evaluate_every': 2000},
  }


def finish(config: Config, given: Mapping[str, Any]) -> Config:
  """Returns a table, shortened with `quick`; with a learner's name the config of its run."""
  config = quick(config) if given['quick'] else config
  # Literally, so that other shots by a flag train nothing anew.
  config.evaluation.validation_shots = config.evaluation.shots
  return build.single(config, given['learner']) if given['learner'] else config


def quick(config: Config) -> Config:
  """Returns a table of minutes: fewer steps, users and particles, and the first fold only."""
  config.training.num_steps = 300
  config.training.evaluate_every = 150
  for changes in config.learners.values():
    if changes.get('training', {}).get('num_steps', 0) > config.training.num_steps:
      del changes.training['num_steps']
  config.benchmark.folds = config.benchmark.folds[:1]
  most = config.population.kwargs.get('num_support', max(config.evaluation.shots))
  config.evaluation.shots = tuple(k for k in config.evaluation.shots if k <= most)
  config.evaluation.num_users = min(100, config.evaluation.num_users)
  config.evaluation.num_validation_users = 50
  config.evaluation.num_particles = 200
  if len(config.evaluation.mixture) > MOST_MIXED:
    config.evaluation.mixture = ()  # a row that costs as many times the exact answer
  return config
