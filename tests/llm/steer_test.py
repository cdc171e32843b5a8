"""Steering against full passes, and its two ends: the base, and one preference prompt alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small_policies

from metapers import learners
from metapers.core import task
from metapers.core.task import Candidates
from metapers.llm import decoder, generate, p_dpo, steer, styled_prompts, styles, user_model
from metapers.llm.layers import Config
from metapers.llm.steer import Forms

MODEL, KEY = small_policies.MODEL, small_policies.KEY
# Of a scale at which answers to different prompts differ.
BASE = jax.tree.map(lambda x: x * 4, small_policies.BASE)
NUM, LENGTH, RESPONSE = 3, 6, 5
END = 4


@pytest.fixture(scope='module')
def forms():
  """Three prompts in three forms of different lengths."""
  rng = np.random.default_rng(0)
  mask = np.arange(LENGTH) >= LENGTH - rng.integers(2, LENGTH + 1, (NUM, 3))[..., None]
  tokens = rng.integers(1, small_policies.VOCABULARY, mask.shape) * mask
  return Forms(jnp.asarray(tokens, jnp.int32), jnp.asarray(mask))


def generator(temperature=1.0):
  sampling = generate.Sampling(temperature=temperature)
  return generate.generator(MODEL, num_tokens=RESPONSE, end_tokens=(END,), sampling=sampling)


def by_shares(forms, shares, temperature=1.0):
  inputs = steer.inputs_of(MODEL, BASE, forms)
  return generator(temperature)(BASE, inputs, KEY, shares=jnp.asarray(shares, jnp.float32))


def full_logits(tokens):
  """Logits after each position of one sequence without padding, in one pass."""
  given = jnp.asarray(tokens, jnp.int32)[None]
  hidden = MODEL.hidden(BASE, MODEL.embed(BASE, given), jnp.ones(given.shape, bool))
  return np.asarray(MODEL.logits(BASE, hidden)[0], np.float64)


def log_softmax(x):
  x = x - x.max(-1, keepdims=True)
  return x - np.log(np.exp(x).sum(-1, keepdims=True))


def real(forms, row, form):
  return np.asarray(forms.tokens[row, form])[np.asarray(forms.mask[row, form])].tolist()


def test_tokens_are_the_likeliest_of_the_summed_logits(forms):
  weights = np.array([[0.7, -1.2], [2.0, 0.5], [-0.4, 0.9]])
  shares = np.asarray(steer.shares(jnp.asarray(weights, jnp.float32), 1.5))
  np.testing.assert_allclose(shares.sum(-1), 1, atol=1e-6)
  found = by_shares(forms, shares, temperature=0.0)
  for row in range(NUM):
    said = []
    for token, is_real in zip(found.tokens[row].tolist(), found.mask[row].tolist()):
      if not is_real:
        break
      last = np.stack([full_logits(real(forms, row, form) + said)[-1] for form in range(3)])
      expected = last[0] + 1.5 * weights[row] @ (last[1:] - last[0])
      assert token == expected.argmax()
      said.append(token)


def test_weight_one_of_a_prompt_is_that_prompt_and_none_the_base(forms):
  for form in range(3):
    one_hot = np.eye(3)[[form] * NUM]
    own = jax.tree.map(lambda x, form=form: x[:, form], forms)
    expected = generator()(BASE, steer.inputs_of(MODEL, BASE, own), KEY)
    np.testing.assert_array_equal(by_shares(forms, one_hot).tokens, expected.tokens)
  several = {
    tuple(np.asarray(by_shares(forms, np.eye(3)[[form] * NUM]).tokens[0])) for form in (0, 1, 2)
  }
  assert len(several) == 3


def test_shares_of_another_shape_are_refused(forms):
  inputs = steer.inputs_of(MODEL, BASE, forms)
  for shares in (None, jnp.ones((NUM, 2))):
    with pytest.raises(ValueError, match='shares must be'):
      generator()(BASE, inputs, KEY, shares=shares)


@pytest.fixture(scope='module')
def responses():
  rng = np.random.default_rng(1)
  tokens = rng.integers(1, small_policies.VOCABULARY, (NUM, RESPONSE))
  mask = np.arange(RESPONSE) < np.array([5, 3, 1])[:, None]
  return jnp.asarray(tokens * mask, jnp.int32), jnp.asarray(mask)


def forms_log_p(forms, responses, row):
  """[M, R, V] of the real tokens of a response, by full passes."""
  said = np.asarray(responses[0][row])[np.asarray(responses[1][row])].tolist()
  logits = [full_logits(real(forms, row, form) + said)[-len(said) - 1 : -1] for form in range(3)]
  return log_softmax(np.stack(logits)), said


def test_readings_are_those_of_full_passes(forms, responses):
  shares = np.array([[0.5, 1.5, -1.0], [1, 0, 0], [0, 0, 1.0]])
  found = steer.read(MODEL, BASE, forms, *responses, jnp.asarray(shares, jnp.float32))
  ratios = steer.log_ratios(MODEL, BASE, forms, *responses)
  for row in range(NUM):
    log_p, said = forms_log_p(forms, responses, row)
    steered = log_softmax(np.einsum('m,mrv->rv', shares[row], log_p))
    at = np.arange(len(said)), said
    np.testing.assert_allclose(found.base[row], log_p[0][at].sum(), atol=1e-4)
    np.testing.assert_allclose(found.steered[row], steered[at].sum(), atol=1e-4)
    divergence = (np.exp(steered) * (steered - log_p[0])).sum()
    np.testing.assert_allclose(found.divergence[row], divergence, atol=1e-4)
    expected = [log_p[m][at].sum() - log_p[0][at].sum() for m in (1, 2)]
    np.testing.assert_allclose(ratios[row], expected, atol=1e-4)
  assert abs(float(found.divergence[1])) < 1e-5 < float(found.divergence[2])


def test_length_is_taken_out_and_scales_are_one():
  rng = np.random.default_rng(0)
  lengths = jnp.asarray(rng.integers(4, 20, (40, 2)), jnp.float32)
  own = rng.normal(size=(40, 2, 3))
  ratios = jnp.asarray(own + [0.5, -1, 0] * np.asarray(lengths)[..., None] + 2, jnp.float32)
  for kind in steer.KINDS:
    made = steer.features(kind, ratios, lengths)
    found = np.asarray(made(ratios, lengths)).reshape(-1, 3)
    np.testing.assert_allclose(found.std(0), 1, rtol=1e-3)
    if kind == 'without_length':
      correlation = np.corrcoef(np.c_[found, np.ravel(lengths)].T)[-1, :-1]
      np.testing.assert_allclose(correlation, 0, atol=1e-3)
  with pytest.raises(ValueError, match='features must be one of'):
    steer.features('squared', ratios, lengths)


def test_weights_of_features_are_those_of_ratios():
  """A utility of features differs from that of ratios by what depends on length alone."""
  rng = np.random.default_rng(0)
  lengths = jnp.full((30, 2), 7.0)
  ratios = jnp.asarray(rng.normal(size=(30, 2, 3)) * [1, 5, 0.1], jnp.float32)
  slopes = jnp.asarray([0.3, -2, 1], jnp.float32)
  for kind in steer.KINDS:
    made = steer.features(kind, ratios, lengths)
    utility = made(ratios, lengths) @ slopes
    gap = utility[:, 1] - utility[:, 0]
    expected = (ratios[:, 1] - ratios[:, 0]) @ made.weights(slopes)
    np.testing.assert_allclose(gap, expected, rtol=1e-3, atol=1e-4)


def choices_by(weights, num=60):
  rng = np.random.default_rng(0)
  features = rng.normal(size=(num, 2, len(weights)))
  choice = (features @ weights).argmax(-1)
  mask = jnp.ones((num, 2), bool)
  return task.choices(Candidates(jnp.asarray(features, jnp.float32), mask), jnp.asarray(choice))


@pytest.mark.parametrize('name', ['gaussian_prior', 'cnp'])
def test_weights_of_any_learner_are_read_off_its_utilities(name):
  learner = learners.make(name, num_features=2)
  params = learner.init(KEY)
  given = choices_by(np.array([2.0, -1.0]))
  state = learner.adapt(params, given, task.no_context(), KEY)
  found = np.asarray(steer.slopes(learner, params, state, given.candidates))
  if name == 'gaussian_prior':  # linear: its own weights
    np.testing.assert_allclose(found, state.mean, rtol=1e-4)
    assert found[0] > 0 > found[1]

  def at(features):
    scores = learner.score(params, state, given.candidates._replace(features=features))
    return float(scores.mean())

  features = given.candidates.features
  for axis in (0, 1):
    step = 0.01 * jax.nn.one_hot(axis, 2)[None, None]
    np.testing.assert_allclose(
      found[axis], (at(features + step) - at(features - step)) / 0.02, rtol=0.05, atol=1e-3
    )


def test_a_prompt_moves_by_standard_deviations_of_the_base():
  base = np.array([[1.0, -1, 1, -1], [2, 2, 2, 2], [3, 3, 3, 3]])
  prompted = np.array([[1.0, 1, 1, -1], [2, 2, 2, 2], [4, 4, 4, 4]])
  np.testing.assert_allclose(steer.moves(prompted, base), [0.5, 0, np.inf])


def test_forms_of_questions_are_what_is_pre_trained_on():
  """A statement stands between the BOS and the question, and examples in its place."""
  question = styles.words_of(styles.prompt_of(jnp.asarray(17)))
  plain, warm = styled_prompts.forms(np.array(17), np.array([1])).tokens
  assert styles.words_of(warm) == f'i like warm answers . {question}'
  assert styles.words_of(plain) == question and plain[0] == styles.BOS
  answer = np.asarray(styles.response_of(KEY, jnp.asarray(3), jnp.ones(5, jnp.int32)))
  found = styled_prompts.shown(np.array(17), answer[None])
  words = [styles.WORDS[token] for token in found.tokens[1][found.mask[1]]]
  assert words == ['<bos>', *styles.words_of(answer).split(), '<eos>', *question.split()]
  features, state = jax.jit(styled_prompts.stream(8, 400))(jnp.arange(40, dtype=jnp.int32), KEY)
  says, text = np.asarray(state.mask).sum(-1), np.asarray(state.text)
  is_statement = text[:, 0] == styles.IDS['i']
  assert set(says[is_statement]) == {5, 10, 15} and 0 in says[~is_statement]
  stated = is_statement & (says == styles.STATEMENT_LENGTH)
  pole = text[stated, 2]
  axis = np.array([list(styles.POLES).index(styles.WORDS[word]) for word in pole])
  own = np.asarray(styles.style_of(features['response']))[stated, axis // 2]
  assert np.mean(own == 2 * (axis % 2) - 1) > 0.85


def test_log_ratios_are_those_of_the_model_of_users():
  """By `p_dpo.log_probs`, which puts what a user says into the prompt."""
  model = decoder.decoder(
    Config(
      vocab_size=len(styles.WORDS), width=8, hidden=8, num_layers=1, num_heads=1, num_key_heads=1,
      head_size=8,
    )
  )  # fmt: skip
  params = jax.tree.map(lambda x: x * 4, model.init(KEY))
  question = styles.prompt_of(jnp.asarray(17))
  answer = styles.response_of(KEY, jnp.asarray(3), jnp.ones(5, jnp.int32))
  is_real = answer != styles.PAD
  found = steer.log_ratios(
    model,
    params,
    jax.tree.map(jnp.asarray, styled_prompts.forms(np.array(17), np.array([1, 6]))),
    answer,
    is_real,
  )
  given = p_dpo.sequences(question, question != styles.PAD, answer, is_real)
  plain = p_dpo.log_probs(model, params, given)
  for number, ratio in zip((1, 6), found):
    text = styles.statement_of(number // 2, number % 2)
    said = user_model.UserState(jnp.zeros((0, 8), jnp.float32), text, jnp.ones(5, bool))
    expected = p_dpo.log_probs(model, params, given, said) - plain
    np.testing.assert_allclose(ratio, expected, atol=1e-4)
