import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_policies import BASE, KEY, MODEL, VOCABULARY, comparisons, episode, moved

from metapers.core import choice_model, task
from metapers.core.population import SEEN
from metapers.io.checkpoints import Checkpoints
from metapers.llm import p_dpo, text_users, user_model
from metapers.training import meta_training
from metapers.training.meta_training import Training

U = 3
SMALL = {'num_users': U, 'num_tokens': 2, 'lora_rank': 2}
VANILLA = {'num_users': U, 'num_tokens': 0, 'kind': 'uniform', 'alpha': 0.0, 'lora_rank': 2}


@functools.cache
def made(**options):
  return p_dpo.p_dpo(MODEL, BASE, **(SMALL | options))


@functools.cache
def loss_of(**options):
  learner = made(**options).learner
  return jax.jit(lambda params, given: learner.loss(params, given, KEY)[0])


@functools.cache
def gradient_of(**options):
  return jax.jit(jax.grad(loss_of(**options)))


def start(**options):
  return made(**options).learner.init(KEY)


def log_p_by_hand(params, tokens, num_prompt, changes):
  """Σ log p of the tokens behind the prompt, without padding, from the logits of a whole text."""
  row = jnp.asarray(tokens)[None]
  hidden = MODEL.hidden(params, MODEL.embed(params, row), jnp.ones(row.shape, bool), lora=changes)
  logits = np.asarray(MODEL.logits(params, hidden)[0], np.float64)
  logits -= np.log(np.exp(logits).sum(-1, keepdims=True))
  return sum(logits[i - 1, tokens[i]] for i in range(num_prompt, len(tokens)))


def dpo_by_hand(params, changes, given, beta):
  """Rafailov et al.'s loss, pair by pair."""
  features, losses = jax.device_get(given.candidates.features), []
  for n, choice in enumerate(np.asarray(given.choice)):
    ratios = []
    for k in range(2):
      prompt = features['prompt'][n, k][features['prompt_mask'][n, k]]
      response = features['response'][n, k][features['response_mask'][n, k]]
      tokens = np.concatenate([prompt, response])
      policy = log_p_by_hand(params['base'], tokens, len(prompt), changes)
      reference = log_p_by_hand(BASE, tokens, len(prompt), None)
      ratios.append(policy - reference)
    losses.append(np.logaddexp(0, -beta * (ratios[choice] - ratios[1 - choice])))
  return np.mean(losses)


def test_without_users_it_is_dpo():
  params, given = moved(start(**VANILLA)), episode()
  found = loss_of(**VANILLA)(params, given)
  changes = made(**VANILLA).adapter.scaled(params['lora'])
  np.testing.assert_allclose(found, dpo_by_hand(params, changes, given.query, 0.5), atol=1e-6)
  assert abs(found - np.log(2)) > 1e-3


def test_the_published_loss_is_that_without_nll():
  # Written with the learner's own scores, so that all but the loss is the same.
  policy, params, given = made(alpha=1.0), moved(start(alpha=1.0)), episode()

  def published(params, given):
    state = policy.state_of(params, given.user, task.no_context())
    scores = policy.learner.score(params, state, given.query.candidates)
    return choice_model.nll(
      choice_model.log_probs(scores, given.query.candidates.mask), given.query
    )

  expected = jax.jit(jax.value_and_grad(published))(params, given)
  found = jax.jit(jax.value_and_grad(loss_of(alpha=1.0)))(params, given)
  for one, other in zip(*map(jax.tree.leaves, (found, expected)), strict=True):
    np.testing.assert_allclose(one, other, rtol=1e-5, atol=5e-7)


def nll_by_hand(params, changes, given):
  """The mean over comparisons of -log π(y_w|x) / |y_w|."""
  features, losses = jax.device_get(given.candidates.features), []
  for n, choice in enumerate(np.asarray(given.choice)):
    prompt = features['prompt'][n, choice][features['prompt_mask'][n, choice]]
    response = features['response'][n, choice][features['response_mask'][n, choice]]
    tokens = np.concatenate([prompt, response])
    losses.append(-log_p_by_hand(params['base'], tokens, len(prompt), changes) / len(response))
  return np.mean(losses)


