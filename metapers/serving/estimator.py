"""A classifier of scikit-learn over the Personalizer, for its pipelines and cross-validation.

  estimator = PreferenceEstimator().fit(X, y, users=users)  # [n, 2 D], which of both: 0 or 1
  estimator.predict_proba(X_new, users=users_new)           # [n, 2]

Needs scikit-learn: `pip install 'metapers[sklearn]'`.
"""

import warnings

import jax
import numpy as np

from metapers.core.types import Any, Float, Int
from metapers.serving import fitting
from metapers.serving.comparisons import Comparisons
from metapers.serving.fitting import Given
from metapers.serving.personalizer import CAPACITY, Personalizer
from metapers.serving.profiles import Profile

try:
  from sklearn import metrics, utils
  from sklearn.base import BaseEstimator, ClassifierMixin
  from sklearn.utils import multiclass, validation
except ModuleNotFoundError as error:
  raise ModuleNotFoundError(
    "PreferenceEstimator needs scikit-learn: pip install 'metapers[sklearn]'"
  ) from error

BOTH = (0, 1)


class PreferenceEstimator(ClassifierMixin, BaseEstimator):
  """Predicts which of two candidates a person prefers, from what they and others preferred.

  A row of X is a pair, the D features of the first candidate and then those of the second, as an
  array [n, 2 D] or a data frame. y says which was preferred: the smaller label stands for the first
  candidate, the larger for the second, such as 0 and 1. Swapping the candidates of a pair swaps its
  probabilities: no place in a pair is preferred to the other.

  One person's pairs are read by Bayesian logistic regression without an intercept, under a standard
  normal prior of the weights of standardised features. Where `users` tells many people apart, a
  learner is first trained across all of them, and then adapted to each. A `model` that is trained
  already is only adapted.

  With metadata routing, `set_fit_request(users=True)`, `set_score_request(users=True)` and so on
  bring `users` through cross-validation.

  Args:
    model: a trained `Personalizer` of D features, which keeps the last `capacity` pairs of each
      person; None fits one to the pairs given, which keeps all.
    learner: key of `learners.LEARNERS`, what is trained across many people; None trains nothing and
      reads each alone, as one person. Few people (fewer than some twenty) have little to teach.
    hidden: widths of the learner's hidden layers; () is linear in the features.
    num_steps: of its training.
    learning_rate: of its training; networks with hidden layers want a lower one, such as 3e-3.
    random_state: of its training: a whole number, a `RandomState`, or None for another each time.

  Attributes:
    classes_: [2], the labels of the first and of the second candidate.
    n_features_in_: 2 D.
    model_: the `Personalizer`, for all that it can do besides; `model_.export` can be written.
    profiles_: of `model_`, one for each of `users_`, and last that of somebody new.
    users_: the people of the fit, as text, sorted; [''] where `users` was not given.

  Reference:
    Bradley and Terry 1952 (Biometrika 39); MacKay 1992 (Neural Computation 4(5)).
  """

  def __init__(
    self,
    model: Any = None,
    *,
    learner: Any = 'bayes_head',
    hidden: Any = (),
    num_steps: Any = 500,
    learning_rate: Any = 0.02,
    random_state: Any = 0,
  ):
    # Of scikit-learn's rules: kept as they are given, and looked at by `fit`.
    self.model = model
    self.learner = learner
    self.hidden = hidden
    self.num_steps = num_steps
    self.learning_rate = learning_rate
    self.random_state = random_state

  def fit(self, X: Any, y: Any, users: Any = None) -> 'PreferenceEstimator':
    """Returns the estimator, fitted.

    Args:
      X: [n, 2 D] pairs, each person's in order.
      y: [n], which candidate was preferred.
      users: [n], whose pair it is, matched as text, 1.0 as 1; None where all are one person's.

    Raises:
      ValueError: for an odd number of columns or another one than the model's, labels that are not
        two, candidates that are alike, or people who cannot be told apart.
    """
    X, y = validation.validate_data(self, X, y, dtype=np.float64)
    features = self._pairs(X)
    self.classes_ = labels_of(y)
    self.users_, user = np.unique(as_ids(users, len(X)), return_inverse=True)
    self._has_users = users is not None
    given = Given(features, np.searchsorted(self.classes_, y), user)
    self.model_ = self._fitted_model(given)
    rows, mask = fitting.by_user(user, len(self.users_) + 1)  # one more, who has chosen nothing
    shown = np.repeat(mask[..., None], 2, -1)
    self.profiles_ = self.model_.adapt(Comparisons(features[rows], given.choice[rows], shown=shown))
    return self

  def predict_proba(self, X: Any, users: Any = None) -> Float[np.ndarray, 'n 2']:
    """Returns the chances that the first and the second candidate of each pair are preferred.

    Args:
      X: [n, 2 D] pairs.
      users: [n], whose; somebody whom the fit did not know counts as new. None: all are those of
        the one person of the fit, or, where it had `users`, of somebody new. It warns where the fit
        knew none of them.

    Raises:
      ValueError: for other columns than those of the fit, or users where the fit had none.
    """
    validation.check_is_fitted(self)
    X = np.asarray(validation.validate_data(self, X, dtype=np.float64, reset=False))
    features = self._pairs(X)
    place = self._places(users, len(features))
    present, index = np.unique(place, return_inverse=True)
    rows, mask = fitting.by_user(index, len(present))
    people = rows_of(self.profiles_, present)
    first = np.zeros(len(features))
    first[rows[mask]] = self.model_.probability(people, *np.moveaxis(features[rows], -2, 0))[mask]
    return np.stack([first, 1 - first], -1)

  def predict(self, X: Any, users: Any = None) -> np.ndarray:
    """Returns the label [n] of the preferred candidate of each pair, as `predict_proba` has it."""
    second = self.predict_proba(X, users)[:, 1] > 0.5
    return self.classes_[second.astype(int)]

  def score(self, X: Any, y: Any, sample_weight: Any = None, users: Any = None) -> float:
    """Returns the accuracy on pairs, weighted where weights are given."""
    return metrics.accuracy_score(y, self.predict(X, users), sample_weight=sample_weight)

  def __sklearn_tags__(self) -> Any:
    """Returns what scikit-learn is told of the estimator: it knows two classes."""
    tags = super().__sklearn_tags__()
    tags.classifier_tags.multi_class = False
    return tags

  def _pairs(self, X: Float[np.ndarray, 'n C']) -> Float[np.ndarray, 'n 2 D']:
    if X.shape[1] % 2:
      raise ValueError(
        f'a row of X is a pair: the features of the first candidate, then those of the second, an '
        f'even number of columns; got {X.shape[1]} feature(s)'
      )
    return X.reshape(len(X), 2, -1)

  def _fitted_model(self, given: Given) -> Personalizer:
    width, model = given.features.shape[-1], self.model
    if model is not None:
      if not isinstance(model, Personalizer):
        raise ValueError(f'model must be a Personalizer or None, got {model!r:.80}')
      if (model.num_features, model.num_context) != (width, 0):
        raise ValueError(
          f'the model reads {model.num_features} features of a candidate and a context of '
          f'{model.num_context}; got pairs of {width} features each, and no context can be given'
        )
      return model
    if self.learner is None or len(self.users_) == 1:
      export = fitting.standard(given)
    else:
      seed = utils.check_random_state(self.random_state).randint(2**31 - 1)
      training = fitting.training(self.num_steps, self.learning_rate)
      hidden = tuple(self.hidden)
      export = fitting.trained(given, self.learner, training, hidden=hidden, seed=seed)
    longest = int(np.bincount(given.user).max())
    return Personalizer(export, capacity=max(longest, CAPACITY))

  def _places(self, users: Any, count: int) -> Int[np.ndarray, 'n']:
    """Returns which of the profiles each pair is of."""
    if users is None:
      return np.full(count, len(self.users_) if self._has_users else 0)
    if not self._has_users:
      raise ValueError('the fit was given no users, so that all its pairs are of one person')
    known = {name: place for place, name in enumerate(self.users_.tolist())}
    ids = as_ids(users, count).tolist()
    if known.keys().isdisjoint(ids):
      warnings.warn(
        f'the fit knows none of these users ({ids[0]!r:.80}, ...), so that all are predicted as '
        f'somebody new; it knows {len(known)} ({next(iter(known))!r:.80}, ...): if that should be '
        'the same people, give users as in the fit',
        stacklevel=3,
      )
    return np.array([known.get(name, len(known)) for name in ids], int)


