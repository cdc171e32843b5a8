"""Tables of predictions: the way there and back is exact, and nothing wrong gets through."""

import evaluation_sets
import jax
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings, strategies

from metapers.bench import submissions
from metapers.bench.submissions import Submission, Targets
from metapers.core import choice_model
from metapers.evaluation import metrics
from metapers.evaluation.predictions import Predictions

SHOTS = (0, 4, 2)
PROBABILITY = submissions.PROBABILITY


def random_targets(seed, num_users=3, num_queries=4, num_candidates=3):
  rng = np.random.default_rng(seed)
  candidates = rng.random((num_users, num_queries, num_candidates)) < 0.8
  return Targets(SHOTS, candidates, rng.random((num_users, 2, 5)) < 0.8)


def predicted(targets, seed=0):
  rng = np.random.default_rng(seed)
  scores = rng.normal(size=(len(SHOTS), *targets.candidates.shape)).astype(np.float32) * 30
  mask = np.broadcast_to(targets.candidates, scores.shape)
  log_probs = choice_model.log_probs(jax.numpy.asarray(scores), jax.numpy.asarray(mask))
  worth = rng.normal(size=(len(SHOTS), *targets.responses.shape)).astype(np.float32)
  return Predictions(log_probs, jax.numpy.asarray(worth))


@pytest.fixture
def targets():
  wanted = random_targets(0)
  wanted.candidates[:, :, :2] = True  # so that a test may spoil any of these
  wanted.candidates[0, 0, 2] = True
  wanted.candidates[2, 3, 2] = False
  return wanted


@pytest.fixture
def tables(targets):
  return submissions.submission_of({'calm': predicted(targets)}, {'calm': targets})


def back(tables, targets):
  return submissions.predictions_of(tables, {'calm': targets})['calm']


@given(seed=strategies.integers(0, 10_000))
@settings(max_examples=20)
def test_the_way_there_and_back_keeps_every_bit(seed):
  targets = {'calm': random_targets(seed), 'storm': random_targets(seed + 1)}
  made = {name: predicted(wanted, seed) for name, wanted in targets.items()}
  tables = submissions.submission_of(made, targets)
  shuffled = Submission(*(table.sample(frac=1, random_state=seed) for table in tables))
  for name, found in submissions.predictions_of(shuffled, targets).items():
    wanted = targets[name]
    for part, mask in zip(Predictions._fields, (wanted.candidates, wanted.responses)):
      mask = np.broadcast_to(mask, (len(SHOTS), *mask.shape))
      was, now = (np.asarray(getattr(each, part))[mask] for each in (made[name], found))
      np.testing.assert_array_equal(was, now)
    assert np.all(np.asarray(found.log_probs)[:, ~wanted.candidates] < -1e38)


def test_files_keep_every_bit(targets, tmp_path):
  made = predicted(targets)
  paths = submissions.write_submission(tmp_path, {'calm': made}, {'calm': targets})
  found = back(submissions.read_submission(paths), targets)
  mask = np.broadcast_to(targets.candidates, made.log_probs.shape)
  np.testing.assert_array_equal(found.log_probs[mask], made.log_probs[mask])


def as_probabilities(tables):
  """The same submission by probabilities, away from 0."""
  choices = tables.choices.rename(columns={submissions.LOG_PROBABILITY: PROBABILITY})
  group = ['condition', 'user', 'shots', 'query']
  flat = np.exp(choices[PROBABILITY].astype(float)) + 0.1
  choices[PROBABILITY] = flat / flat.groupby([choices[name] for name in group]).transform('sum')
  return Submission(choices, tables.picks)


def test_probabilities_become_their_logarithms(tables, targets):
  given = as_probabilities(tables)
  found = np.exp(back(given, targets).log_probs)
  first = given.choices.iloc[0]
  place = SHOTS.index(first.shots), first.user, first['query'], first.candidate
  assert found[place] == pytest.approx(first.probability, rel=1e-6)
  np.testing.assert_allclose(found.sum(-1)[:, targets.candidates.any(-1)], 1, rtol=1e-6)


def test_without_picks_all_scores_are_equal(tables, targets):
  found = back(Submission(tables.choices, None), targets)
  assert found.slate_scores.shape == (len(SHOTS), *targets.responses.shape)
  assert not found.slate_scores.any()


def spoiled(table, row, **values):
  changed = table.copy()
  for name, value in values.items():
    changed.loc[changed.index[row], name] = value
  return changed


def doubled(table):
  return pd.concat([table, table.iloc[7:8]])


def with_a_masked_row(table):
  return pd.concat([table, spoiled(table.iloc[-1:], 0, user=2, query=3, candidate=2)])


HERE = r"condition 'calm', user 0, shots 0, query 0"