def test_the_nll_of_a_token_of_what_was_chosen_is_added():
  params, given = moved(start(**VANILLA)), episode()
  changes = made(**VANILLA).adapter.scaled(params['lora'])
  added = nll_by_hand(params, changes, given.query)
  found = loss_of(**VANILLA, nll_weight=0.3)(params, given)
  expected = dpo_by_hand(params, changes, given.query, 0.5) + 0.3 * added
  np.testing.assert_allclose(found, expected, rtol=1e-6)
  _, metrics = made(**VANILLA, nll_weight=0.3).learner.loss(params, given, KEY)
  np.testing.assert_allclose(metrics['chosen_nats_per_token'], added, rtol=1e-6)


def test_the_nll_is_mixed_by_alpha_as_the_loss_is():
  params = moved(start())

  def added(alpha):
    with_nll, without = (
      loss_of(alpha=alpha, nll_weight=weight)(params, episode()) for weight in (1.0, 0.0)
    )
    return with_nll - without

  generic, mixed, known = map(added, (0.0, 0.3, 1.0))
  assert abs(generic - known) > 1e-3
  np.testing.assert_allclose(mixed, 0.3 * known + 0.7 * generic, rtol=1e-5)


def test_while_offsets_are_zero_the_two_terms_are_one():
  params = moved(start())
  params['users']['offsets'] = jnp.zeros_like(params['users']['offsets'])
  found = [loss_of(alpha=alpha)(params, episode()) for alpha in (0.0, 0.5, 1.0)]
  np.testing.assert_allclose(found, found[0], rtol=1e-6)


def test_the_terms_are_mixed_by_alpha():
  params = moved(start())
  generic, mixed, known = (loss_of(alpha=a)(params, episode()) for a in (0.0, 0.3, 1.0))
  assert abs(generic - known) > 1e-3
  np.testing.assert_allclose(mixed, 0.3 * known + 0.7 * generic, rtol=1e-5)


def test_one_user_is_dpo_with_soft_tokens():
  # Of a single user e_0 + o_1 is one soft prompt, as `uniform` has it.
  params = moved(start(num_users=1, alpha=1.0))
  users = params['users']
  alone = {**params, 'users': {'generic': users['generic'] + users['offsets'][0]}}
  found = loss_of(num_users=1, alpha=1.0)(params, episode(user=0))
  expected = loss_of(kind='uniform', alpha=0.0)(alone, episode(user=0))
  np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_only_the_row_of_the_user_moves_and_none_of_an_unknown_one():
  params = moved(start())
  gradient = gradient_of()(params, episode(user=1))
  offsets = gradient['users']['offsets']
  assert offsets[1].any() and not offsets[jnp.array([0, 2])].any()
  assert not gradient_of()(params, episode(user=U))['users']['offsets'].any()
  for part in (gradient['lora'], gradient['users']['generic']):
    assert all(leaf.any() for leaf in jax.tree.leaves(part))


def test_weights_count_comparisons():
  params, given = moved(start()), episode()
  weight = jnp.asarray([2.0, 0.0, 1.0, 1.0, 1.0, 0.0])
  rows = jnp.asarray([0, 0, 2, 3, 4])
  weighed = given._replace(query=given.query._replace(weight=weight))
  repeated = given._replace(query=task.take(given.query, rows))
  loss = loss_of(nll_weight=0.5)
  np.testing.assert_allclose(loss(params, weighed), loss(params, repeated), rtol=1e-6)


def wider(given, num_left, num_right):
  """The same comparisons with more padding, in which other tokens stand."""
  features = dict(given.candidates.features)
  for name, pads in (('prompt', (num_left, 0)), ('response', (0, num_right))):
    widths = [(0, 0), (0, 0), pads]
    features[name] = jnp.pad(features[name], widths, constant_values=VOCABULARY - 1)
    features[f'{name}_mask'] = jnp.pad(features[f'{name}_mask'], widths)
  return given._replace(candidates=given.candidates._replace(features=features))


def test_padding_changes_nothing():
  params, given = moved(start()), episode()
  loss, gradient = loss_of(nll_weight=0.5), gradient_of(nll_weight=0.5)
  support, query = (wider(part, 3, 2) for part in (given.support, given.query))
  padded = given._replace(support=support, query=task.pad_to(query, 8))
  np.testing.assert_allclose(loss(params, padded), loss(params, given), atol=1e-6)
  for one, other in zip(
    *map(jax.tree.leaves, (gradient(params, given), gradient(params, padded))), strict=True
  ):
    np.testing.assert_allclose(one, other, rtol=5e-5, atol=1e-4)


