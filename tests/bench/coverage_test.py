"""The bench's intervals on a small known world; a wrong formula must be seen."""

import numpy as np
import pandas as pd
import pytest

from metapers.analysis import coverage, superpopulation
from metapers.analysis.superpopulation import Study
from metapers.bench import coverage_runs
from metapers.evaluation import intervals

SMALL = Study(60, 12, 80)
OF_FEW_PROMPTS = Study(100, 8, 20, prompt_spread=0.6)  # which differ more than users do


def world_of(study):
  """A world of small studies, and its true values from few large ones."""
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(superpopulation, 'LARGE', 1000)
    patch.setattr(coverage, 'NUM_LARGE', 8)
    whom = superpopulation.superpopulation(study)
    return whom, coverage.true_values(whom)


@pytest.fixture(scope='module')
def world():
  return world_of(SMALL)


def studied(world, num_studies=40):
  """What intervals of the accuracy of all learners came to, and of their paired differences."""
  drawn = [coverage.replicate(*world, seed=seed, num_resamples=240) for seed in range(num_studies)]
  found = coverage.summary(pd.concat(drawn))
  return found[found['metric'].str.startswith(('accuracy_minus', 'nll'))].dropna()


def test_intervals_hold_the_truth_as_often_as_they_say(world):
  found = studied(world)
  assert len(found) > 8
  assert 0.91 <= found['coverage'].mean() <= 0.985
  assert 0.9 <= found['width'].mean() <= 1.15


def plant(monkeypatch, wrong):
  """Has intervals take `wrong(users, prompts, cells)` for the variance over new ones."""
  real = intervals.variances

  def planted(*args, **sizes):
    users, prompts, cells, seeds = real(*args, **sizes)
    nothing = np.zeros_like(users)
    return intervals.Variances(wrong(users, prompts, cells), nothing, nothing, seeds)

  monkeypatch.setattr(intervals, 'variances', planted)


WRONG = {
  'counted_twice': lambda users, prompts, cells: users + prompts + cells,
  'too_narrow': lambda users, prompts, cells: cells / 2,
}


@pytest.mark.parametrize('name', WRONG)
def test_a_wrong_formula_is_seen(world, name, monkeypatch):
  plant(monkeypatch, WRONG[name])
  found = studied(world)
  assert found['coverage'].mean() < 0.9 or found['width'].mean() > 1.2


def test_that_prompts_are_forgotten_is_seen_where_they_are_few(monkeypatch):
  world = world_of(OF_FEW_PROMPTS)
  right = studied(world, 20)[['coverage', 'width']].mean()
  plant(monkeypatch, lambda users, prompts, cells: users)
  found = studied(world, 20)[['coverage', 'width']].mean()  # of the same studies
  assert found['coverage'] < right['coverage'] - 0.04 and found['width'] < 0.85 * right['width']
  assert right['coverage'] > 0.9


def test_studies_without_an_interval_are_no_misses_but_are_counted():
  rows = {'learner': 'near', 'metric': 'accuracy_share_of_oracle', 'truth': 0.5, 'value': 0.5}
  bounds = {'ci_low': [0.4] * 4 + [0.51] + [np.nan] * 5, 'ci_high': [0.6] * 5 + [np.nan] * 5}
  found = coverage.summary(pd.DataFrame({**rows, **bounds})).iloc[0]
  assert found['coverage'] == 0.8 and found['power'] == 1
  assert (found['num_studies'], found['num_dropped']) == (5, 5)
  nowhere = coverage.summary(pd.DataFrame({**rows, 'ci_low': [np.nan], 'ci_high': [np.nan]}))
  assert nowhere['coverage'].isna().all() and nowhere['num_dropped'].item() == 1


def test_gaps_are_as_large_as_they_are_called(world):
  _, truth = world
  for learner, gap in superpopulation.GAPS.items():
    for name in (learner, learner + superpopulation.APART):
      assert truth[name]['accuracy_minus_near'] == pytest.approx(-gap, abs=0.004)
  assert truth['oracle']['ece'] == pytest.approx(0, abs=0.004)


