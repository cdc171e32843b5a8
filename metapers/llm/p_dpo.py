"""P-DPO: a language model tuned by preferences, jointly with soft tokens of those who have them.

    made = p_dpo.p_dpo(model, base, num_users=20)
    optimizer = functools.partial(p_dpo.optimizer, user_learning_rate=0.03)
    result = meta_train(made.learner, population, training, frozen=made.frozen)
    log_probs = made.learner.predict(result.params, made.state_of(result.params, row, context), new)

Features of a candidate are a dict (see `Sequences`): a prompt padded on the left, a response padded
on the right, and what the reference model gives the response, which is computed once.
"""

import functools
from collections.abc import Hashable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from metapers.core import choice_model, masked, meta_learner, task
from metapers.core.meta_learner import Adapt, Loss, MetaLearner, Score
from metapers.core.population import HostOrDevice
from metapers.core.task import Candidates, Task
from metapers.core.types import Any, Array, Callable, Context, Features, Float, Params
from metapers.learners import options
from metapers.llm import lora, prompting, user_model
from metapers.llm.decoder import Decoder
from metapers.llm.layers import PROJECTIONS
from metapers.llm.prompting import Inputs
from metapers.llm.user_model import UserModel, UserState

MOST_KNOWN = 256  # users whose choices tell how sharp scores are


class Policy(NamedTuple):
  """A personalised language model; `p_dpo` makes it.

  learner: scores are β (log π(y|x,u) - log π_ref(y|x)); its `adapt` fits a new user with the model
    as it is.
  state_of: `(params, row, context) -> UserState` of a known user, or of an unknown one by the row
    num_users.
  frozen: names of the parameters that are not trained.
  users: the user model.
  adapter: of the low-rank changes; None where all parameters are trained.
  beta: β.
  """

  learner: MetaLearner
  state_of: Callable[[Params, Any, Context], UserState]
  frozen: tuple[str, ...]
  users: UserModel
  adapter: lora.Lora | None
  beta: int | float


def sequences(
  prompt: HostOrDevice,
  prompt_mask: HostOrDevice,
  response: HostOrDevice,
  response_mask: HostOrDevice,
) -> dict[str, HostOrDevice]:
  """Returns the features of candidates, with 0 for what the reference model says.

  Args:
    prompt: [..., L] tokens, padded on the left; the first real one begins every text.
    prompt_mask: [..., L], True where a token is real.
    response: [..., R] tokens, padded on the right; what ends it is among them.
    response_mask: [..., R], True where a token counts.
  """
  return {
    'prompt': prompt,
    'prompt_mask': prompt_mask,
    'response': response,
    'response_mask': response_mask,
    'reference': jnp.zeros(response.shape[:-1], jnp.float32),
  }


