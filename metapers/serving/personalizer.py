"""A trained learner that serves people: NumPy in, NumPy out.

  model = personalizer.Personalizer.load_pretrained()
  ada = model.adapt(personalizer.pairs(chosen, rejected))    # [N, D] each
  question = pool[model.ask(ada, pool)]                      # [M, 2, D] -> [2, D]
  ada = model.update(ada, personalizer.pairs(*question))     # the first was chosen
  reply = model.best_of(ada, candidates)                     # [R, D] -> index

A profile is one person, or a million along a leading axis U: every method takes either. With many,
whatever is asked has the leading U, too; `np.broadcast_to(x, (U, *x.shape))` shows the same to all.
What is known of a person is a function of the comparisons kept, the last `capacity` of them, so
that a click costs the same forever and forgetting one leaves nothing of it. Their numbers are
`profile.history.ids`, real where `profile.history.mask`.
"""

import functools
import numbers
import os
import pathlib

import jax
import numpy as np

from metapers import learners
from metapers.core import batches
from metapers.core.types import Any, Callable, Float, Int
from metapers.serving import comparisons as checks
from metapers.serving import exports, profile_files, profiles
from metapers.serving import questions as serving
from metapers.serving.comparisons import Comparisons, pairs
from metapers.serving.exports import Export
from metapers.serving.profiles import History, Profile

PRETRAINED = pathlib.Path(__file__).parent / 'pretrained'
CAPACITY = 64  # comparisons kept of a person

__all__ = ['CAPACITY', 'Comparisons', 'Personalizer', 'Profile', 'pairs']


