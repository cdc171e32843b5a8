"""The estimator against scikit-learn's own checks, and against its logistic regression."""

import pathlib
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import sklearn
from sklearn import linear_model, model_selection, pipeline, preprocessing
from sklearn.utils import estimator_checks

from metapers.serving.estimator import PreferenceEstimator
from metapers.serving.personalizer import Personalizer, pairs

ROOT = pathlib.Path(__file__).parents[2]
ODD = 'made of an odd number of columns, which are no two candidates; run on AnyMatrix below'
OF_ODD_WIDTHS = (
  'check_fit_score_takes_y', 'check_dont_overwrite_parameters', 'check_estimators_dtypes',
  'check_pipeline_consistency', 'check_estimators_nan_inf', 'check_estimators_pickle',
  'check_f_contiguous_array_estimator', 'check_supervised_y_2d',
  'check_methods_sample_order_invariance', 'check_methods_subset_invariance',
  'check_dict_unchanged', 'check_fit2d_predict1d',
)  # fmt: skip
EXPECTED = dict.fromkeys(OF_ODD_WIDTHS, ODD) | {
  'check_classifier_data_not_an_array': 'a row has the same candidate twice; run on AnyMatrix',
  'check_classifiers_one_label': 'that the second was always preferred says what its features are '
  'worth, and not that the second will always be',
}
WIDE = {*OF_ODD_WIDTHS, 'check_classifier_data_not_an_array'}


class AnyMatrix(PreferenceEstimator):
  """Reads every row as a candidate against a constant one, so that checks of any width run."""

  def _pairs(self, X):
    return np.stack([np.full_like(X, 0.01), X], 1)


def name_of(check):
  return getattr(check, 'func', check).__name__


@estimator_checks.parametrize_with_checks(
  [PreferenceEstimator()], expected_failed_checks=lambda estimator: EXPECTED, xfail_strict=True
)
def test_it_keeps_the_rules_of_scikit_learn(estimator, check):
  check(estimator)


@pytest.mark.parametrize(
  ('estimator', 'check'),
  [
    pytest.param(estimator, check, id=f'{name_of(check)}-{number}')
    for number, (estimator, check) in enumerate(
      estimator_checks.estimator_checks_generator(AnyMatrix())
    )
    if name_of(check) in WIDE
  ],
)
def test_rules_whose_checks_have_odd_widths_are_kept_too(estimator, check):
  check(estimator)


def people(num_users, num_pairs, *, width=4, seed=0, shared=0.0):
  """Draws pairs of people with linear preferences, Bradley and Terry's noise and all."""
  rng = np.random.default_rng(seed)
  weights = shared + 2 * rng.normal(size=(num_users, width))
  users = np.repeat(np.arange(num_users), num_pairs)
  pairs = rng.normal(size=(users.size, 2, width)) * [1, 10, 0.1, 3][:width]
  gap = (pairs[:, 1] - pairs[:, 0]) / [1, 10, 0.1, 3][:width]
  chance = 1 / (1 + np.exp(-(weights[users] * gap).sum(-1)))
  return pairs.reshape(len(pairs), -1), (rng.random(len(pairs)) < chance).astype(int), users


def test_one_persons_pairs_are_read_by_logistic_regression():
  X, y, _ = people(1, 200)
  found = PreferenceEstimator().fit(X, y)
  items = np.unique(X.reshape(-1, 4), axis=0)
  gap = (X[:, 4:] - X[:, :4]) / items.std(0)
  expected = linear_model.LogisticRegression(C=1, fit_intercept=False, tol=1e-8).fit(gap, y)
  one = found.model_.user(found.profiles_, 0)
  first, second = (found.model_.score(one, X[:, part]) for part in (slice(4), slice(4, None)))
  np.testing.assert_allclose(second - first, gap @ expected.coef_[0], rtol=2e-2, atol=2e-2)
  assert np.mean(found.predict(X) == expected.predict(gap)) > 0.99
  assert found.score(X, y) == np.mean(found.predict(X) == y)