def test_learners_with_errors_of_their_own_disagree_more_often(world):
  whom, _ = world
  drawn = superpopulation.draw(whom, np.random.default_rng(0))
  chosen = {name: np.asarray(made.log_probs).argmax(-1) for name, made in drawn.predictions.items()}
  alike, apart = (
    (chosen['near'] != chosen[name]).mean() for name in ('one_point', 'one_point_apart')
  )
  assert 0 < 2 * alike < apart


@pytest.mark.parametrize('has_new_items', [False, True])
def test_people_have_no_truth_and_may_be_asked_of_new_items(has_new_items, monkeypatch):
  monkeypatch.setattr(superpopulation, 'LARGE', 100)
  study = Study(20, 6, 15, is_of_people=True, has_new_items=has_new_items)
  whom = superpopulation.superpopulation(study)
  first, second = (superpopulation.draw(whom, np.random.default_rng(seed)) for seed in (0, 1))
  assert first.truth is None and (first.items is not None) == has_new_items
  shown = [
    {tuple(row) for row in np.asarray(each.tasks.query.candidates.features).reshape(-1, 4)}
    for each in (first, second)
  ]
  assert bool(shown[0] & shown[1]) != has_new_items
  evaluated = coverage.evaluation_set(first, seed=0, num_resamples=40)
  assert evaluated.num_prompts == (15 if has_new_items else 1)
  found = coverage.measure(first, evaluated)
  assert 'regret' not in found['near'] and 'flip_rate' in found['near']


@pytest.fixture
def tiny(monkeypatch):
  """Has studies be small, and one be called tiny."""
  monkeypatch.setattr(superpopulation, 'LARGE', 50)
  monkeypatch.setattr(coverage, 'NUM_LARGE', 2)
  monkeypatch.setattr(coverage_runs, 'BLOCK', 2)
  monkeypatch.setitem(superpopulation.STUDIES, 'tiny', Study(20, 8, 30))


@pytest.mark.usefixtures('tiny')
def test_draws_are_kept_and_a_restart_goes_on(tmp_path, monkeypatch):
  options = {'num_studies': 4, 'num_resamples': 16}
  found = coverage_runs.run(tmp_path, ['tiny'], **options)
  assert (found['num_studies'] == 4).all()
  assert len(coverage_runs.power(found).body[0]) == 5  # alike and apart, of one point and of three
  assert {'accuracy', 'questions_ahead', 'accuracy@group', 'turn_accuracy'} <= set(found['metric'])
  (tmp_path / 'tiny' / '00002.csv').unlink()
  made = []
  real = coverage.replicate
  monkeypatch.setattr(
    coverage,
    'replicate',
    lambda *args, seed, **kw: made.append(seed) or real(*args, seed=seed, **kw),
  )
  again = coverage_runs.run(tmp_path, ['tiny'], **options)
  assert made == [2, 3]
  pd.testing.assert_frame_equal(found, again)
  with pytest.raises(ValueError, match='num_resamples'):
    coverage_runs.run(tmp_path, ['tiny'], num_studies=4, num_resamples=20)
  with pytest.raises(ValueError, match='expected two draws or more of studies among'):
    coverage_runs.run(tmp_path, ['other'], **options)


@pytest.mark.usefixtures('tiny')
def test_draws_of_another_study_or_version_are_refused_and_other_studies_added(
  tmp_path, monkeypatch
):
  options = {'num_studies': 2, 'num_resamples': 16}
  found = coverage_runs.run(tmp_path, ['tiny'], **options)
  monkeypatch.setitem(superpopulation.STUDIES, 'other', Study(20, 8, 25))
  both = coverage_runs.run(tmp_path, ['other', 'tiny'], **options)
  pd.testing.assert_frame_equal(
    both[both['study'] == 'tiny'].reset_index(drop=True), found, check_dtype=False
  )
  with monkeypatch.context() as patch:
    patch.setattr(coverage_runs, 'VERSION', coverage_runs.VERSION + 1)
    with pytest.raises(ValueError, match='version: 1 there, 2 now'):
      coverage_runs.run(tmp_path, ['tiny'], **options)
  monkeypatch.setitem(superpopulation.STUDIES, 'tiny', Study(20, 8, 30, spread=2.0))
  with pytest.raises(ValueError, match=r'tiny .*spread: 1\.0 there, 2\.0 now'):
    coverage_runs.run(tmp_path, ['other', 'tiny'], **options)