class Personalizer:
  """A trained learner at work: pure methods on profiles.

  Sizes are padded to powers of two, and the first call of each compiles (0.3 to 1 s): before
  serving, warm up by one call of each kind and size.

  A learned posterior is not exact. Clicks that contradict each other, (x, y) and (y, x) n times
  each, leave an exact one undecided; the shipped `latent_np` can grow sure of either.

  Args:
    export: the learner.
    capacity: comparisons kept of a person; the oldest go first.

  Raises:
    ValueError: for an unknown learner, parameters that are not its own, or a capacity that is no
      whole number from 1 up.
  """

  def __init__(self, export: Export, *, capacity: int = CAPACITY):
    if not isinstance(capacity, numbers.Integral) or capacity < 1:
      raise ValueError(f'capacity must be at least 1, a whole number; got {capacity!r}')
    learner = learners.make(export.learner, **exports.check('the export', export).kwargs)
    shapes = jax.eval_shape(learner.init, jax.random.key(0))
    self.export, self.capacity = export, int(capacity)
    self.num_features = export.scaling.mean.size
    self._num_draws = serving.num_draws(learner, self.num_features)
    self._params = exports.rebuild(export.params, shapes)
    self._ask = serving.questions(learner)
    self._model = exports.fingerprint(export)

  @classmethod
  def from_checkpoint(cls, path: str | os.PathLike, *, capacity: int = CAPACITY) -> 'Personalizer':
    """Loads the export in a folder, or in the workdir of a finished run of experiments.train.

    Raises:
      ValueError: if there is none, or it is not whole.
    """
    inner = pathlib.Path(path) / exports.FOLDER
    return cls(exports.read(inner if exports.is_export(inner) else path), capacity=capacity)

  @classmethod
  def load_pretrained(
    cls, name: str = 'personal_llm_scores', *, capacity: int = CAPACITY
  ) -> 'Personalizer':
    """Loads a model that comes with the package; its `export.about` says what it is.

    `personal_llm_scores`: a candidate is the raw scores of PersonalLLM's ten reward models, in the
    order of `export.feature_names`. Trained on synthetic users of synthetic scores.

    Raises:
      ValueError: for an unknown name; lists the known ones.
    """
    known = sorted(entry.name for entry in PRETRAINED.iterdir() if exports.is_export(entry))
    if name not in known:
      raise ValueError(f'unknown pretrained model {name!r}; known: {", ".join(known)}')
    return cls.from_checkpoint(PRETRAINED / name, capacity=capacity)

  def adapt(self, comparisons: Comparisons | None = None) -> Profile:
    """Makes the profile of a person, or of many, from their comparisons; None is a stranger.

    By `pairs` of [N, D] one person, of [U, N, D] many: U people of a click each are [U, 1, D].

    Raises:
      ValueError: for features, choices or ids that cannot be, naming them.
    """
    given = pairs(*np.zeros((2, 0, self.num_features))) if comparisons is None else comparisons
    return self._with(checks.nothing(checks.people_of(given), self.export), given)

  def update(self, profile: Profile, comparisons: Comparisons) -> Profile:
    """Adds comparisons to a profile (of each of many people, as many along N).

    Raises:
      ValueError: as `adapt`, and for an id that is there already.
    """
    return self._with(self._checked(profile), comparisons)

  def forget(self, profile: Profile, comparison_id: int | Int[np.ndarray, '*U']) -> Profile:
    """Takes a comparison out: bit for bit the profile of the other comparisons kept.

    Nothing of it is left, so that `update` may give its id anew; ids of your own never return.

    Args:
      profile: of one or many.
      comparison_id: one, or [U] of many people, where -1 forgets nothing of that person.

    Raises:
      ValueError: for an id that is not there.
    """
    return self._adapted(profiles.without(self._checked(profile), comparison_id))

  def person(self, profile: Profile, index: int | np.integer) -> Profile:
    """Takes one person out of a profile of many.

    Raises:
      ValueError: for a profile of one, or an index beyond the last.
    """
    self._checked(profile)
    return profiles.person(profile, index)

  def comparisons(self, profile: Profile) -> Comparisons:
    """Returns what is kept, unscaled: to adapt another model to (to the precision of float16)."""
    return checks.as_given(self._checked(profile), self.export)

  def score(self, profile: Profile, features: Float[np.ndarray, '*N D']) -> Float[np.ndarray, '*N']:
    """Returns expected utilities, in logits, of [N, D] or [D]; of [U, N, D] for many people.

    Raises:
      ValueError: for other shapes, or features that cannot be.
    """
    given = self._given(profile, features, '*N D')
    return self._answer(self._ask.score, profile, given[..., None, :])[..., 0]

  def best_of(
    self, profile: Profile, candidates: Float[np.ndarray, '*N R D']
  ) -> Int[np.ndarray, '*N']:
    """Returns the index of the best candidate of [R, D]; of each [U, R, D] for many people.

    Raises:
      ValueError: for other shapes, or without candidates.
    """
    scores = self.score(profile, self._given(profile, candidates, 'R D'))
    if not scores.shape[-1]:
      raise ValueError('there is nothing to choose from; give at least one candidate, [R, D]')
    return np.asarray(np.argmax(scores, -1))

  def probability(
    self, profile: Profile, a: Float[np.ndarray, '*N D'], b: Float[np.ndarray, '*N D']
  ) -> Float[np.ndarray, '*N']:
    """Returns the chance that a is chosen over b: [N, D] or [D] each, [U, N, D] for many people.

    Raises:
      ValueError: for other shapes, or features that cannot be.
    """
    return self._answer(self._ask.probability, profile, self._paired(profile, a, b))[..., 0]

  def uncertainty(
    self, profile: Profile, a: Float[np.ndarray, '*N D'], b: Float[np.ndarray, '*N D']
  ) -> Float[np.ndarray, '*N']:
    """Returns how far that chance is unknown: its standard deviation under the posterior.

    Raises:
      ValueError: as `probability`, and if the learner has no posterior.
    """
    self._need_posterior()
    return self._answer(self._ask.spread, profile, self._paired(profile, a, b))[..., 0]

  def ask(self, profile: Profile, pool: Float[np.ndarray, '*U M K D']) -> Int[np.ndarray, '*U']:
    """Returns the index of the question of [M, K, D] whose answer is expected to tell most.

    Of [U, M, K, D] for many people; a question has at least two candidates K.

    Raises:
      ValueError: for other shapes, if the learner has no posterior, or the pool is empty.
    """
    self._need_posterior()
    given = self._given(profile, pool, 'M K D')
    if not given.shape[-3] or given.shape[-2] < 2:
      needed = 'give at least one question M, of at least two candidates K'
      raise ValueError(f'the pool is empty: {needed}; got [..., M, K, D] = {list(given.shape)}')
    return np.asarray(np.argmax(self._answer(self._ask.information, profile, given), -1))

  def save(self, profile: Profile, path: str | os.PathLike) -> pathlib.Path:
    """Writes a profile (of one or many) to one file, atomically."""
    self._checked(profile)
    return profile_files.save(profile, path)

  def load(self, path: str | os.PathLike) -> Profile:
    """Reads a profile.

    Raises:
      FileNotFoundError: if there is no file.
      ValueError: for a file that is no profile, damaged or edited, of another version, or of
        another model.
    """
    return profile_files.from_bytes(pathlib.Path(path).read_bytes(), self.adapt())

  def _checked(self, profile: Profile) -> History:
    if not isinstance(profile, Profile):
      raise ValueError(f'expected a profile, as adapt makes it, got {type(profile).__name__}')
    profiles.check_model(profile.model, self._model)
    return profile.history

  def _need_posterior(self) -> None:
    if self._num_draws == 1:
      raise ValueError(
        f'{self.export.learner} has no posterior, so it cannot tell what it does not know; these '
        f'have one: {", ".join(serving.with_posterior())}'
      )

  def _given(self, profile: Profile, features: Any, axes: str) -> np.ndarray:
    return checks.as_asked(features, self._checked(profile).ids.shape[:-1], axes)

  def _paired(self, profile: Profile, a: Any, b: Any) -> Float[np.ndarray, '*N 2 D']:
    return checks.paired(*(self._given(profile, each, '*N D') for each in (a, b)))

  def _with(self, kept: History, given: Comparisons) -> Profile:
    return self._adapted(profiles.append(kept, checks.as_history(given, kept, self.export)))

  def _adapted(self, history: History) -> Profile:
    many = history.ids.ndim - 1
    longest = int(history.mask.sum(-1).max(initial=0))
    size = min(serving.power_of_two(longest), self.capacity) if many else self.capacity
    kept = profiles.newest(history, size)
    support = serving.Support(kept.features, kept.shown, kept.choice)
    adapt = functools.partial(serving.adapt, self._ask, self._params)
    return Profile(kept, batches.for_one_or_many(adapt, support, many), self._model)

  def _answer(self, function: Callable, profile: Profile, features: np.ndarray) -> np.ndarray:
    scaled = checks.scale(features, np.ones(features.shape[:-1], bool), self.export)
    many = profile.history.ids.ndim - 1
    return serving.answer(function, self._params, profile.user_state, scaled, many=many)
