"""PersonalLLM's users: Dirichlet-weighted ensembles of reward models over prompts with R responses.

w_u ~ Dirichlet(α·1_B); reward of a response = w_u · z, with z the scores of the B reward models,
z-scored by train statistics. The user compares responses they are shown (`choice_rules`).

Reference: Zollo et al. 2024, arXiv:2409.20296. Unlike the paper, whose code is noiseless, draws
prompts with replacement and leaves out one response: choices may be noisy, an episode's prompts are
distinct, and all responses take part.
"""

import functools
from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from metapers.core import outcomes as answering
from metapers.core import population
from metapers.core.outcomes import Answers
from metapers.core.population import (
  SEEN,
  SPLITS,
  Functions,
  Population,
  Responses,
  Simulation,
  Spec,
  UserModel,
  Users,
)
from metapers.core.tables import RewardTable
from metapers.core.types import Any
from metapers.populations import (
  choice_rules,
  reward_arrays,
  reward_episodes,
  simulated_noise,
  simulated_users,
)
from metapers.populations.reward_episodes import Arrays, Layout

SAMPLE_OF_STREAM = 1024  # histories shown to `prepare` where the stream of users has no end


def rules_of(pair_rule: str | Sequence[str]) -> tuple[str, ...]:
  """Returns the pair rules, of one or several.

  Raises:
    ValueError: for none, or an unknown one.
  """
  rules = (pair_rule,) if isinstance(pair_rule, str) else tuple(pair_rule)
  if not rules or not set(rules) <= set(choice_rules.PAIR_RULES):
    known = ', '.join(choice_rules.PAIR_RULES)
    raise ValueError(f'unknown pair_rule {", ".join(rules) or "()"}; known: {known}')
  return rules


def check_layout(layout: Layout, arrays: Arrays) -> None:
  """Refuses an episode that the store cannot fill.

  Raises:
    ValueError: naming what was asked and what there is.
  """
  most = arrays.mask.shape[1] if layout.pair_rules == ('best_of_k',) else 2
  if not 2 <= layout.num_candidates <= most:
    raise ValueError(
      f'num_candidates must lie in 2..{most} under pair_rule={"+".join(layout.pair_rules)}, '
      f'got {layout.num_candidates}'
    )
  if layout.support_prompts not in ('train', 'held_out'):
    raise ValueError(
      f"support_prompts must be 'train' or 'held_out', got {layout.support_prompts!r}"
    )
  check_labels(layout)
  check_answers(layout)
  needed = max(layout.num_support + layout.num_query, layout.num_labels) + layout.num_slates
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


def check_labels(layout: Layout) -> None:
  """Refuses histories that nobody has, or that are too short to be divided."""
  if layout.num_labels and (layout.num_users == 0 or layout.num_labels < 2):
    raise ValueError(
      f'num_labels={layout.num_labels} labels of each known user need a finite pool (num_users, '
      f'which is {layout.num_users}) and at least 2 labels; 0 gives num_support + num_query'
    )


def check_answers(layout: Layout) -> None:
  """Refuses outcomes of what is no pair, or of a pair that was chosen by the user's own rewards."""
  if layout.answers.kinds and (layout.num_candidates > 2 or 'extreme' in layout.pair_rules):
    raise ValueError(
      f'outcomes={"+".join(layout.answers.kinds)} are of 2 candidates, not shown by pair_rule '
      f'extreme, got num_candidates={layout.num_candidates} and '
      f'pair_rule={"+".join(layout.pair_rules)}; use pair_rule=random or controversial'
    )


def answers_of(
  outcomes: Sequence[str], tie_width: float, outside_utility: float, strong_width: float
) -> Answers:
  """Returns what users may answer.

  Raises:
    ValueError: for an unknown outcome, or widths out of range.
  """
  kinds = answering.of_names(outcomes)
  widths = tie_width, outside_utility, strong_width
  if not np.isfinite(widths).all() or strong_width < 0:
    raise ValueError(
      'tie_width, outside_utility and strong_width must be finite, and strong_width at least 0; '
      f'got {tie_width}, {outside_utility} and {strong_width}'
    )
  given = {
    'tie_width': tie_width,
    'outside_utility': outside_utility,
    'strong_width': strong_width,
  }
  return Answers(kinds, tuple(answering.offset(kind, **given) for kind in kinds))