@pytest.mark.parametrize('nll_weight', [0.0, 3.0])
def test_gradients_are_finite_differences(nll_weight):
  with jax.enable_x64(True):
    params, given = jax.tree.map(
      lambda x: x.astype(jnp.float64) if x.dtype == jnp.float32 else x, (moved(start()), episode())
    )
    direction = jax.tree.map(lambda x: jnp.sin(jnp.arange(x.size) + 1.0).reshape(x.shape), params)
    direction['base'] = jax.tree.map(jnp.zeros_like, params['base'])  # which is not trained
    learner = made(nll_weight=nll_weight).learner
    loss = jax.jit(lambda params: learner.loss(params, given, KEY)[0])

    def along(amount):
      return loss(jax.tree.map(lambda x, d: x + amount * d, params, direction))

    step = 1e-4  # logits are float32, and the loss bends much
    found = (along(step) - along(-step)) / (2 * step)
    gradient = jax.jit(jax.grad(loss))(params)
    products = jax.tree.map(jnp.vdot, gradient, direction)
  slope = sum(map(float, jax.tree.leaves(products)))
  np.testing.assert_allclose(found, slope, rtol=1e-2)


def test_what_is_said_reaches_known_and_unknown_users_alike():
  params = moved(start())
  params['users']['offsets'] = jnp.zeros_like(params['users']['offsets'])
  said = {'text': jnp.asarray([4, 5], jnp.int32), 'mask': jnp.ones(2, bool)}
  silent = {**said, 'mask': jnp.zeros(2, bool)}
  policy = made()

  def predicted(row, context):
    state = policy.state_of(params, jnp.asarray(row), context)
    return policy.learner.predict(params, state, comparisons(4).candidates)

  np.testing.assert_allclose(predicted(1, said), predicted(U, said), atol=1e-6)
  assert np.abs(predicted(U, said) - predicted(U, silent)).max() > 1e-4
  np.testing.assert_allclose(predicted(U, silent), predicted(U, task.no_context()), atol=1e-6)


@pytest.mark.parametrize('kind', ['individual', 'cluster'])
def test_a_new_user_is_fitted_to_their_comparisons(kind):
  policy = made(kind=kind, num_clusters=3)
  params = policy.learner.prepare(moved(start(kind=kind, num_clusters=3)), histories(), KEY)
  support = comparisons(8)
  adapt = jax.jit(policy.learner.adapt)
  unknown = policy.state_of(params, jnp.asarray(U), task.no_context())
  nobody = adapt(params, task.with_shots(support, 0), task.no_context(), KEY)
  np.testing.assert_allclose(nobody.soft, unknown.soft, atol=1e-6)
  fitted = adapt(params, support, task.no_context(), KEY)
  before, after = (
    choice_model.nll(policy.learner.predict(params, state, support.candidates), support)
    for state in (nobody, fitted)
  )
  if kind == 'individual':  # a mixture of clusters may be worse than each
    assert after < before
  assert np.abs(fitted.soft - nobody.soft).max() > 1e-4


def test_the_reference_is_computed_once_and_reads_no_user():
  given = comparisons(5)
  features = given.candidates.features
  again = p_dpo.log_probs(MODEL, BASE, features)
  np.testing.assert_allclose(features['reference'], again, atol=1e-5)
  vanilla, params = made(**VANILLA), start(**VANILLA)
  nobody = vanilla.state_of(params, 0, task.no_context())
  np.testing.assert_allclose(vanilla.learner.score(params, nobody, given.candidates), 0, atol=1e-5)


