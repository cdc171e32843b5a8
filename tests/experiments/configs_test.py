"""Configs are documents: each loads, says where it comes from and refuses what it does not know."""

import importlib
import pathlib

import jax.numpy as jnp
import optax
import pytest
from ml_collections import config_dict

from experiments import build, works
from experiments.configs import base
from metapers import learners
from metapers.bench import plan, settings

FOLDER = pathlib.Path(base.__file__).parent
NAMES = sorted(path.stem for path in FOLDER.glob('*.py') if path.stem not in ('__init__', 'base'))
TABLES = (
  'scores_gap', 'features_gain', 'jester', 'ukpconvarg', 'people', 'quickstart',
  'constructed_preferences',
)  # fmt: skip


def load(name, argument=None):
  return importlib.import_module(f'experiments.configs.{name}').get_config(argument)


@pytest.mark.parametrize('name', NAMES)
def test_docstring_says_paper_time_and_command(name):
  document = importlib.import_module(f'experiments.configs.{name}').__doc__
  for part in ('Time:', 'Command:', 'Arguments:'):
    assert part in document, f'{name} lacks {part}'


@pytest.mark.parametrize('name', TABLES)
def test_every_row_of_a_table_is_a_run(name):
  config = load(name)
  for learner in config.benchmark.learners:
    run = build.single(config, learner, seed=3)
    assert run.learner.name == learner
    assert run.seed == 3
    assert 'benchmark' not in run
    assert 'learners' not in run


def empty_fields(fields, path):
  for name, value in fields.items():
    if isinstance(value, config_dict.ConfigDict):
      yield from empty_fields(value, f'{path}.{name}')
    elif value is None:
      yield f'{path}.{name}', fields.get_type(name)


@pytest.mark.parametrize('name', NAMES)
def test_a_flag_can_fill_every_empty_field(name):
  untyped = [path for path, kind in empty_fields(load(name), name) if kind is type(None)]
  assert not untyped


def test_empty_fields_of_a_run_can_be_filled_too():
  found = dict(empty_fields(load('maml'), 'config'))
  assert found['config.population.kwargs.label_accuracy'] == float | tuple
  assert found['config.population.kwargs.feature_r2'] is float
  assert found['config.evaluation.rival'] is str


@pytest.mark.parametrize('learner', learners.LEARNERS)
def test_a_learner_is_chosen_without_stale_options(learner):
  config = load('maml', f'quick,learner={learner}')
  wanted = set(build.defaults(learners.factory(learner))) - set(plan.FROM_SPEC)
  assert set(config.learner.kwargs) == wanted


def test_a_tables_own_options_reach_the_chosen_learner():
  single = load('features_gain', 'learner=cnp')
  assert 'learners' not in single  # nothing is left that could win over a flag
  assert single.learner.kwargs.width == 16
  assert single.training.num_steps == 4000


def test_quick_is_shorter():
  assert load('scores_gap', 'quick').training.num_steps < load('scores_gap').training.num_steps
  quick = build.single(load('scores_gap', 'quick'), 'cnp', seed=0)
  assert quick.training.num_steps == 300
  quick = build.single(load('features_gain', 'quick'), 'cnp')
  assert quick.training.learning_rate == load('features_gain', 'learner=cnp').training.learning_rate


@pytest.mark.parametrize('argument', [None, 'quick'])
@pytest.mark.parametrize('name', ['jester', 'people'])
def test_tables_of_people_have_a_row_that_is_not_trained(name, argument):
  run = build.single(load(name, argument), 'gaussian_prior')
  assert run.training.num_steps == 0


@pytest.mark.parametrize(
  ('argument', 'message'),
  [
    ('fast', 'unknown config argument .fast.; known: quick, learner=..., objective=...'),
    ('quick=1', 'unknown config argument .quick=1.'),
    ('learner', 'unknown config argument .learner.'),
    ('learner=mamal', "unknown learner 'mamal'; known: pooled, per_user"),
  ],
)
def test_unknown_arguments_list_the_known(argument, message):
  with pytest.raises(ValueError, match=message):
    load('maml', argument)


@pytest.mark.parametrize(
  ('name', 'argument', 'known'),
  [
    ('p_dpo_smollm2', 'quick', 'lists'),
    ('p_dpo_tldr', 'quick', 'none'),
    ('p_dpo_styles', 'learner=cnp', 'quick, heeding'),
    ('steer_styles', 'objective=mean', 'quick'),
  ],
)
def test_a_config_without_learners_takes_its_own_arguments_alone(name, argument, known):
  with pytest.raises(ValueError, match=f'unknown config argument .*; known: {known}$'):
    load(name, argument)


def test_unknown_options_list_the_known():
  with pytest.raises(ValueError, match="learner 'maml' takes no depth; it takes hidden"):
    build.learner_config('maml', depth=3)
  with pytest.raises(ValueError, match="population 'two_types' takes no seed"):
    build.population_config('two_types', seed=3)
  with pytest.raises(ValueError, match="unknown population 'planets'; known: reward_ensemble"):
    build.population_config('planets')


def test_changes_of_another_kind_are_refused():
  fields = build.population_config('reward_ensemble').kwargs
  with pytest.raises(ValueError, match=r"concentration is like 0\.05, got 'abc'"):
    build.update('population', fields, {'concentration': 'abc'})
  with pytest.raises(ValueError, match='population takes no alpha; it takes adversarial_share'):
    build.update('population', fields, {'alpha': 0.1})
  build.update('population', fields, {'concentration': (0.05, 0.1), 'label_accuracy': 0.9})
  assert fields.concentration == (0.05, 0.1)