def reward_ensemble(
  table: RewardTable,
  *,
  concentration: float | Sequence[float] = 0.05,
  temperature: float = 0.0,
  flip_rate: float = 0.0,
  label_accuracy: float | Sequence[float] | None = None,
  pair_rule: str | Sequence[str] = 'random',
  num_candidates: int = 2,
  track: str = 'scores',
  normalization: str = 'z',
  num_support: int = 16,
  num_query: int = 16,
  num_slates: int = 8,
  support_prompts: str = 'train',
  num_users: int = 0,
  num_labels: int = 0,
  num_held_out: int = 1000,
  reward_models: Sequence[str] = (),
  responses: Sequence[int] = (),
  excluded_model: str = '',
  excluded_share: float = 0.5,
  adversaries: str = simulated_users.REVERSED,
  adversarial_share: float = 0.0,
  statement_rate: float = 0.0,
  outcomes: Sequence[str] = (),
  tie_width: float = 0.5,
  outside_utility: float = -1.0,
  strong_width: float = 1.0,
  weights: Mapping[str, Mapping[str, np.ndarray]] | None = None,
  seed: int = 0,
) -> Population:
  """Returns a population of PersonalLLM's simulated users on a table of scores.

  Args:
    table: scores (and features) of P prompts with R responses.
    concentration: α of the Dirichlet; several give a population that mixes them equally.
    temperature: of P(k) ∝ exp(reward / temperature); 0 is noiseless.
    flip_rate: chance that the choice becomes a uniform other candidate.
    label_accuracy: sets the noise by how often the oracle agrees with the label: by temperature,
      solved by bisection over the population; several are mixed equally. None leaves both as given.
    pair_rule: one of `choice_rules.PAIR_RULES`; of several each user keeps to one.
    num_candidates: K.
    track: 'scores' (features are the z-scored scores, D = B) or 'features' (scores are hidden).
    normalization: 'z' (train statistics) or 'raw' rewards.
    num_support: comparisons to adapt to.
    num_query: comparisons to be evaluated on.
    num_slates: M whole slates for best-of-R picks.
    support_prompts: prompts of a held-out user's support: 'train', or 'held_out' (as the query's).
    num_users: U, a finite pool of train users with fixed histories of num_support + num_query
      comparisons; 0 is an endless stream (a bank of 2^17 users whose episodes are always new).
    num_labels: comparisons that a user of the pool gives in all; 0 is num_support + num_query.
    num_held_out: users of each of the validation and test streams.
    reward_models: names of those to simulate users with; none takes the table's.
    responses: numbers (from 1) of those to show of each prompt; none shows all.
    excluded_model: name of a reward model b of which train and validation users have no weight,
      w_b = 0, and test users much, w_b >= excluded_share: preferences that nobody had.
    excluded_share: see above.
    adversaries: how some of the known users lie: 'reversed' answers the opposite of what they
      prefer, the name of a reward model always what it prefers. All others are honest.
    adversarial_share: of the known users who lie.
    statement_rate: how many users of every split say truly which reward model has most of their
      weight: `Task.context` is its one-hot [B] and whether anything is said.
    outcomes: what can be answered beside a plain choice, of `core.outcomes.KINDS`: 'tie',
      'both_bad' and 'strong' (much better). The query of who is not of a finite pool stays a forced
      choice of two. Features have one more column for each.
    tie_width: τ, in units of reward: without noise, who sees a smaller difference says "about the
      same".
    outside_utility: θ, reward of neither: without noise, who finds both worse says "both bad".
    strong_width: σ: without noise, who sees a larger difference says "much better".
    weights: split -> reward model name -> [U] weights of given users, in place of Dirichlet draws.
      What they were drawn from is not known then: there are no `simulation.user_models`.
    seed: of users; the three streams are disjoint.

  Returns:
    Population with `Truth`.

  Raises:
    ValueError: naming the option, what was given and what would do.

  Reference:
    Zollo et al. 2024, arXiv:2409.20296.
  """
  table = reward_arrays.restrict(table, reward_models, responses)
  sizes = num_candidates, num_support, num_query, num_slates
  answers = answers_of(outcomes, tie_width, outside_utility, strong_width)
  layout = Layout(rules_of(pair_rule), *sizes, support_prompts, num_users, num_labels, answers)
  users = simulated_users.draw(
    table.reward_models,
    simulated_users.counts_of(num_users, num_held_out),
    concentration,
    temperature=temperature,
    flip_rate=flip_rate,
    num_rules=len(layout.pair_rules),
    exclusion=simulated_users.exclusion_of(table.reward_models, excluded_model, excluded_share),
    weights=weights,
    statement_rate=statement_rate,
    seed=seed,
  )
  arrays, scaling = reward_arrays.place(table, users, track=track, normalization=normalization)
  check_layout(layout, arrays)
  arrays = arrays._replace(features=answering.widened(arrays.features, answers.kinds))
  scaling = population.widened(scaling, len(answers.kinds))
  alphas = () if weights else tuple(map(float, np.atleast_1d(concentration)))
  arrays, noise = simulated_noise.set_noise(arrays, layout, label_accuracy, np.size(concentration))
  lying = simulated_users.adversaries_of(table.reward_models, adversaries, adversarial_share)
  arrays = arrays._replace(users=simulated_users.poisoned(arrays.users, lying, seed))
  temperatures = np.unique(np.asarray(arrays.users['test'].temperature)).tolist()
  simulation = simulation_of(
    table,
    layout,
    user_models=tuple(UserModel(a, t, flip_rate) for a in alphas for t in temperatures),
    label_accuracies=noise.label_accuracies,
    has_score_features=track == 'scores',
    normalization=normalization,
    excluded_model=excluded_model,
    excluded_share=excluded_share if excluded_model else 0.0,
    adversarial_share=adversarial_share,
    has_statements=statement_rate > 0,
  )
  return Population(
    arrays=arrays,
    **functions(layout)._asdict(),
    spec=spec_of(arrays, layout, simulation.reward_models if track == 'scores' else ()),
    scaling=scaling,
    source=table.source,
    content_hash=table.manifest_hash,
    record=record_of(simulation, alphas, noise.temperatures, flip_rate)
    | {'adversaries': adversaries if lying else '', 'statement_rate': statement_rate}
    | ({'outcomes': joined(answers.kinds)} if answers.kinds else {}),
    simulation=simulation,
    licence=table.licence,
  )


