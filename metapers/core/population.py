"""The protocol of a population: pure functions that turn device arrays into tasks."""

import types
from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from metapers.core import batches, task
from metapers.core.task import Candidates, Task, Truth
from metapers.core.types import Array, Bool, Callable, Features, Float, Int, PRNGKey, PyTree

HostOrDevice = np.ndarray | Array
SPLITS = ('train', 'validation', 'test')
SEEN = 'seen'  # known users of a finite pool, evaluated on what training never showed
DRAWN = 'Apache-2.0 (drawn by metapers)'  # licence of data that are drawn
CONSTANT = 1e-12  # of a column's largest value: what float64 leaves of a constant that was computed
FIXED_EPISODES = 0xE415  # seed of `episode_of`; no run is likely to have it


def vector(width: int) -> jax.ShapeDtypeStruct:
  """Returns the shape of a float32 vector, such as the D features of a candidate."""
  return jax.ShapeDtypeStruct((width,), jnp.float32)


class Spec(NamedTuple):
  """Static sizes that learners and evaluation are built from.

  features: tree of the shapes of ONE candidate's features; `vector(D)` where they are one array.
  num_candidates: K. num_support, num_query: N of either part of an episode.
  num_users: U, known users of the train split; 0 for an endless stream.
  num_held_out: distinct users of each split that can be evaluated: 'validation', 'test' and, where
    there is a finite pool, SEEN.
  num_histories, history_length: U and N of `Population.histories`, endless streams included.
  context: tree of the shapes of a task's context; `vector(0)` for none.
  feature_names: D names in order; () where they have none.
  outcomes: kinds of answers beside the plain choice, of `core.outcomes`, whose flags are the last
    columns of the features; K counts all outcomes of a pair.
  """

  features: PyTree
  num_candidates: int
  num_support: int
  num_query: int
  num_users: int
  num_held_out: dict[str, int]
  num_histories: int
  history_length: int
  context: PyTree = vector(0)
  feature_names: tuple[str, ...] = ()
  outcomes: tuple[str, ...] = ()

  @property
  def num_features(self) -> int:
    """D.

    Raises:
      ValueError: where the features of a candidate are no single vector.
    """
    return _width('features', self.features)

  @property
  def num_context(self) -> int:
    """C.

    Raises:
      ValueError: where a context is no single vector.
    """
    return _width('context', self.context)


class Scaling(NamedTuple):
  """How raw features become what a learner sees: (raw - mean) / scale; [D] each.

  In float64 where raw features are: their differences may be small beside them.
  """

  mean: Float[np.ndarray, 'D']
  scale: Float[np.ndarray, 'D']


def unscaled(num_features: int) -> Scaling:
  """Returns the scaling of features that are shown as they are."""
  return Scaling(np.zeros(num_features, np.float32), np.ones(num_features, np.float32))


def widened(scaling: Scaling, num_flags: int) -> Scaling:
  """Returns the scaling of features followed by columns that are shown as they are."""
  parts = zip(scaling, unscaled(num_flags))
  return Scaling(*(np.concatenate(each).astype(each[0].dtype) for each in parts))


class UserModel(NamedTuple):
  """How simulated users come about and choose.

  concentration: α of the Dirichlet that their weights come from. temperature: of
  P(k) ∝ exp(reward / temperature), 0 is noiseless. flip_rate: chance of a uniform other choice.
  """

  concentration: float
  temperature: float = 0.0
  flip_rate: float = 0.0


class Users(NamedTuple):
  """U simulated users, or one.

  weights: [U, B], each summing to 1. temperature, flip_rate: [U] of their choices. rule: [U], which
  of the simulation's pair rules shows them what they compare. statement: [U], the reward model that
  they say has most of their weight, -1 of who says nothing; None where nobody is asked.
  """

  weights: Float[Array, '*U B']
  temperature: Float[Array, '*U']
  flip_rate: Float[Array, '*U']
  rule: Int[Array, '*U']
  statement: Int[Array, '*U'] | None = None


class Responses(NamedTuple):
  """All responses to the P prompts of a split.

  prompts: [P] ids. features: [P, R, D], or a dict of arrays [P, R, ...]. rewards: [P, R, B].
  mask: [P, R], True where a response is real.
  """

  prompts: Int[Array, 'P']
  features: Features
  rewards: Float[Array, 'P R B']
  mask: Bool[Array, 'P R']


