"""What a flag makes of a field of a config, and which fields there are for flags."""

import pytest
from absl import flags
from ml_collections.config_flags import config_flags

from experiments import build, overrides

# Of ml_collections, which loads configs by it.
pytestmark = pytest.mark.filterwarnings('ignore:the load_module.. method:DeprecationWarning')

TABLE = 'experiments/configs/scores_gap.py:quick'
RUN = 'experiments/configs/maml.py:quick'
PEOPLE = 'experiments/configs/jester.py'
TEXTS = 'experiments/configs/extract.py'


def given(monkeypatch, config, *words):
  """The config of a command line."""
  argv = ['command', f'--config={config}', *(f'--config.{word}' for word in words)]
  monkeypatch.setattr('sys.argv', argv)
  values = flags.FlagValues()
  held = config_flags.DEFINE_config_file('config', None, 'The config.', values)
  values['config'].parser = overrides.Parser('config')
  values(argv)
  return held.value


def test_a_config_is_named_by_its_file_and_what_follows_the_colon():
  assert overrides.name_of('experiments/configs/people.py:quick') == 'people:quick'
  assert overrides.name_of('/my/table.py') == 'table'


@pytest.mark.parametrize(
  ('config', 'field', 'text', 'expected'),
  [
    (PEOPLE, 'population.kwargs.features', 'age', 'age'),
    (PEOPLE, 'population.kwargs.features', 'age,x', ('age', 'x')),
    (PEOPLE, 'population.kwargs.features', "('age','x')", ('age', 'x')),
    (PEOPLE, 'population.kwargs.features', '2020,007,1e3', ('2020', '007', '1e3')),
    (PEOPLE, 'population.kwargs.features', '"age,x"', 'age,x'),
    (PEOPLE, 'population.kwargs.features', 'age,', ('age',)),
    (TEXTS, 'models', 'gemma_2b,gemma_7b', ('gemma_2b', 'gemma_7b')),
    (TEXTS, 'models', 'gemma_2b', ('gemma_2b',)),
    (
      TEXTS,
      'models',
      "{'name': 'a', 'model': 'b'},gemma_2b",
      ({'name': 'a', 'model': 'b'}, 'gemma_2b'),
    ),
    (RUN, 'population.kwargs.concentration', '0.1', 0.1),
    (RUN, 'population.kwargs.concentration', '0.1,1', (0.1, 1.0)),
    (RUN, 'population.kwargs.label_accuracy', '0.9', 0.9),
    (RUN, 'population.kwargs.label_accuracy', '0.9,0.8', (0.9, 0.8)),
    (RUN, 'population.kwargs.pair_rule', 'random,extreme', ('random', 'extreme')),
    (RUN, 'population.kwargs.responses', '5,6,7', (5, 6, 7)),
    (RUN, 'population.kwargs.feature_r2', '1', 1.0),
    (RUN, 'evaluation.shots', '0,1,4', (0, 1, 4)),
    (RUN, 'evaluation.rival', 'a,b', 'a,b'),
    (RUN, 'training.shots', '8', 8),
    (RUN, 'training.shots', 'uniform', 'uniform'),
    (RUN, 'learner.kwargs.hidden', '8,8', (8, 8)),
    (TABLE, 'benchmark.learners', 'cnp,pooled', ('cnp', 'pooled')),
  ],
)
def test_a_flag_is_read_as_what_the_field_may_hold(monkeypatch, config, field, text, expected):
  node = given(monkeypatch, config, f'{field}={text}')
  for part in field.split('.'):
    node = node[part]
  assert node == expected
  assert type(node) is type(expected)


def test_a_flag_that_is_given_again_adds_to_several(monkeypatch):
  config = given(monkeypatch, TEXTS, 'models=a', 'models=b')
  assert config.models == ('a', 'b')


def test_options_that_a_row_leaves_as_they_are_can_be_overridden(monkeypatch):
  words = (
    'learners.cnp.kwargs.width=64',
    'learners.cnp.training.num_steps=7',
    'learners.cnp.training.optimizer.kwargs.weight_decay=0.5',
    'learners.cnp.training.shots=3',
    'learners.cnp.population.concentration=0.1,0.2',
    'learners.lookup.kwargs.hidden=8,8',  # no row of this table
  )
  config = given(monkeypatch, TABLE, *words)
  run = build.single(config, 'cnp')
  assert run.learner.kwargs.width == 64
  assert (run.training.num_steps, run.training.shots) == (7, 3)
  assert run.training.optimizer.kwargs.weight_decay == 0.5
  assert run.population.kwargs.concentration == (0.1, 0.2)
  assert build.single(config, 'lookup').learner.kwargs.hidden == (8, 8)
  other = build.single(config, 'bayes_head')
  untouched = build.single(given(monkeypatch, TABLE), 'bayes_head')
  assert build.identity(other) == build.identity(untouched)


@pytest.mark.parametrize(
  ('config', 'word', 'message'),
  [
    (RUN, 'learner.kwargs.depth=3', 'config.learner.kwargs.depth; known beside it: hidden'),
    (RUN, 'seed.x=3', 'config.seed.x: 0 has no fields'),
    (
      TABLE,
      'learners.cnp.kwargs.depth=3',
      'learners.cnp.kwargs.depth; known beside it: hidden, width',
    ),
    (TABLE, 'learners.cnp.training.depth=3', 'known beside it: batch_size'),
    (TABLE, 'learners.cnp.stuff.depth=3', 'known beside it: kwargs, population, training'),
    (TABLE, 'learners.cnpp.kwargs.width=3', "unknown learner 'cnpp'; known: pooled"),
    (RUN, 'population.kwargs.concentration=abc', "expected float, or several, got 'abc'"),
    (RUN, "population.kwargs.pair_rule=('random',extreme)", 'is not written as Python writes'),
  ],
)
def test_what_no_flag_can_mean_is_refused_with_what_there_is(monkeypatch, config, word, message):
  with pytest.raises(flags.Error) as raised:
    given(monkeypatch, config, word)
  assert message in str(raised.value)


def test_a_default_of_none_takes_what_its_annotation_says(monkeypatch, tmp_path):
  path = tmp_path / 'mine.py'
  path.write_text(
    'from __future__ import annotations\n'
    'from collections.abc import Sequence\n'
    'from metapers.populations import toy\n'
    'def people(*, names: Sequence[str] | None = None, size: int | None = None,\n'
    '           share: float | None = None, rule: str | None = None,\n'
    '           is_seen: bool | None = None, any=None):\n'
    '  return toy.two_types()\n'
  )
  texts = {'names': 'a,b', 'size': '3', 'share': '1', 'rule': '7', 'is_seen': 'false', 'any': 'x'}
  words = [f'population.kwargs.{name}={text}' for name, text in texts.items()]
  found = given(monkeypatch, f'{RUN},population={path}:people', *words).population.kwargs
  wanted = {'names': ('a', 'b'), 'size': 3, 'share': 1.0, 'rule': '7', 'is_seen': False, 'any': 'x'}
  assert found.to_dict() == wanted
  assert type(found.share) is float
