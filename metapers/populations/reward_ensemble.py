"""PersonalLLM's users: Dirichlet-weighted ensembles of reward models over prompts with R responses.

w_u ~ Dirichlet(α·1_B); reward of a response = w_u · z, with z the scores of the B reward models,
z-scored by train statistics. The user compares responses they are shown (`choice_rules`).

Reference: Zollo et al. 2024, arXiv:2409.20296. Unlike the paper, whose code is noiseless, draws
prompts with replacement and leaves out one response: choices may be noisy, an episode's prompts are
distinct, and all responses take part.
"""

from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from metapers.core import population, task
from metapers.core.population import FIXED_EPISODES, SPLITS, Population, Scaling, Spec
from metapers.core.tables import RewardTable
from metapers.core.types import Float
from metapers.populations import choice_rules, reward_episodes, simulated_noise, simulated_users
from metapers.populations.reward_episodes import Arrays, Layout
from metapers.populations.simulated_users import Users

TRACKS = ('scores', 'features')
NORMALIZATIONS = ('z', 'raw')
SAMPLE_OF_STREAM = 1024  # histories shown to `prepare` where the stream of users has no end


def score_scaling(table: RewardTable, normalization: str) -> Scaling:
  """Returns what makes z-scores, by the table's train statistics, or leaves scores raw.

  Raises:
    ValueError: for an unknown normalisation.
  """
  if normalization not in NORMALIZATIONS:
    raise ValueError(f'unknown normalization {normalization!r}; known: {", ".join(NORMALIZATIONS)}')
  if normalization == 'raw':
    return population.unscaled(len(table.reward_models))
  return Scaling(table.mean.astype(np.float32), table.std.astype(np.float32))


def feature_scaling(table: RewardTable) -> Scaling:
  """Returns what makes mean 0 and sd 1 over the real responses of the train prompts.

  Raises:
    ValueError: for a table without features.
  """
  if table.features is None:
    raise ValueError('this store holds no features; use track=scores or extract features')
  train = np.flatnonzero(table.prompt_split == 0)
  real = table.features[train][table.mask[train]].astype(np.float32)
  return Scaling(real.mean(0), np.maximum(real.std(0), 1e-6))


def scaled(values: np.ndarray, mask: np.ndarray, scaling: Scaling) -> Float[np.ndarray, 'P R D']:
  """Scales what is known of every response; 0 where masked."""
  return np.where(mask[..., None], (values - scaling.mean) / scaling.scale, 0).astype(np.float32)


def place(
  table: RewardTable, users: dict[str, Users], *, track: str, normalization: str
) -> tuple[Arrays, Scaling]:
  """Puts a table and its users on the device, and returns how the learner's features were scaled.

  Raises:
    ValueError: for an unknown track or normalisation, or a split without prompts.
  """
  if track not in TRACKS:
    raise ValueError(f'unknown track {track!r}; known: {", ".join(TRACKS)}')
  order = np.random.default_rng(0).permutation(len(table.prompt_split))  # cells hold mixed prompts
  prompts = {name: order[table.prompt_split[order] == i] for i, name in enumerate(SPLITS)}
  empty = [name for name, ids in prompts.items() if ids.size == 0]
  if empty:
    raise ValueError(f'no prompts in split {empty[0]!r} of the store; assign some in its manifest')
  scaling = score_scaling(table, normalization)
  rewards = features = scaled(table.rewards, table.mask, scaling)
  if track == 'features':
    scaling = feature_scaling(table)
    features = scaled(np.asarray(table.features), table.mask, scaling)
  arrays = Arrays(
    rewards=jnp.asarray(rewards),
    features=jnp.asarray(features),
    mask=jnp.asarray(table.mask),
    models=jnp.asarray(table.response_model, jnp.int32),
    prompts=jax.tree.map(jnp.asarray, prompts),
    users=users,
  )
  return arrays, scaling


def check_layout(layout: Layout, arrays: Arrays) -> None:
  """Refuses an episode that the store cannot fill.

  Raises:
    ValueError: naming what was asked and what there is.
  """
  if layout.pair_rule not in choice_rules.PAIR_RULES:
    known = ', '.join(choice_rules.PAIR_RULES)
    raise ValueError(f'unknown pair_rule {layout.pair_rule!r}; known: {known}')
  num_responses = arrays.mask.shape[1]
  most = num_responses if layout.pair_rule == 'best_of_k' else 2
  if not 2 <= layout.num_candidates <= most:
    raise ValueError(
      f'num_candidates must lie in 2..{most} under pair_rule={layout.pair_rule}, '
      f'got {layout.num_candidates}'
    )
  if layout.support_prompts not in ('train', 'held_out'):
    raise ValueError(
      f"support_prompts must be 'train' or 'held_out', got {layout.support_prompts!r}"
    )
  needed = layout.num_support + layout.num_query + layout.num_slates
  fewest = min(arrays.prompts, key=lambda name: arrays.prompts[name].size)
  if needed > arrays.prompts[fewest].size:
    raise ValueError(
      f'an episode of {needed} distinct prompts (num_support + num_query + num_slates) needs as '
      f'many in every split; {fewest!r} has {arrays.prompts[fewest].size}: lower one of the three'
    )
  if layout.num_support < 1 or layout.num_query < 1 or layout.num_slates < 0:
    raise ValueError(
      'num_support and num_query must be at least 1 and num_slates at least 0, got '
      f'{layout.num_support}, {layout.num_query} and {layout.num_slates}'
    )