def labels_of(y: np.ndarray) -> np.ndarray:
  """Returns the labels [2] of the first and the second candidate.

  0 and 1 need not both occur: whoever puts the preferred candidate first has 0 alone.

  Raises:
    ValueError: for other labels that are not two.
  """
  multiclass.check_classification_targets(y)
  found = np.unique(y)
  if np.isin(found, BOTH).all():
    return np.array(BOTH, y.dtype)
  if len(found) > 2:
    kind = multiclass.type_of_target(y)
    raise ValueError(
      f'Only binary classification is supported. The type of the target is {kind}: y says which of '
      f'two candidates was preferred, got {len(found)} labels'
    )
  if len(found) < 2:
    raise ValueError(
      f'y has one class, {found[0]!r}: whether it is the first candidate is not known'
    )
  return found


def as_ids(users: Any, count: int) -> np.ndarray:
  """Returns whose each of `count` pairs is, as text: of 1 and 1.0, which pandas makes of it, '1'.

  Raises:
    ValueError: for another number of them, or one that is missing.
  """
  if users is None:
    return np.full(count, '')
  ids = validation.column_or_1d(users)
  if len(ids) != count:
    raise ValueError(f'users must say of each pair whose it is: {count} of them, got {len(ids)}')
  missing = [row for row, name in enumerate(ids.tolist()) if name is None or name != name]
  if missing:
    raise ValueError(f'users: it is not said whose pair {missing[0]} is; leave it out')
  return np.array([_named(name) for name in ids.tolist()])


def _named(name: Any) -> str:
  is_whole = isinstance(name, float | np.floating) and float(name).is_integer()
  return str(int(name) if is_whole else name)


def rows_of(profiles: Profile, index: Int[np.ndarray, 'U']) -> Profile:
  """Returns the profiles of some people out of many."""
  kept = (profiles.history, profiles.context, profiles.user_state)
  history, context, state = jax.tree.map(lambda x: x[index], kept)
  return Profile(history, context, state, profiles.model)