def test_a_row_may_train_by_an_objective_of_other_options():
  config = load('group_robust', '')
  made = {row: build.single(config, row).training.objective for row in config.learners}
  assert made['mrm_cvar'].to_dict() == {'name': 'cvar', 'kwargs': {'share': 0.5}}
  assert made['mrm_group_dro'].to_dict() == {'name': 'group_dro', 'kwargs': {'step_size': 0.01}}
  assert made['pooled'].name == 'mean'
  fields = build.training_config('cvar')
  build.update('training', fields, {'objective': {'kwargs': {'share': 0.2}}})
  assert fields.objective.to_dict() == {'name': 'cvar', 'kwargs': {'share': 0.2}}


def test_two_factories_must_not_share_an_option():
  with pytest.raises(TypeError, match="two factories of one config take 'seed'"):
    build.defaults(lambda *, seed=0: seed, lambda *, seed=1: seed)


def test_equal_configs_share_a_learner_and_a_population():
  made = [build.plan(load('maml', 'quick')) for _ in range(2)]
  population = made[0].populations[0]()
  assert population is made[1].populations[0]()
  first, second = (plan.build(each.entries['maml'], population.spec) for each in made)
  assert first is second


def test_people_without_a_folder_say_which_flag_is_missing():
  with pytest.raises(ValueError, match=r'--config.population.kwargs.path=FOLDER'):
    build.plan(load('jester')).populations[0]()


def test_conditions_that_differ_in_any_option_have_other_labels():
  config = build.single(load('features_gain'), 'pooled')
  changes = ({}, {'support_prompts': 'held_out'}, {'flip_rate': 0.1})
  made = [build.condition(config, change) for change in changes]
  population = build.plan(config).populations[0]()
  labels = [settings.labels_of(population, each, 'demo')['protocol'] for each in made]
  assert len(set(labels)) == len(changes)


@pytest.mark.parametrize(
  ('changes', 'stream'),
  [
    ({}, None),
    ({'split': 'seen'}, None),
    ({'change_at': 8}, plan.Stream(8, 0)),
    ({'window': 4}, plan.Stream(0, 4)),
    ({'change_at': 8, 'window': 4}, plan.Stream(8, 4)),
  ],
)
def test_either_option_of_a_stream_makes_one(changes, stream):
  config = build.single(load('features_gain'), 'pooled')
  assert build.condition(config, changes).stream == stream


def test_training_names_its_objective_and_optimiser():
  config = load('maml', 'quick,objective=cvar,optimizer=sgd')
  config.training.objective.kwargs.share = 0.25
  made = build.training(config.training)
  value, _ = made.objective.apply(jnp.arange(8.0), jnp.zeros(8, int), ())
  assert value == 6.5  # the mean of the largest two
  with pytest.raises(ValueError, match=r"unknown objective 'sum'; known: mean"):
    load('maml', 'objective=sum')


def test_the_optimiser_of_a_config_is_the_published_schedule():
  config = load('maml')
  made = build.training(config.training)
  transformation = made.optimizer(made.learning_rate, made.num_steps)
  schedule = optax.warmup_cosine_decay_schedule(0.0, 3e-3, 100, 2000)
  expected = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(schedule, weight_decay=0.0))
  params = {'w': jnp.arange(3.0)}
  states = [each.init(params) for each in (transformation, expected)]
  for _ in range(3):
    moves = []
    for i, each in enumerate((transformation, expected)):
      move, states[i] = each.update({'w': jnp.ones(3)}, states[i], params)
      moves.append(move['w'])
    assert jnp.array_equal(*moves)


def test_learners_and_populations_come_from_files(tmp_path):
  path = tmp_path / 'mine.py'
  path.write_text(
    'from metapers.populations import toy\n'
    'from metapers.learners.pooled import pooled\n'
    'def mine(num_features, *, depth=2):\n'
    '  return pooled(num_features, hidden=(4,) * depth)\n'
    'def people(*, num_users=8):\n'
    '  return toy.two_types(num_users=num_users)\n'
  )
  config = load('maml', f'learner={path}:mine')
  assert config.learner.kwargs.depth == 2
  assert build.identity(config)['learner_source'] == build.source_hash(f'{path}:mine')
  before = build.source_hash(f'{path}:mine')
  path.write_text('# said otherwise\n' + path.read_text().replace('depth=2', 'depth = 2'))
  assert build.source_hash(f'{path}:mine') == before
  population = build.population_config(f'{path}:people', num_users=16)
  assert build.describe(base.base(population))().spec.num_users == 16
  table = base.table(load('maml'), {'mine': {'name': f'{path}:mine'}, 'pooled': {}})
  assert build.identity(table)['learner_sources'] == {'mine': build.source_hash(f'{path}:mine')}
  with pytest.raises(
    ValueError, match='this workdir is of a table, of which nothing is trained yet'
  ):
    works.stored_run(table.to_dict())
  with pytest.raises(ValueError, match="defines no function 'yours'"):
    load('maml', f'learner={path}:yours')
  with pytest.raises(ValueError, match='give --learner='):
    works.stored_run(build.identity(config))
  assert works.stored_run(build.identity(config), learner=f'{path}:mine').learner.kwargs.depth == 2
  stored = build.identity(base.base(population)) | {'learner': load('maml').learner.to_dict()}
  with pytest.raises(ValueError, match='give --population='):
    works.stored_run(stored)
  found = works.stored_run(stored, population=f'{path}:people')
  assert build.describe(found)().spec.num_users == 16


@pytest.mark.parametrize('name', ['p_dpo_prism', 'p_dpo_styles'])
def test_dpo_beside_texts_of_users_does_not_read_them(name):
  rows = load(name).rows
  assert rows.dpo.reads_text is False
  assert rows.individual.get('reads_text', True)
