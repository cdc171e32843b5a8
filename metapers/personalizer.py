"""A trained learner that serves people: NumPy in, NumPy out.

  model = personalizer.Personalizer.load_pretrained()
  ada = model.adapt(personalizer.pairs(chosen, rejected))    # [N, D] each
  question = pool[model.ask(ada, pool)]                      # [M, 2, D] -> [2, D]
  ada = model.update(ada, personalizer.pairs(*question))     # the first was chosen
  reply = model.best_of(ada, candidates)                     # [R, D] -> index

A profile is one person, or a million along a leading axis U: every method takes either. What is
known of a person is a function of the comparisons kept, the last `capacity` of them, so that a
click costs the same forever and forgetting one leaves nothing of it.
"""

import functools
import math
import os
import pathlib

import jax
import numpy as np

from metapers import learners
from metapers.core.types import Callable, Float, Int, PyTree
from metapers.evaluation import serving
from metapers.io import comparisons as checks
from metapers.io import exports, profiles
from metapers.io.comparisons import Comparisons, pairs
from metapers.io.exports import Export
from metapers.io.profiles import History, Profile

PRETRAINED = pathlib.Path(__file__).parent / 'pretrained'
CAPACITY = 64  # comparisons kept of a person

__all__ = ['CAPACITY', 'Comparisons', 'Personalizer', 'Profile', 'pairs']


