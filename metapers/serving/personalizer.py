"""A trained learner that serves users: NumPy in, NumPy out.

  model = Personalizer.load_pretrained()
  ada = model.adapt(pairs(chosen, rejected))    # [N, D] each
  question = pool[model.ask(ada, pool)]         # [M, 2, D] -> [2, D]
  ada = model.update(ada, pairs(*question))     # the first was chosen
  reply = model.best_of(ada, candidates)        # [R, D] -> index

A profile is one user, or a million along a leading axis U: every method takes either. With many,
whatever is predicted has the leading U, too; `np.broadcast_to(x, (U, *x.shape))` shows the same to
all. Features may be a data frame, whose columns are matched by name with those of training. A
profile is a function of the context and of the comparisons kept, the last `capacity` of them, so
that a click costs the same forever and forgetting one leaves nothing of it. Their numbers are
`profile.history.ids`, real where `profile.history.mask`.
"""

import functools
import numbers
import os
import pathlib

import jax
import numpy as np

from metapers.core import surprise as alarms
from metapers.core.surprise import Surprise
from metapers.core.types import Any, Callable, Float, Int
from metapers.evaluation.stopping import Standing
from metapers.io import leaves, workdirs
from metapers.learners import Factory
from metapers.serving import adapting, changes, columns, exports, pretrained, profiles, sizes
from metapers.serving import comparisons as border
from metapers.serving import questions as serving
from metapers.serving.changes import Changes
from metapers.serving.columns import DataFrame, Rows
from metapers.serving.comparisons import Comparisons, pairs
from metapers.serving.exports import Export
from metapers.serving.profiles import History, Profile

CAPACITY = 64  # comparisons kept of a user

__all__ = ['CAPACITY', 'Comparisons', 'Personalizer', 'Profile', 'pairs']


