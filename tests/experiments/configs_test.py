"""Configs are documents: each loads, says where it comes from and refuses what it does not know."""

import importlib
import pathlib

import pytest

from experiments import build, settings
from experiments.configs import base
from metapers import learners

FOLDER = pathlib.Path(base.__file__).parent
NAMES = sorted(path.stem for path in FOLDER.glob('*.py') if path.stem not in ('__init__', 'base'))
TABLES = (
  'scores_gap', 'features_gain', 'jester', 'ukpconvarg', 'quickstart', 'constructed_tastes'
)  # fmt: skip


def load(name, argument=None):
  return importlib.import_module(f'experiments.configs.{name}').get_config(argument)


@pytest.mark.parametrize('name', NAMES)
def test_docstring_tells_paper_time_and_command(name):
  document = importlib.import_module(f'experiments.configs.{name}').__doc__
  for part in ('Time:', 'Command:', 'Arguments:'):
    assert part in document, f'{name} lacks {part}'


@pytest.mark.parametrize('name', TABLES)
def test_every_row_of_a_table_is_a_run(name):
  config = load(name)
  for learner in config.benchmark.learners:
    run = base.single(config, learner, seed=3)
    assert run.learner.name == learner
    assert run.seed == 3
    assert 'benchmark' not in run
    assert 'learners' not in run


@pytest.mark.parametrize('learner', learners.LEARNERS)
def test_a_learner_is_chosen_without_stale_options(learner):
  config = load('maml', f'quick,learner={learner}')
  wanted = build.defaults(learners.LEARNERS[learner])
  assert set(config.learner.kwargs) == set(wanted)


def test_a_tables_own_options_reach_the_chosen_learner():
  single = load('features_gain', 'learner=cnp')
  assert 'learners' not in single  # nothing is left that could win over a flag
  assert single.learner.kwargs.width == 16
  assert single.training.num_steps == 4000


def test_quick_is_shorter():
  assert load('scores_gap', 'quick').training.num_steps < load('scores_gap').training.num_steps
  quick = base.single(load('scores_gap', 'quick'), 'cnp', seed=0)
  assert quick.training.num_steps == 300
  quick = base.single(load('features_gain', 'quick'), 'cnp')
  assert quick.training.learning_rate == load('features_gain', 'learner=cnp').training.learning_rate


@pytest.mark.parametrize(
  ('argument', 'message'),
  [
    ('fast', 'unknown config argument .fast.; known: quick, learner=...'),
    ('quick=1', 'unknown config argument .quick=1.'),
    ('learner', 'unknown config argument .learner.'),
    ('learner=mamal', "unknown learner 'mamal'; known: pooled, per_user"),
  ],
)
def test_unknown_arguments_list_the_known(argument, message):
  with pytest.raises(ValueError, match=message):
    load('maml', argument)


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
    base.update('population', fields, {'concentration': 'abc'})
  with pytest.raises(ValueError, match='population takes no alpha; it takes concentration'):
    base.update('population', fields, {'alpha': 0.1})
  base.update('population', fields, {'concentration': (0.05, 0.1), 'label_accuracy': 0.9})
  assert fields.concentration == (0.05, 0.1)


def test_two_factories_must_not_share_an_option():
  with pytest.raises(TypeError, match="two factories of one config take 'seed'"):
    build.defaults(lambda *, seed=0: seed, lambda *, seed=1: seed)


def test_equal_configs_share_a_learner():
  config = load('maml', 'quick')
  spec = build.population(config).spec
  assert build.learner(config, spec) is build.learner(load('maml', 'quick'), spec)


def test_people_without_a_folder_say_which_flag_is_missing():
  with pytest.raises(ValueError, match=r'--config.population.kwargs.path=FOLDER'):
    build.population(load('jester'))


def test_settings_that_differ_in_any_option_have_other_labels():
  config = base.single(load('features_gain'), 'pooled')
  population = {'track': 'features', 'source': 'made up'}
  changes = ({}, {'support_prompts': 'held_out'}, {'flip_rate': 0.1})
  labels = [settings.labels(config, population, change) for change in changes]
  assert len({label['protocol'] for label in labels}) == len(changes)