def p_dpo(
  model: Decoder,
  base: Params,
  *,
  num_users: int,
  kind: str = 'individual',
  num_tokens: int = 10,
  num_clusters: int = 10,
  alpha: int | float = 0.5,
  beta: int | float = 0.5,
  nll_weight: int | float = 0.0,
  lora_rank: int = 8,
  lora_alpha: int | float = 16,
  projections: Sequence[str] = PROJECTIONS,
  shrinkage: int | float = 1.0,
  inner_steps: int = 20,
  offset_scale: int | float = 0.0,
) -> Policy:
  """Returns a personalised policy π(y | x, u) = π(y | beginning, e_u, what u says, x).

    loss = α l(e_i) + (1 - α) l(e_0),    l(e) = -log σ(d(e)) - λ log π(y_w|x,e) / |y_w|,
    d(e) = β (log π(y_w|x,e) - log π_ref(y_w|x) - log π(y_l|x,e) + log π_ref(y_l|x)),

  by the weight of each comparison, both terms of the same ones; of K > 2 candidates the choice
  model takes the place of σ. α = 0 without tokens is DPO. λ > 0 holds up what was chosen: d(e) may
  grow while both replies become less likely, and what the policy writes is then neither.

  Args:
    model: decoder.
    base: its parameters, which start the policy.
    num_users: U, the known users.
    kind: of the user model, one of `user_model.USER_MODELS`.
    num_tokens: T_u; 0 for none, with 'uniform'.
    num_clusters: of 'cluster'.
    alpha: share of the individual term.
    beta: how much a log-ratio counts.
    nll_weight: λ, of the NLL of a token of what was chosen; 0 as published.
    lora_rank: of the low-rank changes of a frozen base; 0 trains all parameters, in float32.
    lora_alpha: over lora_rank it is the changes' scale.
    projections: that are changed.
    shrinkage: of a new individual, see `user_model.individual`.
    inner_steps: of a new individual's fit; 0 leaves new users generic, as in the paper.
    offset_scale: of known individuals at the start, see `user_model.individual`.

  Raises:
    ValueError: for an option out of range.

  Reference:
    Li et al. 2024, arXiv:2402.05133. Unlike its code, each comparison has both terms with fixed
    weights, where there a batch holds each twice; the reference reads neither the user nor what
    they say, and low-rank changes have no dropout. λ is α of Pang et al. 2024, arXiv:2404.19733;
    that both replies become less likely is described by Razin et al. 2024, arXiv:2410.08847.
  """
  _check(kind, num_tokens, alpha, beta, lora_rank)
  options.not_negative(nll_weight=nll_weight)
  individuals = {'shrinkage': shrinkage, 'inner_steps': inner_steps, 'offset_scale': offset_scale}
  users = _user_model(kind, num_users, num_tokens, num_clusters, individuals)
  adapter = _adapter(model, lora_rank, lora_alpha, projections)
  log_p = _log_p(model, adapter)

  def scores(params, state, candidates):
    return _scores(log_p(params, state, candidates), candidates, beta)

  def init(key):
    key_lora, key_users = jax.random.split(key)
    soft = users.init(key_users, base['embedding'].astype(jnp.float32))  # bfloat16 loses the steps
    whole = base if adapter else optax.tree.cast(base, jnp.float32)
    return {'base': whole, 'users': soft} | ({'lora': adapter.init(key_lora)} if adapter else {})

  def state_of(params, row, context):
    return _state(users.known(params['users'], row), context)

  def prepare(params, histories, key):
    def nll(sharpness):
      some = jax.random.permutation(key, len(histories.user))[:MOST_KNOWN]
      return known_nll(params, jax.tree.map(lambda x: x[some], histories), sharpness)

    return {**params, 'users': users.prepare(params['users'], nll)}

  known_nll = jax.jit(functools.partial(_known_nll, state_of, scores))
  objective = _objective(log_p, beta, nll_weight)
  loss = _loss(users, objective, 0 if kind == 'uniform' else alpha)
  learner = meta_learner.from_adapt_score(
    init, _adapt(users, scores), scores, loss=loss, prepare=prepare
  )
  return Policy(learner, state_of, ('base',) if adapter else (), users, adapter, beta)


def _adapter(
  model: Decoder, rank: int, alpha: int | float, projections: Sequence[str]
) -> lora.Lora | None:
  if not rank:
    return None
  return lora.lora(model.config, rank=rank, scale=alpha / rank, projections=projections)


def _log_p(model: Decoder, adapter: lora.Lora | None) -> Score:
  def log_p(params, state, candidates):
    changes = adapter.scaled(params['lora']) if adapter else None
    return log_probs(model, params['base'], candidates.features, state, changes=changes)

  return log_p


def _scores(log_p: Array, candidates: Candidates, beta: int | float) -> Array:
  return beta * (log_p - candidates.features['reference'])


def _objective(log_p: Score, beta: int | float, nll_weight: int | float) -> Callable:
  """Returns `(params, state, given) -> (l(e), metrics)`."""

  def objective(params, state, given):
    found, mask = log_p(params, state, given.candidates), given.candidates.mask
    choice_log_p = choice_model.log_probs(_scores(found, given.candidates, beta), mask)
    metrics = meta_learner.query_metrics(choice_log_p, given)
    if not nll_weight:
      return metrics['nll'], metrics
    lengths = jnp.maximum(masked.count(given.candidates.features['response_mask'], -1), 1)
    nats_per_token = choice_model.nll(found / lengths, given)
    loss = metrics['nll'] + nll_weight * nats_per_token
    return loss, metrics | {'chosen_nats_per_token': nats_per_token}

  return objective