def simulation_of(table: RewardTable, layout: Layout, **facts: Any) -> Simulation:
  """Returns what is known of simulated users: by their table, by their layout, and otherwise."""
  return Simulation(
    reward_models=tuple(table.reward_models),
    users=users_of,
    responses=responses_of,
    pair_rules=layout.pair_rules,
    response_models=tuple(table.response_models),
    support_prompts=layout.support_prompts,
    prompt_texts=table.prompt_texts,
    **facts,
  )


def record_of(
  simulation: Simulation,
  concentrations: Sequence[float],
  temperatures: Sequence[float],
  flip_rate: float,
) -> dict[str, str | float]:
  """Returns what is shown of a simulation, by name.

  Args:
    simulation: its facts.
    concentrations: that users mix; () where no Dirichlet describes them.
    temperatures: of each pair rule and label accuracy.
    flip_rate: of all users.
  """
  return {
    'reward_models': ', '.join(simulation.reward_models),
    'response_models': ', '.join(simulation.response_models),
    'pair_rule': joined(simulation.pair_rules),
    'support_prompts': simulation.support_prompts,
    'track': 'scores' if simulation.has_score_features else 'features',
    'normalization': simulation.normalization,
    'concentration': joined(concentrations),
    'temperature': joined(temperatures),
    'flip_rate': flip_rate,
    'label_accuracy': joined(simulation.label_accuracies),
    'excluded_model': simulation.excluded_model,
    'excluded_share': simulation.excluded_share,
    'adversarial_share': simulation.adversarial_share,
  }


def joined(values: Sequence[str | float]) -> str:
  """Returns values as text for people, with plus signs between them."""
  return '+'.join(value if isinstance(value, str) else f'{value:.3g}' for value in values)


def users_of(arrays: Arrays, split: str) -> Users:
  """Returns the users of a split."""
  return arrays.users[split]


def responses_of(arrays: Arrays, split: str) -> Responses:
  """Returns all responses to the prompts of a split."""
  prompts = arrays.prompts[split]
  return Responses(prompts, arrays.features[prompts], arrays.rewards[prompts], arrays.mask[prompts])


def spec_of(arrays: Arrays, layout: Layout, feature_names: tuple[str, ...]) -> Spec:
  """Returns the sizes of a population of simulated users."""
  held_out = {name: arrays.users[name].temperature.size for name in SPLITS[1:]}
  known, num_models = layout.of_train(), arrays.rewards.shape[-1]
  return Spec(
    features=population.vector(arrays.features.shape[-1]),
    num_candidates=layout.num_outcomes,
    num_support=layout.num_support,
    num_query=layout.num_query,
    num_users=layout.num_users,
    num_held_out=held_out | ({SEEN: layout.num_users} if layout.num_users else {}),
    num_histories=num_known(arrays, layout),
    history_length=known.num_support + known.num_query,
    context=population.vector(0 if arrays.users['train'].statement is None else num_models + 1),
    feature_names=(*feature_names, *layout.answers.kinds) if feature_names else (),
    outcomes=layout.answers.kinds,
  )


@functools.cache
def functions(layout: Layout) -> Functions:
  """Returns the functions that all populations of one layout share."""

  def episode_of(arrays, user, split):
    key = jax.random.fold_in(population.fixed_key(split), user)
    if split == SEEN:
      history = jax.random.fold_in(population.fixed_key('train'), user)
      return reward_episodes.revisit(arrays, user, (history, key), layout)
    own = layout.of_train() if split == 'train' else layout
    return reward_episodes.episode(arrays, user, key, split, own)

  def sample_episode(arrays, key, split):
    key_user, key_episode = jax.random.split(key)
    user = jax.random.randint(key_user, (), 0, arrays.users[split].temperature.size, jnp.int32)
    if split == 'train' and layout.num_users:
      pair = episode_of(arrays, user, split)
      return reward_episodes.reshuffle(pair, key_episode, layout.of_train().num_support)
    return reward_episodes.episode(arrays, user, key_episode, split, layout)

  def histories(arrays):
    return population.histories_of(episode_of, num_known(arrays, layout))(arrays)

  return Functions(sample_episode, episode_of, histories)


def num_known(arrays: Arrays, layout: Layout) -> int:
  """Returns of how many users `prepare` sees histories: all, or the first of a stream."""
  return layout.num_users or min(SAMPLE_OF_STREAM, arrays.users['train'].temperature.size)
