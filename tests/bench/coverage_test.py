"""The bench's intervals on a small known world; a wrong formula must be seen."""

import numpy as np
import pandas as pd
import pytest

from metapers.analysis import coverage, superpopulation
from metapers.analysis.superpopulation import Study
from metapers.bench import coverage_runs
from metapers.evaluation import bootstrap

SMALL = Study(60, 12, 80)


@pytest.fixture(scope='module')
def world():
  """A world of small studies, and its true values from few large ones."""
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(superpopulation, 'LARGE', 1000)
    patch.setattr(coverage, 'NUM_LARGE', 8)
    whom = superpopulation.superpopulation(SMALL)
    yield whom, coverage.true_values(whom)


def studied(world, num_studies=40):
  """What intervals of the accuracy of all learners came to, and of their paired differences."""
  drawn = [coverage.replicate(*world, seed=seed, num_resamples=120) for seed in range(num_studies)]
  found = coverage.summary(pd.concat(drawn))
  return found[found['metric'].str.startswith(('accuracy_minus', 'nll'))].dropna()


def test_intervals_hold_the_truth_as_often_as_they_say(world):
  found = studied(world)
  assert len(found) > 8
  assert 0.91 <= found['coverage'].mean() <= 0.985
  assert 0.9 <= found['width'].mean() <= 1.15


@pytest.mark.parametrize('name', ['counted_twice', 'prompts_forgotten', 'too_narrow'])
def test_a_wrong_formula_is_seen(world, name, monkeypatch):
  real = bootstrap.variances

  def planted(*args):
    users, prompts, cells, seeds = real(*args)
    nothing = np.zeros_like(users)
    wrong = {
      'counted_twice': users + prompts + cells,
      'prompts_forgotten': users,
      'too_narrow': cells / 2,
    }
    return bootstrap.Variances(wrong[name], nothing, nothing, seeds)

  monkeypatch.setattr(bootstrap, 'variances', planted)
  found = studied(world)
  width = found['width'].mean()
  assert found['coverage'].mean() < 0.9 or width > 1.2


def test_gaps_are_as_large_as_they_are_called(world):
  _, truth = world
  for learner, gap in superpopulation.GAPS.items():
    assert truth[learner]['accuracy_minus_near'] == pytest.approx(-gap, abs=0.004)
  assert truth['oracle']['ece'] == pytest.approx(0, abs=0.004)


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


def test_draws_are_kept_and_a_restart_goes_on(tmp_path, monkeypatch):
  monkeypatch.setattr(superpopulation, 'LARGE', 50)
  monkeypatch.setattr(coverage, 'NUM_LARGE', 2)
  monkeypatch.setattr(coverage_runs, 'BLOCK', 2)
  monkeypatch.setitem(superpopulation.STUDIES, 'tiny', Study(20, 8, 30))
  options = {'num_studies': 4, 'num_resamples': 16}
  found = coverage_runs.run(tmp_path, ['tiny'], **options)
  assert (found['num_studies'] == 4).all()
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