def _adapt(users: UserModel, scores: Score) -> Adapt:
  def adapt(params, support, context, key):
    del key

    def total_nll(soft, sharpness=1):
      found = sharpness * scores(params, _state(soft, context), support.candidates)
      return choice_model.total_nll(choice_model.log_probs(found, support.candidates.mask), support)

    return _state(users.fit(params['users'], total_nll), context)

  return adapt


def _known_nll(
  state_of: Callable, scores: Score, params: Params, histories: Task, sharpness: Array
) -> Float[Array, 'S']:
  """Returns the NLL of known users' comparisons by scores times each sharpness, in nats.

  The mean NLL of their least likely candidates is added, as of one comparison that went wrong, so
  that the best sharpness is finite where all are predicted.
  """

  def of_user(given):
    state = state_of(params, given.user, given.context)
    return scores(params, state, given.support.candidates)

  def flat(x):
    return x.reshape(-1, *x.shape[2:])

  found = flat(jax.lax.map(of_user, histories))  # [U N, K]
  bare = histories.support.candidates._replace(features=None)
  given = jax.tree.map(flat, histories.support._replace(candidates=bare))
  mask = given.candidates.mask & given.mask[:, None]

  def nll(sharpness):
    log_p = choice_model.log_probs(sharpness * found, mask)
    worst = jnp.min(masked.fill(log_p, mask, jnp.inf), -1)
    return choice_model.total_nll(log_p, given) - masked.mean(worst, given.mask)

  return jax.vmap(nll)(sharpness)


def _loss(users: UserModel, objective: Callable, alpha: int | float) -> Loss:
  def terms(params, row):
    """Returns the embeddings of the terms that count, [1 or 2, T_u, W], and their shares."""
    generic = users.generic(params['users'])
    if alpha == 0:
      return generic[None], jnp.ones(1, jnp.float32)
    known = users.known(params['users'], row)
    if alpha == 1:
      return known[None], jnp.ones(1, jnp.float32)
    return jnp.stack([known, generic]), jnp.asarray([alpha, 1 - alpha], jnp.float32)

  def loss(params, episode, key):
    del key
    given = task.concat(episode.support, episode.query)

    def of_user(soft):
      return objective(params, _state(soft, episode.context), given)

    soft, shares = terms(params, episode.user)
    losses, found = jax.vmap(of_user)(soft)
    reported = jax.tree.map(lambda x: x[0], found)
    generic = {'generic_nll': found['nll'][-1]} if alpha < 1 else {}
    return shares @ losses, {**reported, **generic}

  return loss


def log_probs(
  model: Decoder,
  params: Params,
  features: Features,
  state: UserState | None = None,
  *,
  changes: Params | None = None,
) -> Float[Array, '*batch']:
  """Returns log π(y | x, u) of each candidate, in nats.

  Args:
    model: decoder.
    params: of it.
    features: of candidates, [*batch, ...] each.
    state: of the user; None for nobody, as the reference has it.
    changes: low-rank ones, scaled.
  """
  if not features['response'].size:  # such as slates of no prompts
    return jnp.zeros(features['response'].shape[:-1], jnp.float32)
  prompt, mask = model.embed(params, features['prompt']), features['prompt_mask']
  if state is not None:
    prompt, mask = prompted(model, params, Inputs(prompt, mask), state)
  response, response_mask = features['response'], features['response_mask']
  embeddings = jnp.concatenate([prompt, model.embed(params, response)], -2)
  mask = jnp.concatenate([mask, response_mask], -1)
  hidden = model.hidden(params, embeddings, mask, lora=changes)
  return model.response_log_probs(params, hidden, response, response_mask).sum(-1)