class Personalizer:
  """A trained learner at work: pure methods on profiles.

  Args:
    export: the learner.
    capacity: comparisons kept of a person; the oldest go first.

  Raises:
    ValueError: for an unknown learner, or parameters that are not its own.
  """

  def __init__(self, export: Export, *, capacity: int = CAPACITY):
    if capacity < 1:
      raise ValueError(f'capacity must be at least 1, got {capacity}')
    learner = learners.make(export.learner, **exports.check('the export', export).kwargs)
    shapes = jax.eval_shape(learner.init, jax.random.key(0))
    self.export, self.capacity = export, capacity
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

    Raises:
      ValueError: for features, choices or ids that cannot be, naming them.
    """
    given = pairs(*np.zeros((2, 0, self.num_features))) if comparisons is None else comparisons
    kept = checks.nothing(np.shape(given.features)[:-3], self.export)
    return self._with(kept, given)

  def update(self, profile: Profile, comparisons: Comparisons) -> Profile:
    """Adds comparisons to a profile (of each of many people, as many along N).

    Raises:
      ValueError: as `adapt`, and for an id that is there already.
    """
    return self._with(self._checked(profile), comparisons)

  def forget(self, profile: Profile, comparison_id: int | Int[np.ndarray, '*U']) -> Profile:
    """Takes a comparison out: bit for bit the profile of the other comparisons kept.

    Raises:
      ValueError: for an id that is not there.
    """
    history = self._checked(profile)
    ids = np.broadcast_to(comparison_id, history.ids.shape[:-1])
    return self._adapted(profiles.without(history, ids))

  def comparisons(self, profile: Profile) -> Comparisons:
    """Returns what is kept, unscaled: to adapt another model to (to the precision of float16)."""
    return checks.as_given(self._checked(profile), self.export)

  def score(self, profile: Profile, features: Float[np.ndarray, '*N D']) -> Float[np.ndarray, '*N']:
    """Returns expected utilities, in logits; only differences mean anything."""
    return self._answer(self._ask.score, profile, np.asarray(features)[..., None, :])[..., 0]

  def best_of(
    self, profile: Profile, candidates: Float[np.ndarray, '*N R D']
  ) -> Int[np.ndarray, '*N']:
    """Returns the index of the candidate of highest utility.

    Raises:
      ValueError: without candidates.
    """
    scores = self.score(profile, candidates)
    if not np.shape(scores)[-1:] > (0,):
      raise ValueError('there is nothing to choose from; give at least one candidate, [R, D]')
    return np.asarray(np.argmax(scores, -1))

  def probability(
    self, profile: Profile, a: Float[np.ndarray, '*N D'], b: Float[np.ndarray, '*N D']
  ) -> Float[np.ndarray, '*N']:
    """Returns the chance that a is chosen over b."""
    return self._answer(self._ask.probability, profile, np.stack([a, b], -2))[..., 0]

  def uncertainty(
    self, profile: Profile, a: Float[np.ndarray, '*N D'], b: Float[np.ndarray, '*N D']
  ) -> Float[np.ndarray, '*N']:
    """Returns how far that chance is unknown: its standard deviation under the posterior.

    Raises:
      ValueError: if the learner has no posterior.
    """
    self._need_posterior()
    return self._answer(self._ask.spread, profile, np.stack([a, b], -2))[..., 0]

  def ask(self, profile: Profile, pool: Float[np.ndarray, '*U M K D']) -> Int[np.ndarray, '*U']:
    """Returns the index of the comparison whose answer is expected to tell most of the person.

    Raises:
      ValueError: if the learner has no posterior, or the pool is empty.
    """
    self._need_posterior()
    information = self._answer(self._ask.information, profile, np.asarray(pool))
    if not information.size:
      raise ValueError('the pool is empty; give at least one comparison, [M, K, D]')
    return np.asarray(np.argmax(information, -1))

  def save(self, profile: Profile, path: str | os.PathLike) -> pathlib.Path:
    """Writes a profile (of one or many) to one file, atomically."""
    self._checked(profile)
    return profiles.save(profile, path)

  def load(self, path: str | os.PathLike) -> Profile:
    """Reads a profile.

    Raises:
      ValueError: for a file that is none or damaged, of another version, or of another model.
    """
    return profiles.from_bytes(pathlib.Path(path).read_bytes(), self.adapt())

  def _checked(self, profile: Profile) -> History:
    profiles.check_model(profile.model, self._model)
    return profile.history

  def _need_posterior(self) -> None:
    if self._num_draws == 1:
      raise ValueError(
        f'{self.export.learner} has no posterior, so it cannot tell what it does not know; these '
        f'have one: {", ".join(serving.with_posterior())}'
      )

  def _with(self, kept: History, given: Comparisons) -> Profile:
    return self._adapted(profiles.append(kept, checks.as_history(given, kept, self.export)))

  def _adapted(self, history: History) -> Profile:
    many = history.ids.ndim - 1
    longest = int(profiles.is_real(history).sum(-1).max(initial=0))
    size = min(serving.power_of_two(longest), self.capacity) if many else self.capacity
    kept = profiles.newest(history, size)
    support = serving.Support(kept.features, kept.shown, kept.choice)
    adapt = functools.partial(serving.adapt, self._ask, self._params)
    return Profile(kept, _for_one_or_many(adapt, support, many), self._model)

  def _answer(self, function: Callable, profile: Profile, features: np.ndarray) -> np.ndarray:
    """Asks [*U, *N, K, D] of a profile: [*U, *N, ...]; N is padded, so that few shapes compile."""
    people = self._checked(profile).ids.shape[:-1]
    many = len(people)
    if features.ndim < many + 2 or features.shape[:many] != people:
      raise ValueError(
        f'a profile of {people[0] if many else "one"} needs features {[*people, "...", "D"]}, got '
        f'shape {list(features.shape)}; np.broadcast_to shares the same among many'
      )
    scaled = checks.scale(features, np.ones(features.shape[:-1], bool), self.export)
    middle = features.shape[many:-2]
    count = math.prod(middle)
    padded = np.zeros((*people, serving.power_of_two(count), *features.shape[-2:]), np.float32)
    padded[..., :count, :, :] = scaled.reshape(*people, count, *features.shape[-2:])
    each = functools.partial(serving.each, function, self._params)
    answer = _for_one_or_many(each, (profile.user_state, padded), many)
    answer = answer.take(np.arange(count), axis=many)
    if not np.isfinite(answer).all():
      raise ValueError(
        'the learner has no finite answer: the features lie too far from those of training'
      )
    return answer.reshape(*people, *middle, *answer.shape[many + 1 :])


def _for_one_or_many(function: Callable, person: PyTree, many: int) -> PyTree:
  if many:
    return function(person)
  return jax.tree.map(lambda x: x[0], function(jax.tree.map(lambda x: x[None], person)))