class Personalizer:
  """A trained learner at work: pure methods on profiles.

  Sizes are padded to powers of two, and the first call of each compiles (0.3 to 1 s): before
  serving, warm up by one call of each kind and size.

  A learned posterior is not exact. Clicks that contradict each other, (x, y) and (y, x) n times
  each, leave an exact one undecided; a learned one (`latent_np`) can become sure of either.

  Args:
    export: the learner.
    learner: factory of a learner that is not in `learners.LEARNERS`: an export never imports what
      it names. Called with the kwargs of the export.
    capacity: comparisons kept of a user, whatever their weights; the oldest go first.

  Raises:
    ValueError: for an unknown learner that is not given, parameters that are not its own, or a
      capacity that is not a whole number from 1 up; before memory is taken for what would not fit.
  """

  def __init__(self, export: Export, *, learner: Factory | None = None, capacity: int = CAPACITY):
    if not isinstance(capacity, numbers.Integral) or capacity < 1:
      raise ValueError(f'capacity must be at least 1, a whole number; got {capacity!r}')
    made = exports.learner_of(exports.check_export('the export', export), learner)
    shapes = jax.eval_shape(made.init, jax.random.key(0))
    self.export, self.capacity, self._learner = export, int(capacity), learner
    self.num_features = export.scaling.mean.size - len(export.outcomes)
    self.num_context = export.num_context
    self._has_posterior = made.has_posterior
    self._params = leaves.rebuild(export.params, shapes)
    self._ask = serving.questions(made)
    self._model = exports.fingerprint(export)
    sizes.check_profile(self.export, self.capacity, lambda: self._like.user_state)

  def __repr__(self) -> str:
    export, data = self.export, exports.trained_in_words(self.export)
    context = f', a context of {self.num_context} numbers' if self.num_context else ''
    return (
      f'Personalizer({export.learner}, {self.num_features} features{context}, up to '
      f'{export.num_candidates} candidates, trained on {data}; holds the last '
      f'{self.capacity} comparisons of a person)'
    )

  def __reduce__(self) -> tuple[Callable, tuple]:
    # Of functions and jit nothing is pickled: they are made anew from the export.
    plain = {name: dict(getattr(self.export, name)) for name in ('kwargs', 'params', 'trained_on')}
    again = functools.partial(Personalizer, learner=self._learner, capacity=self.capacity)
    return again, (self.export._replace(**plain),)

  def __deepcopy__(self, memo: dict) -> 'Personalizer':
    return self  # nothing of it changes, and what is compiled is known by its functions

  @classmethod
  def from_checkpoint(
    cls, path: str | os.PathLike, *, learner: Factory | None = None, capacity: int = CAPACITY
  ) -> 'Personalizer':
    """Returns the learner of the export in a folder, or in the workdir of a finished run.

    Args:
      path: of either.
      learner: factory of a learner that is not in `learners.LEARNERS`.
      capacity: comparisons kept of a user.

    Raises:
      ValueError: if there is none, for the workdir of a table, naming its runs, for one that is not
        whole, or as the class does.
    """
    workdirs.require_run(path)
    inner = pathlib.Path(path) / exports.FOLDER
    export = exports.read_export(inner if exports.is_export(inner) else path)
    return cls(export, learner=learner, capacity=capacity)

  @classmethod
  def load_pretrained(
    cls, name: str = 'personal_llm_scores', *, scores: Rows | None = None, capacity: int = CAPACITY
  ) -> 'Personalizer':
    """Returns a model that comes with the package; its `export.about` says what it is.

    `personal_llm_scores`: a candidate is the raw scores of PersonalLLM's ten reward models, in the
    order of `export.feature_names`, or with `scores` of 2 to 16 others: its prior treats all alike.
    Trained on synthetic users of synthetic scores.

    Args:
      name: of the model.
      scores: raw scores [M, D] that D other reward models give to M typical replies, by whose means
        and standard deviations theirs are scaled; a data frame gives their names.
      capacity: comparisons kept of a user.

    Raises:
      ValueError: as `pretrained.read` and `pretrained.for_scores` do.
    """
    export = pretrained.read(name)
    if scores is not None:
      table = np.asarray(columns.one_array('scores', scores), np.float64)
      export = pretrained.for_scores(export, table, columns.names_of(scores))
    return cls(export, capacity=capacity)

  def adapt(
    self,
    comparisons: Comparisons | None = None,
    *,
    context: Float[np.ndarray, '*U C'] | None = None,
  ) -> Profile:
    """Returns the profile of a user, or of many, from their comparisons; None is a new user.

    Args:
      comparisons: by `pairs`, with weights, outcomes or confidence where known, of [N, D] one user,
        of [U, N, D] many: U users of a click each are [U, 1, D].
      context: [C] of one user, [U, C] of many, of a learner that reads one; kept in the profile.

    Raises:
      ValueError: for features, choices, ids, weights or contexts that cannot be, naming them.
    """
    given = self._nothing(context) if comparisons is None else comparisons
    users = border.users_of(given)
    read = border.as_context(context, users, self.export)
    return self._with(border.empty_history(users, self.export), read, given)

  def update(
    self,
    profile: Profile,
    comparisons: Comparisons,
    *,
    context: Float[np.ndarray, '*U C'] | None = None,
  ) -> Profile:
    """Returns a profile with comparisons added (to each of many users, as many along N).

    Args:
      profile: of one or many.
      comparisons: of the same users.
      context: in place of the one kept; None leaves that.

    Raises:
      ValueError: as `adapt`, and for an id that is there already.
    """
    history, kept = self._checked(profile), profile.context
    if context is not None:
      kept = border.as_context(context, history.ids.shape[:-1], self.export)
    return self._with(history, kept, comparisons)

  def forget(self, profile: Profile, comparison_id: int | Int[np.ndarray, '*U']) -> Profile:
    """Returns, bit for bit, the profile of the other comparisons kept.

    Nothing of it is left, so that `update` may give its id anew; ids of your own never return.

    Args:
      profile: of one or many.
      comparison_id: one, or [U] of many users, where -1 forgets nothing of that user.

    Raises:
      ValueError: for an id that is not there.
    """
    return self._of(profiles.without(self._checked(profile), comparison_id), profile.context)

  def changed(self, profile: Profile, *, hazard: float = changes.HAZARD) -> Changes:
    """Returns how likely preferences changed while the comparisons kept were made, and since when.

    `hazard`, at least 0 and below 1, is the chance of a change before each comparison.

    Raises:
      ValueError: for another one.
    """
    kept = self._checked(profile)
    return changes.find(self._ask, self._params, kept, profile.context, hazard)

  def forget_outdated(
    self, profile: Profile, *, level: float = changes.LEVEL, hazard: float = changes.HAZARD
  ) -> Profile:
    """Returns, bit for bit, the profile of comparisons outdated with less than `level`.

    Raises:
      ValueError: as `changed`, and for a level that is not above 0 and at most 1.
    """
    found = self.changed(profile, hazard=hazard)
    return self._of(changes.without_outdated(profile.history, found, level), profile.context)

  def user(self, profile: Profile, index: int | np.integer) -> Profile:
    """Returns the profile of one user out of those of many.

    Raises:
      ValueError: for a profile of one, or an index beyond the last.
    """
    self._checked(profile)
    return profiles.one_of(profile, index)

  def comparisons(self, profile: Profile) -> Comparisons:
    """Returns what is kept, unscaled: to adapt another model to (to the precision of float16)."""
    return border.as_comparisons(self._checked(profile), self.export)

  def score(self, profile: Profile, features: Rows) -> Float[np.ndarray, '*N']:
    """Returns expected utilities, in logits, of [N, D] or [D]; of [U, N, D] for many users.

    Raises:
      ValueError: for other shapes, or features that cannot be.
    """
    given = self._as_query(profile, features, '*N D')
    return self._predict(self._ask.score, profile, given[..., None, :])[..., 0]

  def best_of(
    self, profile: Profile, candidates: Float[np.ndarray, '*N R D'] | DataFrame
  ) -> Int[np.ndarray, '*N']:
    """Returns the index of the best candidate of [R, D]; of each [U, R, D] for many users.

    Raises:
      ValueError: for other shapes, or without candidates.
    """
    scores = self.score(profile, self._as_query(profile, candidates, 'R D'))
    if not scores.shape[-1]:
      raise ValueError('there is nothing to choose from; give at least one candidate, [R, D]')
    return np.asarray(np.argmax(scores, -1))

  def probability(self, profile: Profile, a: Rows, b: Rows) -> Float[np.ndarray, '*N']:
    """Returns the chance that a is chosen over b: [N, D] or [D] each, [U, N, D] for many users.

    Raises:
      ValueError: for other shapes, or features that cannot be.
    """
    return self._predict(self._ask.probability, profile, self._paired(profile, a, b))[..., 0]

  def uncertainty(self, profile: Profile, a: Rows, b: Rows) -> Float[np.ndarray, '*N']:
    """Returns how far that chance is unknown: its standard deviation under the posterior.

    Raises:
      ValueError: as `probability`, and if the learner has no posterior.
    """
    serving.check_posterior(self._has_posterior, self.export.learner)
    return self._predict(self._ask.spread, profile, self._paired(profile, a, b))[..., 0]

  def ask(
    self,
    profile: Profile,
    pool: Float[np.ndarray, '*U M K D'],
    *,
    count: int | np.integer | None = None,
  ) -> Int[np.ndarray, '...']:
    """Returns the index of the question of [M, K, D] from whose answer most is to be learned.

    It maximises the mutual information of the answer and the user, H(mean_s p_s) - mean_s H(p_s)
    under S draws from the posterior. With `count` the indices [count] of questions to be asked
    together, before any is answered, the best first: each adds most to what the answers to those
    before it would say, so that they do not repeat each other.

    Args:
      profile: of one or many.
      pool: M questions of at least two candidates K; [U, M, K, D] for many users.
      count: how many questions, 1 to M; each number compiles. None: one, as a number.

    Raises:
      ValueError: for other shapes, if the learner has no posterior, the pool is empty, or a count
        that it does not hold.

    Reference:
      Houlsby et al. 2011, arXiv:1112.5745 (BALD); Kirsch et al. 2019, arXiv:1906.08158 (BatchBALD).
    """
    serving.check_posterior(self._has_posterior, self.export.learner)
    given = self._as_query(profile, pool, 'M K D')
    serving.check_pool(given.shape[profile.history.ids.ndim - 1 :], count)
    if count is None:
      return np.asarray(np.argmax(self._predict(self._ask.information, profile, given), -1))
    places = self._predict(self._ask.batch(int(count)), profile, given)
    return np.asarray(np.argsort(places, -1)[..., :count])

  def stop(self, profile: Profile, candidates: Float[np.ndarray, '*U R D'] | DataFrame) -> Standing:
    """Returns how sure it is which of [R, D] the user likes best: when to stop asking.

    `stop(...).probability >= 0.9` is a rule that stops where nine of ten posterior draws agree
    (`num_samples` of the learner, so that few draws make few levels); how often it is then right is
    a property of the learner, which docs/people.md measures.

    Raises:
      ValueError: as `best_of`, and if the learner has no posterior.
    """
    serving.check_posterior(self._has_posterior, self.export.learner)
    best = self.best_of(profile, candidates)
    pool = self._as_query(profile, candidates, 'R D')[..., None, :, :]
    found = self._predict(self._ask.standing, profile, pool)[..., 0, :]
    return Standing(best, found[..., 0], found[..., 1])

  def surprise(self, profile: Profile) -> Surprise:
    """Returns how far the comparisons kept speak for preferences that no seen user had, by `hedge`.

    A probability of that needs the share of such users: `surprise.probability(prevalence)`. Where
    more than `capacity` comparisons were made, it is of the last ones.

    Raises:
      ValueError: if the learner weighs no members from outside against those from inside.
    """
    self._checked(profile)
    return alarms.found_in(profile.user_state, self.export.learner, profile.history.ids.ndim - 1)

  def save(self, profile: Profile, path: str | os.PathLike) -> pathlib.Path:
    """Writes a profile (of one or many) to one file, atomically, and returns the path."""
    self._checked(profile)
    return profiles.write_profile(profile, path)

  def load(self, path: str | os.PathLike) -> Profile:
    """Returns the profile in a file.

    Raises:
      FileNotFoundError: if there is no file.
      ValueError: for a file that is no profile, damaged or edited, of another version, or of
        another model.
    """
    return profiles.read_profile(path, self._like)

  @functools.cached_property
  def _like(self) -> Profile:
    # Shapes alone: no context is known for which the learner is sure to have a finite state.
    history = profiles.newest(border.empty_history((), self.export), self.capacity)
    context = np.zeros(self.num_context, np.float32)
    state = jax.eval_shape(self._ask.adapt, self._params, serving.support_of(history, context))
    return Profile(history, context, state, self._model)

  def _nothing(self, context: Any) -> Comparisons:
    users = np.shape(context)[:-1][:1] if self.num_context else ()
    size = (*users, 0)
    return Comparisons(np.zeros((*size, 2, self.num_features)), np.zeros(size, np.int32))

  def _checked(self, profile: Profile) -> History:
    if not isinstance(profile, Profile):
      raise ValueError(f'expected a profile, as adapt makes it, got {type(profile).__name__}')
    profiles.check_model(profile.model, self._model)
    return profile.history

  def _as_query(self, profile: Profile, features: Any, axes: str) -> np.ndarray:
    users = self._checked(profile).ids.shape[:-1]
    return border.as_query(columns.in_order(features, self.export.item_names), users, axes)

  def _paired(self, profile: Profile, a: Any, b: Any) -> Float[np.ndarray, '*N 2 D']:
    return border.paired(*(self._as_query(profile, each, '*N D') for each in (a, b)))

  def _with(self, kept: History, context: np.ndarray, given: Comparisons) -> Profile:
    border.check_shape(given, kept, self.export)

    def joined(rows: Any) -> History:
      users = kept.of(rows)
      return profiles.append(users, border.as_history(given.of(rows), users, self.export))

    longest = np.max(kept.mask.sum(-1) + given.num_real(), initial=0)
    return self._adapted(joined, context, int(longest))

  def _of(self, kept: History, context: np.ndarray) -> Profile:
    return self._adapted(kept.of, context, int(kept.mask.sum(-1).max(initial=0)))

  def _adapted(
    self, history_of: Callable[[Any], History], context: np.ndarray, longest: int
  ) -> Profile:
    kept, state = adapting.adapted(
      self._ask, self._params, history_of, context, longest=longest, capacity=self.capacity
    )
    return Profile(kept, context, state, self._model)

  def _predict(self, function: Callable, profile: Profile, features: np.ndarray) -> np.ndarray:
    scaled = border.scale(features, np.ones(features.shape[:-1], bool), self.export)
    many = profile.history.ids.ndim - 1
    return serving.query_users(function, self._params, profile.user_state, scaled, many=many)