@pytest.mark.parametrize(
  ('spoil', 'message'),
  [
    (lambda t: t.iloc[1:], f'{HERE}, candidate 0 has no row'),
    (lambda t: t[t.user != 1], "condition 'calm', user 1, shots 0, query 0, candidate 0 has no"),
    (lambda t: t[t.shots != 2], "condition 'calm', user 0, shots 2, query 0, candidate 0 has no"),
    (doubled, r"condition 'calm', user 0, shots 0, query \d, candidate \d has several rows"),
    (lambda t: spoiled(t, 0, probability=np.nan), f'{HERE}, candidate 0 probability is not finite'),
    (lambda t: spoiled(t, 0, probability=np.inf), f'{HERE}, candidate 0 probability is not finite'),
    (lambda t: spoiled(t, 0, probability=0.999), f'{HERE}: probabilities sum to 1.* not 1'),
    (lambda t: spoiled(t, 0, user=3), 'user 3, shots 0, query 0, .*user must be among 0..2'),
    (lambda t: spoiled(t, 0, user=-1), 'user -1, .*user must be among 0..2'),
    (lambda t: spoiled(t, 0, shots=3), 'user 0, shots 3, .*shots must be among 0, 4, 2'),
    (lambda t: spoiled(t, 0, query=4), 'query 4, candidate 0: query must be among 0..3'),
    (lambda t: spoiled(t, 0, candidate=3), 'candidate 3: candidate must be among 0..2'),
    (with_a_masked_row, 'candidate 2 has a row, but is masked: leave it out'),
    (lambda t: spoiled(t, 0, condition='rain'), "unknown condition 'rain'; known: calm"),
    (lambda t: t.iloc[:0], "condition 'calm' has no rows"),
  ],
)
def test_mistakes_name_the_first_place(tables, targets, spoil, message):
  given = as_probabilities(tables)
  given = given._replace(choices=spoil(given.choices))
  with pytest.raises(ValueError, match=message):
    back(given, targets)


def test_what_is_impossible_is_refused(tables, targets):
  choices = as_probabilities(tables).choices
  first = (choices.user == 0) & (choices.shots == 0) & (choices['query'] == 0)
  choices.loc[first, PROBABILITY] = [0.0, 1.0, 0.0]
  with pytest.raises(ValueError, match=f'{HERE}, candidate 0: probability 0; it must be above 0'):
    back(Submission(choices, tables.picks), targets)
  choices.loc[first, PROBABILITY] = [-0.5, 1.0, 0.5]
  with pytest.raises(ValueError, match=r'probability -0\.5; it must be above 0'):
    back(Submission(choices, tables.picks), targets)


@pytest.mark.parametrize(
  ('spoil', 'message'),
  [
    (lambda t: t.iloc[1:], r"condition 'calm', user 0, shots 0, slate 0, response \d has no row"),
    (lambda t: spoiled(t, 0, score=np.nan), r'slate 0, response \d score is not finite'),
    (lambda t: spoiled(t, 0, slate=2), 'slate must be among 0..1'),
  ],
)
def test_mistakes_in_picks_name_the_first_place(tables, targets, spoil, message):
  with pytest.raises(ValueError, match=message):
    back(tables._replace(picks=spoil(tables.picks)), targets)


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    (lambda t: t.drop(columns='query'), 'has columns .*expected condition, user, shots, query'),
    (lambda t: t.assign(probability=0.5), 'has columns .*log_probability, probability; expected'),
    (lambda t: t.assign(user=0.5), 'user must be whole numbers, got float64'),
    (lambda t: t.assign(log_probability='no'), 'log_probability must be floating point'),
  ],
)
def test_tables_of_another_kind_are_refused(tables, tmp_path, change, message):
  change(tables.choices).to_parquet(tmp_path / 'wrong.parquet')
  with pytest.raises(ValueError, match=message):
    submissions.read_submission([tmp_path / 'wrong.parquet'])


def test_files_that_do_not_fit_together_are_refused(tables, tmp_path):
  paths = [tmp_path / f'{name}.parquet' for name in 'abc']
  tables.choices.to_parquet(paths[0])
  as_probabilities(tables).choices.to_parquet(paths[1])
  tables.picks.to_parquet(paths[2])
  with pytest.raises(ValueError, match='give probability in all tables of choices, or'):
    submissions.read_submission(paths)
  with pytest.raises(ValueError, match='no table with columns condition, user'):
    submissions.read_submission(paths[2:])
  (tmp_path / 'text.parquet').write_text('no table')
  with pytest.raises(ValueError, match=r'text\.parquet cannot be read as parquet'):
    submissions.read_submission([tmp_path / 'text.parquet'])


def test_metrics_of_picks_are_all_that_slates_measure():
  tasks, truth = evaluation_sets.users()
  made = evaluation_sets.noisy(tasks, truth, 0.1)
  observed = metrics.numerators(made, tasks, truth, rival=1)
  names = {name for group, values in observed.items() if group != 'query' for name in values}
  assert set(submissions.OF_PICKS) == names