def test_swapping_the_candidates_swaps_the_chances():
  X, y, users = people(3, 20)
  found = PreferenceEstimator(learner=None).fit(X, y, users=users)
  swapped = np.roll(X, 4, axis=1)
  np.testing.assert_allclose(
    found.predict_proba(X, users), found.predict_proba(swapped, users)[:, ::-1], atol=1e-5
  )
  ones = PreferenceEstimator(learner=None).fit(swapped, 1 - y, users=users)
  np.testing.assert_allclose(ones.predict_proba(X, users), found.predict_proba(X, users), atol=1e-4)


def test_whoever_puts_the_preferred_one_first_has_one_label():
  X, y, _ = people(1, 60)
  first = np.where(y[:, None] == 1, np.roll(X, 4, axis=1), X)
  found = PreferenceEstimator().fit(first, np.zeros(60, int))
  assert found.classes_.tolist() == [0, 1]
  expected = PreferenceEstimator().fit(X, y)
  np.testing.assert_allclose(found.predict_proba(X), expected.predict_proba(X), atol=1e-4)
  with pytest.raises(ValueError, match=r'y has one class, .*yes.*: whether it is the first'):
    PreferenceEstimator().fit(X, ['yes'] * 60)


def test_each_of_many_is_predicted_by_their_own_pairs_and_somebody_new_by_all():
  X, y, users = people(40, 30, shared=3.0)
  given, asked = np.arange(len(y)) % 30 < 20, np.arange(len(y)) % 30 >= 20
  estimator = PreferenceEstimator(num_steps=300, learning_rate=0.03)
  estimator.fit(X[given], y[given], users=users[given])
  own = estimator.score(X[asked], y[asked], users=users[asked])
  nobody = estimator.score(X[asked], y[asked])
  others = estimator.score(X[asked], y[asked], users=(users[asked] + 1) % 40)
  alone = PreferenceEstimator(learner=None).fit(X[given], y[given], users=users[given])
  assert own > max(nobody, others, alone.score(X[asked], y[asked], users=users[asked])) + 0.02
  assert nobody > 0.75
  everybody = np.full(asked.sum(), 'somebody else')
  with pytest.warns(UserWarning, match=r"none of these users \('somebody else', .*40 \('0', "):
    assert estimator.score(X[asked], y[asked], users=everybody) == nobody
  assert repr(estimator.model_).endswith(
    'trained on people given to fit, 40 people; holds the last 64 comparisons of a person)'
  )


def test_people_are_told_apart_by_their_text_and_the_order_of_rows_is_nothing():
  X, y, users = people(3, 8)
  names = np.array(['007', '7', 'nan'])[users]
  found = PreferenceEstimator(learner=None).fit(X, y, users=names)
  assert found.users_.tolist() == ['007', '7', 'nan']
  alone = PreferenceEstimator().fit(X[users == 1], y[users == 1])
  assert found.model_.user(found.profiles_, 1).history.mask.sum() == 8
  shuffled = np.random.default_rng(0).permutation(len(y))
  again = PreferenceEstimator(learner=None).fit(X[shuffled], y[shuffled], users=names[shuffled])
  np.testing.assert_allclose(
    found.predict_proba(X[shuffled], names[shuffled]),
    again.predict_proba(X, names)[shuffled],
    atol=1e-4,
  )
  assert np.abs(found.predict_proba(X, names) - alone.predict_proba(X)).max() > 0.1


def test_people_are_the_same_as_floats_which_pandas_makes_of_them():
  X, y, users = people(3, 8)
  found = PreferenceEstimator(learner=None).fit(X, y, users=users)
  expected = found.predict_proba(X, users)
  several = pd.Series([*users, None])[:-1]
  assert several.dtype == np.float64
  for given in (several, users.astype(np.float32), [str(one) for one in users]):
    np.testing.assert_array_equal(found.predict_proba(X, given), expected)
  again = PreferenceEstimator(learner=None).fit(X, y, users=users + 0.5)
  assert again.users_.tolist() == ['0.5', '1.5', '2.5']