class Simulation(NamedTuple):
  """What is known of simulated users: static facts, and functions of the population's arrays.

  References, leak checks, settings, analyses and exports read these and nothing else, so that a new
  population is served by all of them. Each reward of a user is w·z, weights times reward models.

  reward_models: the B names, in the order of the rewards.
  users: `(arrays, split) -> Users` of one of SPLITS. None where weights do not describe a user.
  responses: `(arrays, split) -> Responses`. None where there are no slates of responses.
  user_models: those that users mix in equal shares; () where no Dirichlet describes them.
  choice_probabilities: `(candidates) -> [*T, N, K, Z]` of Z equally likely types of users, where
    users are of a few types; None where they are not.
  pair_rules: of `populations.choice_rules`; of several each user keeps to one.
  label_accuracies: how often a choice is the user's true favourite, of each user model and rule;
    () where it is not known. Titles quote it.
  response_models: the names that `Truth.slate_models` indexes.
  has_score_features: whether the features of a candidate are its rewards.
  normalization: 'z' or 'raw' scores; '' for rewards that are no scores.
  support_prompts: split of the prompts of a held-out user's support: 'train' or 'held_out'.
  excluded_model: reward model of which train and validation users have no weight, and test users
    at least `excluded_share`; '' for none.
  adversarial_share: of the known users, who lie: their choices follow no user model.
  prompt_texts: [P] the text of each prompt by its id, '' for none; None where they are not kept.
  has_statements: whether a task's context is what the user says of themselves, see
    `populations.statements`.
  """

  reward_models: tuple[str, ...]
  users: Callable[[PyTree, str], Users] | None = None
  responses: Callable[[PyTree, str], Responses] | None = None
  user_models: tuple[UserModel, ...] = ()
  choice_probabilities: Callable[[Candidates], Float[Array, '*T N K Z']] | None = None
  pair_rules: tuple[str, ...] = ('random',)
  label_accuracies: tuple[float, ...] = ()
  response_models: tuple[str, ...] = ()
  has_score_features: bool = False
  normalization: str = ''
  support_prompts: str = 'train'
  excluded_model: str = ''
  excluded_share: float = 0.0
  adversarial_share: float = 0.0
  prompt_texts: np.ndarray | None = None
  has_statements: bool = False


class ItemChoices(NamedTuple):
  """Comparisons of U people as rows of a table of items: [U, N] each."""

  chosen: Int[Array, '*U N']
  rejected: Int[Array, '*U N']
  mask: Bool[Array, '*U N']


class ItemPool(NamedTuple):
  """What real people compare: functions of the population's arrays.

  features: `(arrays) -> [I, D]` of the items, scaled; [I, 0] for one-hot ids. with_features:
  `(arrays, [I, D]) -> arrays` that show other features of the same items. choices:
  `(arrays, split) -> ItemChoices` of all people of a split. user_ids: `(arrays, split) -> [U]` ids
  of these people, as in the source.
  contexts: [I] the group (prompt, conversation) of each item, or None where there is none.
  texts: [I] the text of each item, or None where they have none.
  held_out: split -> [I], whether its people are queried on the item, which no other split shows; {}
    where all splits show the same items.
  """

  features: Callable[[PyTree], Float[Array, 'I D']]
  with_features: Callable[[PyTree, Array], PyTree]
  choices: Callable[[PyTree, str], ItemChoices]
  user_ids: Callable[[PyTree, str], np.ndarray]
  contexts: Int[np.ndarray, 'I'] | None = None
  texts: np.ndarray | None = None
  held_out: Mapping[str, Bool[np.ndarray, 'I']] = types.MappingProxyType({})


SampleEpisode = Callable[[PyTree, PRNGKey, str], tuple[Task, Truth | None]]
EpisodeOf = Callable[[PyTree, Int[Array, ''], str], tuple[Task, Truth | None]]
HistoriesOf = Callable[[PyTree], Task]