def reward_ensemble(
  table: RewardTable,
  *,
  concentration: float | Sequence[float] = 0.05,
  temperature: float = 0.0,
  flip_rate: float = 0.0,
  label_accuracy: float | None = None,
  pair_rule: str = 'random',
  num_candidates: int = 2,
  track: str = 'scores',
  normalization: str = 'z',
  num_support: int = 16,
  num_query: int = 16,
  num_slates: int = 8,
  support_prompts: str = 'train',
  num_users: int = 0,
  num_held_out: int = 1000,
  weights: Mapping[str, Mapping[str, np.ndarray]] | None = None,
  seed: int = 0,
) -> Population:
  """Simulates PersonalLLM's users on a table of scores.

  Args:
    table: scores (and features) of P prompts with R responses.
    concentration: α of the Dirichlet; several give a population that mixes them equally.
    temperature: of P(k) ∝ exp(reward / temperature); 0 is noiseless.
    flip_rate: chance that the choice becomes a uniform other candidate.
    label_accuracy: sets the noise by how often the oracle agrees with the label: by temperature,
      solved by bisection over the population. None leaves both as given.
    pair_rule: one of `choice_rules.PAIR_RULES`.
    num_candidates: K.
    track: 'scores' (features are the z-scored scores, D = B) or 'features' (scores are hidden).
    normalization: 'z' (train statistics) or 'raw' rewards.
    num_support: comparisons to adapt to.
    num_query: comparisons to be judged on.
    num_slates: M whole slates for best-of-R picks.
    support_prompts: prompts of a held-out user's support: 'train', or 'held_out' (as the query's).
    num_users: U, a finite pool of train users with fixed histories of num_support + num_query
      comparisons; 0 is an endless stream (a bank of 2^17 users whose episodes are always new).
    num_held_out: users of each of the validation and test streams.
    weights: split -> reward model name -> [U] weights of given users, in place of Dirichlet draws.
    seed: of users; the three streams are disjoint.

  Returns:
    Population with `Truth`.

  Raises:
    ValueError: naming the option, what was given and what would do.

  Reference:
    Zollo et al. 2024, arXiv:2409.20296.
  """
  layout = Layout(
    pair_rule, num_candidates, num_support, num_query, num_slates, support_prompts, num_users
  )
  if num_users < 0 or num_held_out < 1:
    raise ValueError(
      'num_users must be at least 0 (a stream without end) and num_held_out at least 1, got '
      f'{num_users} and {num_held_out}'
    )
  sizes = {'train': num_users or simulated_users.STREAM_SIZE}
  sizes |= {'validation': num_held_out, 'test': num_held_out}
  users = simulated_users.draw(
    table.reward_models,
    sizes,
    concentration,
    temperature=temperature,
    flip_rate=flip_rate,
    weights=weights,
    seed=seed,
  )
  arrays, scaling = place(table, users, track=track, normalization=normalization)
  check_layout(layout, arrays)
  arrays, noise = simulated_noise.set_noise(arrays, layout, label_accuracy)
  record = {
    'source': table.source,
    'data': table.manifest_hash,
    'response_models': ', '.join(table.response_models),
    'track': track,
    'pair_rule': pair_rule,
    'support_prompts': support_prompts,
    'normalization': normalization,
    'concentration': '+'.join(str(alpha) for alpha in np.atleast_1d(concentration)),
    **noise,
  }
  return assemble(arrays, layout, record, scaling)


def assemble(
  arrays: Arrays, layout: Layout, record: dict[str, str | float], scaling: Scaling
) -> Population:
  """Ties arrays and an episode's layout into the functions of a `Population`."""
  keys = jax.random.split(jax.random.key(FIXED_EPISODES), len(SPLITS))
  fixed = dict(zip(SPLITS, keys))

  def episode_of(arrays, user, split):
    key = jax.random.fold_in(fixed[split], user)
    return reward_episodes.episode(arrays, user, key, split, layout)

  def sample_episode(arrays, key, split):
    key_user, key_episode = jax.random.split(key)
    user = jax.random.randint(key_user, (), 0, arrays.users[split].temperature.size)
    if split == 'train' and layout.num_users:
      pair = episode_of(arrays, user, split)
      return reward_episodes.reshuffle(pair, key_episode, layout.num_support)
    return reward_episodes.episode(arrays, user, key_episode, split, layout)

  def histories(arrays):
    def history(user):
      seen, _ = episode_of(arrays, user, 'train')
      return task.concat(seen.support, seen.query)

    return jax.lax.map(history, jnp.arange(layout.num_users or SAMPLE_OF_STREAM), batch_size=256)

  spec = Spec(
    num_features=arrays.features.shape[-1],
    num_candidates=layout.num_candidates,
    num_support=layout.num_support,
    num_query=layout.num_query,
    num_users=layout.num_users,
    num_context=0,
    num_held_out={name: arrays.users[name].temperature.size for name in SPLITS[1:]},
  )
  return Population(arrays, sample_episode, episode_of, histories, spec, record, scaling)