def prompted(
  model: Decoder,
  params: Params,
  prompt: Inputs,
  state: UserState,
) -> Inputs:
  """Returns prompts of a user: soft tokens and what they say behind the first token of a text.

  Args:
    model: decoder.
    params: of it.
    prompt: [*batch, L, W], padded on the left.
    state: of the user.
  """
  text = model.embed(params, state.text)
  inserted = jnp.concatenate([state.soft.astype(text.dtype), text])
  is_real = jnp.concatenate([jnp.ones(state.soft.shape[0], bool), state.mask])
  batch = prompt.mask.shape[:-1]
  return prompting.with_soft_prompt(
    prompt,
    jnp.broadcast_to(inserted, (*batch, *inserted.shape)),
    has_bos=True,
    soft_mask=jnp.broadcast_to(is_real, (*batch, *is_real.shape)),
  )


def optimizer(
  learning_rate: int | float,
  num_steps: int,
  *,
  user_learning_rate: int | float | None = None,
  warmup_steps: int = 150,
  weight_decay: int | float = 0.0,
  clip_norm: int | float = 1.0,
) -> optax.GradientTransformation:
  """Returns AdamW with a linear warm-up and a cosine to 0, users at a rate of their own.

  Args:
    learning_rate: at the end of the warm-up.
    num_steps: of the whole run.
    user_learning_rate: of the parameters 'users'; None for the same, as published.
    warmup_steps: of the run, at most half of it.
    weight_decay: of all but the users.
    clip_norm: of the whole gradient, before.

  Raises:
    ValueError: for impossible values.
  """
  options.not_negative(learning_rate=learning_rate, num_steps=num_steps, warmup_steps=warmup_steps)
  options.positive(clip_norm=clip_norm)
  warmup = min(warmup_steps, num_steps // 2)

  def adamw(rate, decay):
    schedule = optax.warmup_cosine_decay_schedule(0.0, rate, warmup, max(num_steps, warmup + 1))
    return optax.adamw(schedule, weight_decay=decay)

  user_rate = learning_rate if user_learning_rate is None else user_learning_rate
  groups: dict[Hashable, optax.GradientTransformation] = {
    'model': adamw(learning_rate, weight_decay),
    'users': adamw(user_rate, 0.0),
  }
  return optax.chain(optax.clip_by_global_norm(clip_norm), optax.partition(groups, group_of))


def group_of(params: Params) -> dict[str, str]:
  """Returns which rate each top-level parameter is trained at: 'users' or 'model'."""
  return {name: 'users' if name == 'users' else 'model' for name in params}


def _state(soft: Array, context: Context) -> UserState:
  """Returns a user's state; a context without text is an array, as `task.no_context` gives it."""
  if isinstance(context, dict):
    return UserState(soft, context['text'], context['mask'])
  return UserState(soft, jnp.zeros(0, jnp.int32), jnp.zeros(0, bool))


def _user_model(
  kind: str, num_users: int, num_tokens: int, num_clusters: int, individuals: dict[str, Any]
) -> UserModel:
  if kind == 'uniform':
    return user_model.uniform(num_tokens)
  if kind == 'cluster':
    return user_model.cluster(num_users, num_tokens, num_clusters=num_clusters)
  return user_model.individual(num_users, num_tokens, **individuals)


def _check(
  kind: str, num_tokens: int, alpha: int | float, beta: int | float, lora_rank: int
) -> None:
  if kind not in user_model.USER_MODELS:
    known = ', '.join(user_model.USER_MODELS)
    raise ValueError(f'kind must be one of {known}, got {kind!r}')
  if not 0 <= alpha <= 1:
    raise ValueError(f'alpha must be in [0, 1], got {alpha}')
  if num_tokens == 0 and kind != 'uniform':
    raise ValueError("num_tokens must be at least 1 where users differ, or kind='uniform'")
  options.not_negative(num_tokens=num_tokens, lora_rank=lora_rank)
  options.positive(beta=beta)