class Population(NamedTuple):
  """Users as data; build it by keywords.

  arrays: what lives on the device; pass it to jit as an ARGUMENT, never close over it (a closed
    over array becomes a constant of the program).
  sample_episode: `(arrays, key, split) -> (Task, Truth | None)`; pure and vmappable; `split` is
    static and one of SPLITS. Draws a user of that split and an episode of theirs.
  episode_of: `(arrays, user, split) -> (Task, Truth | None)`: the fixed episode of user number
    `user` of that split, or of SEEN; the same arguments give the same bits, on any device.
  histories: `(arrays) -> Task [U, ...]` of the known users, for `MetaLearner.start` and `prepare`:
    the support holds all that each did, of real people as many as an episode has, drawn once; the
    query is empty (N = 0).
  spec: the static sizes.
  scaling: what was done to raw features, for whoever brings features of their own.
  source: one line on where the users come from, shown with every result ('synthetic ...').
  content_hash: sha256 of the data: what a resumed run compares; '' for data that are drawn.
  record: what else is shown with results, by name; for display only.
  simulation: of simulated users; None for real people.
  items: what real people compare; None for simulated users.
  licence: of the data, in words, shown with episodes that are given away; '' where nobody says it.
  """

  arrays: PyTree
  sample_episode: SampleEpisode
  episode_of: EpisodeOf
  histories: HistoriesOf
  spec: Spec
  scaling: Scaling
  source: str
  content_hash: str = ''
  record: Mapping[str, str | float] = types.MappingProxyType({})
  simulation: Simulation | None = None
  items: ItemPool | None = None
  licence: str = ''


class Functions(NamedTuple):
  """The functions of a `Population`, of the same names; they depend on static options alone.

  Make them once for equal options (`functools.cache`): `jit` compiles for a function object, and
  what it has compiled for one population then serves all that are alike.
  """

  sample_episode: SampleEpisode
  episode_of: EpisodeOf
  histories: HistoriesOf


def varies(values: Float[np.ndarray, 'M D']) -> Bool[np.ndarray, 'D']:
  """Returns which columns are no constant: they differ by more than what rounding leaves of one.

  Rounding is that of the dtype in which they are given.
  """
  rounding = float(np.finfo(values.dtype).eps) if values.dtype.kind == 'f' else 0
  exact = values.astype(np.float64)
  return exact.std(0) > max(rounding, CONSTANT) * np.abs(exact).max(0, initial=0)


def scaling_of(values: Float[np.ndarray, 'M D']) -> Scaling:
  """Returns mean and standard deviation of each column, computed in float64.

  A constant column stays as it is, around 0; so does one that differs by rounding alone.
  """
  exact = values.astype(np.float64)
  return Scaling(exact.mean(0), np.where(varies(values), exact.std(0), 1))


def rows_of(
  features: Float[HostOrDevice, 'I D'], items: Int[HostOrDevice, '*N']
) -> Float[HostOrDevice, '*N W']:
  """Returns the features of some of I items; one-hot ids (W = I) where D is 0.

  I items have I² numbers of one-hot rows: only those that are asked for are made.
  """
  if features.shape[1]:
    return features[items]
  return jax.nn.one_hot(items, len(features), dtype=features.dtype)


def numbered(population: Population, items: ItemPool) -> Population:
  """Returns the same people, who are shown the numbers of items in the place of features: D = 1."""
  num_items = len(items.features(population.arrays))
  numbers = jnp.arange(num_items, dtype=jnp.float32)[:, None]
  return population._replace(arrays=items.with_features(population.arrays, numbers))


def fixed_key(split: str) -> PRNGKey:
  """Returns the key of the fixed episodes of a split, or of SEEN users."""
  names = (*SPLITS, SEEN)
  return jax.random.split(jax.random.key(FIXED_EPISODES), len(names))[names.index(split)]


def episode_shapes(population: Population, split: str) -> Task:
  """Returns the shapes of an episode of a split, whose support may be below num_support."""
  return jax.eval_shape(
    lambda arrays, key: population.sample_episode(arrays, key, split)[0],
    population.arrays,
    jax.random.key(0),
  )


def histories_of(episode_of: EpisodeOf, num_users: int) -> HistoriesOf:
  """Makes `Population.histories` of the fixed episodes of the first U = num_users train users."""

  def histories(arrays):
    def history(user):
      episode, _ = episode_of(arrays, user, 'train')
      everything = task.concat(episode.support, episode.query)
      nothing = jax.tree.map(lambda x: x[:0], everything)
      return episode._replace(support=everything, query=nothing)

    return batches.map_chunks(history, num_users, 256)

  return histories


def _width(name: str, shapes: PyTree) -> int:
  if not hasattr(shapes, 'shape') or len(shapes.shape) != 1:
    raise ValueError(
      f'this needs {name} that are one vector, got the tree {shapes}: give a learner that reads it'
    )
  return shapes.shape[0]
