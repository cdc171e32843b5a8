"""Sweeps: what the combinators promise, and what a command line gives."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launchers import sweeps

NAMES = st.sampled_from(['learner', 'seed', 'training.num_steps', 'training.batch_size'])
VALUES = st.lists(st.integers(0, 99), min_size=1, max_size=4, unique=True)
TABLES = st.dictionaries(NAMES, VALUES, min_size=1)
SWEEPS = TABLES.map(sweeps.grid)


def written(values):
  return ';'.join(f'{name}={",".join(map(str, own))}' for name, own in values.items())


@given(TABLES)
def test_a_grid_holds_every_combination_once(values):
  made = sweeps.grid(values)
  expected = 1
  for own in values.values():
    expected *= len(own)
  assert len(made) == expected == len({tuple(point.items()) for point in made})
  for name, own in values.items():
    assert {point[name] for point in made} == set(map(str, own))


def test_spaces_between_values_are_not_theirs():
  assert sweeps.parse('grid:learner=cnp, maml ; seed=0') == sweeps.parse(
    'grid:learner=cnp,maml;seed=0'
  )


@given(TABLES)
def test_what_is_written_is_what_is_built(values):
  assert sweeps.parse(f'grid:{written(values)}') == sweeps.grid(values)


@given(st.lists(st.tuples(st.integers(), st.booleans()), min_size=1, unique=True))
def test_zip_takes_values_side_by_side(pairs):
  first, second = zip(*pairs, strict=True)
  made = sweeps.zipped({'a': first, 'b': second})
  assert [(point['a'], point['b']) for point in made] == [
    (str(one), str(other).lower()) for one, other in pairs
  ]


@given(SWEEPS, SWEEPS)
def test_a_chain_holds_the_points_of_both_once(first, second):
  made = sweeps.chain(first, second)
  assert made[: len(first)] == first
  assert [*first, *(point for point in second if point not in first)] == list(made)


@given(SWEEPS)
def test_a_chain_of_a_sweep_with_itself_is_the_sweep(sweep):
  assert sweeps.chain(sweep, sweep) == sweep


@given(st.dictionaries(NAMES, VALUES, min_size=2))
def test_crossing_the_columns_of_a_grid_is_the_grid(values):
  columns = [sweeps.grid({name: own}) for name, own in values.items()]
  assert sweeps.cross(*columns) == sweeps.grid(values)


def test_crossing_nothing_is_one_job_without_overrides():
  assert sweeps.cross() == ({},)


def test_several_values_are_one_where_an_option_takes_several():
  made = sweeps.grid({'evaluation.shots': [(0, 4), (0, 16)], 'training.is_on': [True]})
  assert [point['evaluation.shots'] for point in made] == ['0,4', '0,16']
  assert made[0]['training.is_on'] == 'true'


def test_seeds_and_parts_that_are_joined():
  made = sweeps.parse('grid:learner=cnp;seed=0,1 + seeds:1')
  assert made == (
    {'learner': 'cnp', 'seed': '0'},
    {'learner': 'cnp', 'seed': '1'},
    {'seed': '0'},
  )
  assert sweeps.seeds(2, first=5) == ({'seed': '5'}, {'seed': '6'})


def test_a_number_with_an_exponent_is_no_join():
  assert sweeps.parse('grid:training.learning_rate=1e+2') == ({'training.learning_rate': '1e+2'},)


@pytest.mark.parametrize(
  ('text', 'message'),
  [
    ('', 'no sweep is written as'),
    ('grid:', 'no sweep is written as'),
    ('grid:learner', 'no sweep is written as'),
    ('random:seed=1', 'no sweep is written as'),
    ('seeds:many', 'no sweep is written as'),
    ('grid:seed=0;seed=1', 'names an option twice'),
    ('zip:learner=cnp,maml;seed=0', 'equally many'),
    ('nowhere.py:mine', 'no sweep in'),
  ],
)
def test_other_forms_are_refused(text, message):
  with pytest.raises(ValueError, match=message):
    sweeps.parse(text)


def test_two_sweeps_of_one_option_are_refused():
  with pytest.raises(ValueError, match='two sweeps give values to seed'):
    sweeps.cross(sweeps.seeds(2), sweeps.parse('grid:learner=cnp;seed=5'))


def test_a_sweep_comes_from_a_file(tmp_path):
  path = tmp_path / 'mine.py'
  path.write_text(
    'from launchers import sweeps\n'
    'def few():\n  return sweeps.chain(sweeps.seeds(2), [{"learner": "cnp", "seed": 7}])\n'
    'def wrong():\n  return 3\n'
  )
  assert sweeps.parse(f'{path}:few')[2] == {'learner': 'cnp', 'seed': '7'}
  with pytest.raises(ValueError, match='must return points'):
    sweeps.parse(f'{path}:wrong')
  with pytest.raises(ValueError, match="no function 'many'"):
    sweeps.parse(f'{path}:many')