def test_a_trained_model_is_adapted_and_not_trained():
  model = Personalizer.load_pretrained()
  rng, scaling = np.random.default_rng(0), model.export.scaling
  X = (rng.normal(size=(30, 2, 10)) * scaling.scale + scaling.mean).reshape(30, 20)
  y = (X[:, 10] > X[:, 0]).astype(int)
  found = PreferenceEstimator(model).fit(X, y)
  assert found.model_ is model and sklearn.clone(found).model is model
  chosen = np.where(y[:, None] == 1, X[:, 10:], X[:, :10])
  rejected = np.where(y[:, None] == 1, X[:, :10], X[:, 10:])
  expected = model.probability(model.adapt(pairs(chosen, rejected)), X[:, :10], X[:, 10:])
  np.testing.assert_allclose(found.predict_proba(X)[:, 0], expected, atol=0.01)
  with pytest.raises(ValueError, match='the model reads 10 features of a candidate'):
    PreferenceEstimator(model).fit(X[:, :8], y)
  with pytest.raises(ValueError, match=r"must be a Personalizer or None, got 'latent_np'"):
    PreferenceEstimator('latent_np').fit(X, y)


def test_users_come_through_pipelines_and_cross_validation():
  X, y, users = people(6, 20)
  frame = pd.DataFrame(X, columns=[f'{which}_{i}' for which in 'ab' for i in range(4)])
  with sklearn.config_context(enable_metadata_routing=True):
    estimator = PreferenceEstimator(learner=None)
    estimator.set_fit_request(users=True).set_score_request(users=True)
    made = pipeline.make_pipeline(preprocessing.MaxAbsScaler().set_output(transform='pandas'),
                                  estimator)  # fmt: skip
    folds = model_selection.StratifiedKFold(3, shuffle=True, random_state=0)
    own = model_selection.cross_val_score(made, frame, y, cv=folds, params={'users': users})
  alone = model_selection.cross_val_score(PreferenceEstimator(), frame, y, cv=folds)
  assert own.mean() > alone.mean() + 0.05


@pytest.mark.parametrize(
  ('users', 'message'),
  [
    (['a', None, 'b'], 'it is not said whose pair 1 is'),
    ([1.0, np.nan, 2.0], 'it is not said whose pair 1 is'),
    (['a', 'b'], 'users must say of each pair whose it is: 3 of them, got 2'),
  ],
)
def test_pairs_of_nobody_are_refused(users, message):
  with pytest.raises(ValueError, match=message):
    PreferenceEstimator(learner=None).fit(np.arange(12.0).reshape(3, 4), [0, 1, 0], users=users)


def test_users_are_refused_where_the_fit_had_none_or_they_have_too_little_to_teach():
  X, y, users = people(3, 1)
  with pytest.raises(ValueError, match='the fit was given no users'):
    PreferenceEstimator().fit(X, y).predict(X, users=users)
  with pytest.raises(ValueError, match='got 3 people with at most 1; give users=, or a trained'):
    PreferenceEstimator().fit(X, y, users=users)


def test_the_example_of_the_documents_runs():
  document = (ROOT / 'docs' / 'data.md').read_text()
  code = document.partition('pipelines\n')[2].partition('```python\n')[2].partition('```')[0]
  X, y, users = people(5, 6)
  names = {'X': X, 'y': y, 'users': users, 'X_new': X[:4], 'users_new': ['new', 0, 1, 2]}
  names['pool'] = X.reshape(len(X), 2, -1)
  exec(code.replace('Estimator()', 'Estimator(num_steps=2)'), names)
  assert names['chances'].shape == (4, 2) and names['question'].shape == (2, 4)


def test_importing_the_package_does_not_import_scikit_learn():
  code = 'import sys, metapers; metapers.Personalizer; assert "sklearn" not in sys.modules'
  subprocess.run([sys.executable, '-c', code], check=True)
