import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from metapers.data import curation

POOL = pd.DataFrame(
  {
    'prompt': [f'prompt {n}' for n in range(40)]
    + ['', None, '  ', ' prompt 3\n', 'x' * 11, 'y' * 10],
    'subset': ['a'] * 46,
  }
)
OPTIONS = {'num_prompts': 20, 'num_test': 5, 'max_characters': 10}


def test_each_prompt_left_out_is_counted_once():
  found = curation.curate(POOL, **OPTIONS)
  assert found.left_out == curation.PromptsLeftOut(empty=3, repeated=1, too_long=1, not_drawn=21)
  assert len(found.prompts) + sum(found.left_out) == len(POOL)


def test_what_is_left_out_does_not_come_back():
  found = curation.curate(POOL, **{**OPTIONS, 'num_prompts': None}).prompts
  assert list(found['prompt']) == [f'prompt {n}' for n in range(40)] + ['y' * 10]
  assert list(found['prompt_id']) == [*map(str, range(40)), '45']
  assert list(found['split']).count('test') == 5


def test_same_seed_same_prompts_and_another_seed_others():
  first, again, other = (curation.curate(POOL, **OPTIONS, seed=seed).prompts for seed in (1, 1, 2))
  pd.testing.assert_frame_equal(first, again)
  assert set(first['prompt_id']) != set(other['prompt_id'])


def test_a_larger_draw_holds_the_smaller_one():
  small, large = (curation.curate(POOL, **{**OPTIONS, 'num_prompts': n}).prompts for n in (20, 30))
  assert set(small['prompt_id']) < set(large['prompt_id'])
  tests = [set(each['prompt_id'][each['split'] == 'test']) for each in (small, large)]
  assert tests[0] == tests[1]


def test_the_draw_favours_no_part_of_the_pool():
  taken, tested = np.zeros(46), np.zeros(46)
  for seed in range(200):
    found = curation.curate(POOL, **OPTIONS, seed=seed).prompts
    taken[found['prompt_id'].astype(int)] += 1
    tested[found['prompt_id'][found['split'] == 'test'].astype(int)] += 1
  eligible = taken > 0
  assert eligible.sum() == 41
  # Five standard deviations of a binomial count of 200.
  np.testing.assert_allclose(taken[eligible] / 200, 20 / 41, atol=0.177)
  np.testing.assert_allclose(tested[eligible] / 200, 5 / 41, atol=0.116)


def test_own_ids_and_columns_are_kept_and_the_pool_is_not_changed():
  pool = POOL.assign(prompt_id=[f'id{n}' for n in range(46)])
  before = pool.copy()
  found = curation.curate(pool, **OPTIONS).prompts
  pd.testing.assert_frame_equal(pool, before)
  assert set(found.columns) == {'prompt', 'subset', 'prompt_id', 'split'}
  texts = dict(zip(pool['prompt_id'], pool['prompt'], strict=True))
  assert [texts[name] for name in found['prompt_id']] == list(found['prompt'])


def test_an_arrow_table_and_another_index_mean_the_same():
  expected = curation.curate(POOL, **OPTIONS)
  others = (pa.Table.from_pandas(POOL), POOL.set_index(pd.Index(range(100, 146))))
  for pool in others:
    found = curation.curate(pool, **OPTIONS)
    pd.testing.assert_frame_equal(found.prompts, expected.prompts)
    assert found.left_out == expected.left_out


@pytest.mark.parametrize(
  ('pool', 'options', 'expected'),
  [
    (POOL.rename(columns={'prompt': 'text'}), {}, 'column prompt.*text, subset'),
    (POOL.assign(prompt_id=7), {}, "'7' is repeated"),
    (POOL, {'num_prompts': 42}, r'41 of 46.*3 empty, 1 repeated, 1 too long.*num_prompts'),
    (POOL, {'num_test': 20}, 'num_test'),
    (POOL, {'num_test': -1}, 'num_test'),
    (POOL[:0], {'num_prompts': None, 'num_test': 0}, 'larger pool'),
  ],
)
def test_bad_input_is_refused(pool, options, expected):
  with pytest.raises(ValueError, match=expected):
    curation.curate(pool, **{**OPTIONS, **options})
