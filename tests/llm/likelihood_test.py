import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metapers.llm import decoder, layers, likelihood
from metapers.llm.likelihood import Asked

CONFIG = layers.Config(64, 16, 24, 2, 4, 2, 4, max_positions=256)
PROMPT, RESPONSES = [5, 6, 7, 8], [[9, 10, 2], [11, 2], [12] * 70]


@functools.cache
def made():
  """A decoder whose parameters are far from zero."""
  model = decoder.decoder(CONFIG)
  params = jax.tree.map(lambda x: 2 * x, model.init(jax.random.key(0)))
  return model, params | {'embedding': 30 * params['embedding']}


@pytest.mark.parametrize('batch_size', [None, 2, 8])
def test_likelihoods_are_those_of_whole_sequences(batch_size):
  """Against one pass over prompt and response without padding or a cache."""
  model, params = made()
  found = likelihood.scorer(model, batch_size=batch_size)(params, Asked(PROMPT, RESPONSES))
  for response, total in zip(RESPONSES, found.log_probs):
    tokens = jnp.array([PROMPT + response])
    hidden = model.hidden(params, model.embed(params, tokens), jnp.ones(tokens.shape, bool))
    log_p = np.asarray(jax.nn.log_softmax(model.logits(params, hidden)))[0]
    start = len(PROMPT) - 1
    expected = sum(log_p[start + place, token] for place, token in enumerate(response))
    np.testing.assert_allclose(total, expected, rtol=2e-5)
  np.testing.assert_array_equal(found.num_tokens, [3, 2, 70])


def test_the_responses_beside_it_change_nothing():
  model, params = made()
  score = likelihood.scorer(model)
  alone = score(params, Asked(PROMPT, RESPONSES[:1])).log_probs[0]
  beside = score(params, Asked(PROMPT, RESPONSES)).log_probs[0]
  np.testing.assert_allclose(alone, beside, rtol=1e-5)


def test_what_the_model_was_not_made_for_is_refused():
  model, params = made()
  with pytest.raises(ValueError, match='do not fit in the 256 positions'):
    likelihood.scorer(model)(params, Asked([5] * 200, RESPONSES))


def test_what_just_fits_is_not_refused_for_how_lengths_are_rounded():
  model, params = made()
  prompt = [5] * 180
  found = likelihood.scorer(model)(params, Asked(prompt, RESPONSES))  # 250 of 256; rounded 320
  alone = likelihood.scorer(model)(params, Asked(prompt, RESPONSES[:1]))
  np.testing.assert_allclose(found.log_probs[0], alone.log_probs[0], rtol=1e-5)


def test_like_lengths_come_together():
  asked = [Asked([1] * size, [[1]]) for size in (10, 200, 20, 70)]
  assert list(likelihood.in_order_of_length(asked)) == [0, 2, 3, 1]