@pytest.mark.parametrize('num_wrong', [0, 2])
def test_scores_are_as_sharp_as_known_users_choices_are_sure(num_wrong):
  def prepared(beta):
    options = {'kind': 'cluster', 'num_clusters': 3, 'beta': beta}
    policy, params, known = made(**options), moved(start(**options)), histories()
    margins = []
    for row in range(U):
      state = policy.state_of(params, row, task.no_context())
      candidates = jax.tree.map(lambda x, at=row: x[at], known.support.candidates)
      scores = np.asarray(policy.learner.score(params, state, candidates), np.float64)
      margins.append(scores[:, 0] - scores[:, 1])
    margins = np.stack(margins)
    is_wrong = np.arange(margins.size).reshape(margins.shape) < num_wrong
    choice = ((margins < 0) ^ is_wrong).astype(np.int32)
    known = known._replace(support=known.support._replace(choice=jnp.asarray(choice)))
    trained = jax.device_get(params)  # as `fit` gives them
    found = float(policy.learner.prepare(trained, known, KEY)['users']['sharpness'])
    signed = np.where(is_wrong, -1, 1) * np.abs(margins)

    def nll(sharpness):
      own = np.logaddexp(0, -sharpness * signed).sum()
      return own + np.logaddexp(0, sharpness * np.abs(margins)).mean()

    return found, min(user_model.SHARPNESS, key=nll)

  for beta in (0.25, 0.5):
    np.testing.assert_allclose(*prepared(beta))
  np.testing.assert_allclose(prepared(0.25)[0], 2 * prepared(0.5)[0])


def histories():
  given = jax.tree.map(lambda *x: jnp.stack(x), *(comparisons(6, seed) for seed in range(U)))
  nothing = jax.tree.map(lambda x: x[:, :0], given)
  return task.Task(given, nothing, jnp.arange(U, dtype=jnp.int32), jnp.zeros((U, 0)))


def population():
  known = histories()
  given, context = known.support, known.context
  others = task.Task(given, given, jnp.full(U, U, jnp.int32), context)
  splits = {'train': known, SEEN: others, 'validation': others, 'test': others}
  splits = {name: text_users.Split(tasks) for name, tasks in splits.items()}
  return text_users.text_users(splits, num_query=2, source='random tokens')


def fitted(workdir=None, num_steps=6, **options):
  training = Training(
    num_steps=num_steps, batch_size=4, shots=0, learning_rate=1e-2, steps_per_call=2,
    evaluate_every=0,
    optimizer=lambda rate, _: p_dpo.optimizer(rate, 6, user_learning_rate=0.1, warmup_steps=2),
  )  # fmt: skip
  kept = Checkpoints(workdir, {'training': {'num_steps': num_steps}}) if workdir else None
  policy = made(**options)
  found = meta_training.meta_train(
    policy.learner, population(), training, frozen=policy.frozen, checkpoints=kept, progress=False
  )
  if kept:
    kept.close()
  return found.params


@pytest.mark.parametrize('kind', ['individual', 'cluster'])
def test_training_resumes_bit_for_bit_and_leaves_the_base(kind, tmp_path):
  whole = fitted(kind=kind)
  fitted(tmp_path, num_steps=4, kind=kind)
  resumed = fitted(tmp_path, num_steps=6, kind=kind)
  for one, other in zip(*map(jax.tree.leaves, (whole, resumed)), strict=True):
    np.testing.assert_array_equal(one, other)
  for one, other in zip(*map(jax.tree.leaves, (whole['base'], BASE)), strict=True):
    np.testing.assert_array_equal(one, other)
  if kind == 'individual':
    assert whole['users']['offsets'].any() and whole['users']['directions'].any()
  else:
    assert whole['users']['sharpness'] != 1


def test_users_have_a_rate_of_their_own():
  params = {'lora': jnp.zeros(2), 'users': {'generic': jnp.zeros(2)}}
  chosen = p_dpo.optimizer(0.1, 10, user_learning_rate=0.5, warmup_steps=1)
  state = chosen.init(params)
  for _ in range(2):
    updates, state = chosen.update(jax.tree.map(jnp.ones_like, params), state, params)
  np.testing.assert_allclose(updates['users']['generic'] / updates['lora'], 5, rtol=1e-5)


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    ({'kind': 'twins'}, 'kind must be one of'),
    ({'alpha': 1.5}, 'alpha must be in'),
    ({'num_tokens': 0}, 'num_tokens must be at least 1 where users differ'),
    ({'beta': 0}, 'beta must be positive'),
    ({'nll_weight': -1}, 'nll_weight must be at least 0'),
    ({'num_users': 0}, 'num_users must be at least 1'),
  ],
)
def test_impossible_options_are_refused(options, message):
  with pytest.raises(ValueError, match=message):
    p_dpo.p_dpo(MODEL, BASE, **SMALL | options)
