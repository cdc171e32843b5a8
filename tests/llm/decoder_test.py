import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metapers.llm import decoder, layers, lora, rotary

CONFIG = layers.Config(64, 16, 24, 2, 4, 2, 4)
FORMS = {
  'llama': CONFIG,
  'untied': CONFIG._replace(is_tied=False),
  'qwen2': CONFIG._replace(has_bias=True),
  'qwen3': CONFIG._replace(has_head_norm=True, head_size=6),
  'gemma': CONFIG._replace(activation='gelu_tanh', norm_offset=1, scales_embeddings=True),
}


def start(config=CONFIG, **options):
  """Returns a decoder, parameters that are far from zero, tokens [3, 9] and a mask."""
  model = decoder.decoder(config, **options)
  params = jax.tree.map(lambda x: 2 * x, model.init(jax.random.key(0)))
  params['embedding'] = 30 * params['embedding']
  tokens = jax.random.randint(jax.random.key(1), (3, 9), 0, config.vocab_size)
  mask = np.ones((3, 9), bool)
  mask[1, :4], mask[2, 6:] = False, False
  return model, params, tokens, jnp.array(mask)


def hidden_of(model, params, tokens, mask, **options):
  return jax.jit(model.hidden)(params, model.embed(params, tokens), mask, **options)


@pytest.mark.parametrize('form', FORMS)
def test_padding_on_either_side_changes_nothing(form):
  model, params, tokens, mask = start(FORMS[form])
  found = hidden_of(model, params, tokens, mask)
  for row in range(3):
    alone = hidden_of(model, params, tokens[row][mask[row]], jnp.ones(mask[row].sum(), bool))
    np.testing.assert_allclose(found[row][mask[row]], alone, rtol=0, atol=2e-5)


def test_padding_reaches_neither_values_nor_gradients():
  model, params, tokens, mask = start()
  embeddings = model.embed(params, tokens)

  def loss(embeddings):
    return jnp.where(mask[..., None], model.hidden(params, embeddings, mask), 0).sum()

  value, gradient = jax.value_and_grad(loss)(jnp.where(mask[..., None], embeddings, jnp.nan))
  np.testing.assert_allclose(value, loss(embeddings), rtol=1e-6)
  assert np.isfinite(gradient).all() and not gradient[~mask].any() and gradient[mask].any()


def test_a_sequence_of_padding_alone_is_finite_with_its_gradient():
  model, params, tokens, mask = start()

  def loss(params):
    found = model.hidden(params, model.embed(params, tokens), jnp.zeros_like(mask))
    return model.logits(params, found).sum()

  value, gradient = jax.value_and_grad(loss)(params)
  assert np.isfinite(value) and all(np.isfinite(x).all() for x in jax.tree.leaves(gradient))


def test_later_tokens_are_not_seen():
  model, params, tokens, mask = start()
  one = hidden_of(model, params, tokens, jnp.ones_like(mask))
  other = hidden_of(model, params, tokens.at[:, 5].add(1), jnp.ones_like(mask))
  np.testing.assert_array_equal(one[:, :5], other[:, :5])
  assert (np.abs(one - other)[:, 5:].max(-1) > 1e-3).all()


def test_positions_may_be_given_and_only_their_differences_matter():
  model, params, tokens, mask = start()
  plain = hidden_of(model, params, tokens, mask)
  later = decoder.positions_of(mask) + 700
  np.testing.assert_allclose(
    hidden_of(model, params, tokens, mask, positions=later)[mask], plain[mask], rtol=0, atol=1e-3
  )
  apart = hidden_of(model, params, tokens, mask, positions=3 * decoder.positions_of(mask))
  assert np.abs(apart - plain)[mask].max() > 0.1


def test_positions_count_what_is_real():
  mask = jnp.array([[False, False, True, True], [True, False, True, False], [False] * 4])
  np.testing.assert_array_equal(
    decoder.positions_of(mask), [[0, 0, 0, 1], [0, 0, 1, 1], [0, 0, 0, 0]]
  )


def test_leading_axes_are_batches():
  model, params, tokens, mask = start()
  found = hidden_of(model, params, tokens, mask)
  nested = hidden_of(model, params, tokens.reshape(3, 1, 9), mask.reshape(3, 1, 9))
  np.testing.assert_allclose(nested[:, 0], found, rtol=0, atol=1e-6)
  mapped = jax.vmap(lambda tokens, mask: hidden_of(model, params, tokens, mask))(tokens, mask)
  np.testing.assert_allclose(mapped, found, rtol=0, atol=1e-5)


@pytest.mark.parametrize('form', FORMS)
def test_piece_by_piece_is_all_at_once(form):
  config = FORMS[form]
  model, params, tokens, mask = start(config)
  adapter = lora.lora(config, rank=2)
  changes = jax.tree.map(lambda x: x + 0.1, adapter.init(jax.random.key(3)))
  whole = hidden_of(model, params, tokens, mask, lora=changes)
  embeddings, cache, pieces = model.embed(params, tokens), model.empty_cache(3, 12), []
  extend = jax.jit(model.extend)
  for piece in (slice(0, 5), slice(5, 6), slice(6, 9)):
    read = (embeddings[:, piece], mask[:, piece])
    found, cache = extend(params, *read, cache, lora=changes)
    pieces.append(found)
  found = np.concatenate(pieces, 1)
  np.testing.assert_allclose(found[mask], whole[mask], rtol=0, atol=2e-5)
  assert int(cache.length) == 9 and not cache.mask[:, 9:].any()


@pytest.mark.parametrize('is_checkpointed', [False, True])
@pytest.mark.parametrize('form', FORMS)
def test_layers_apart_are_those_of_the_scan(form, is_checkpointed):
  model, params, tokens, mask = start(FORMS[form], is_checkpointed=is_checkpointed)
  changes = lora.lora(FORMS[form], rank=2).init(jax.random.key(3))
  changes = jax.tree.map(lambda x: x + jax.random.normal(jax.random.key(4), x.shape), changes)
  apart = decoder.by_layer(params)
  assert len(apart['layers']) == FORMS[form].num_layers
  read = model.embed(params, tokens), mask
  cache = model.empty_cache(3, 9)
  for options in ({}, {'lora': changes}):
    whole = hidden_of(model, params, tokens, mask, **options)
    np.testing.assert_allclose(hidden_of(model, apart, tokens, mask, **options), whole, atol=2e-5)
    extended, kept = jax.jit(model.extend)(apart, *read, cache, **options)
    np.testing.assert_allclose(extended[mask], whole[mask], atol=2e-5)
    scanned = jax.jit(model.extend)(params, *read, cache, **options)[1]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-5), kept, scanned)


@pytest.mark.parametrize('is_checkpointed', [False, True])
def test_log_probs_of_a_response_are_those_of_its_tokens(is_checkpointed):
  model, params, tokens, _ = start(is_checkpointed=is_checkpointed)
  mask = jnp.arange(9)[None] < jnp.array([9, 7, 6])[:, None]
  found = hidden_of(model, params, tokens, mask)
  log_probs = model.response_log_probs(params, found, tokens[:, 5:], mask[:, 5:])
  every = np.asarray(jax.nn.log_softmax(model.logits(params, found)))
  for row in range(3):
    for place in range(4):
      expected = every[row, 4 + place, tokens[row, 5 + place]] if mask[row, 5 + place] else 0
      assert log_probs[row, place] == pytest.approx(expected, abs=1e-5)


def test_checkpointing_changes_no_gradient_and_keeps_less():
  def programs(is_checkpointed):
    model, params, tokens, mask = start(is_checkpointed=is_checkpointed)

    def loss(params):
      found = model.hidden(params, model.embed(params, tokens), mask)
      return model.response_log_probs(params, found, tokens[:, 5:], mask[:, 5:]).sum()

    kept = jax.eval_shape(lambda params: jax.vjp(loss, params)[1], params)
    size = sum(x.size for x in jax.tree.leaves(kept))
    return jax.jit(jax.grad(loss))(params), size

  (plain, plain_size), (again, again_size) = map(programs, (False, True))
  for one, other in zip(jax.tree.leaves(plain), jax.tree.leaves(again), strict=True):
    np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)  # of up to 50
  assert again_size < 0.7 * plain_size


def test_bfloat16_parameters_compute_in_bfloat16():
  model, params, tokens, mask = start(dtype=jnp.bfloat16)
  assert {x.dtype for x in jax.tree.leaves(params)} == {jnp.dtype('bfloat16')}
  found = hidden_of(model, params, tokens, mask)
  assert found.dtype == jnp.bfloat16 and model.logits(params, found).dtype == jnp.float32


def test_parameters_are_plain_dicts_stacked_over_layers():
  params = decoder.decoder(FORMS['untied']).init(jax.random.key(0))
  assert set(params) == {'embedding', 'layers', 'norm', 'head'}
  assert params['layers']['query']['kernel'].shape == (2, 16, 16)
  one, other = params['layers']['up']['kernel']
  assert np.abs(one - other).max() > 0.1  # each layer by a key of its own


def test_attention_is_the_textbook_formula_with_shared_keys():
  rng = np.random.default_rng(0)
  query, key, value = (rng.normal(size=(1, 3, n, 2)).astype(np.float32) for n in (4, 2, 2))
  visible = np.tril(np.ones((1, 3, 3), bool))
  found = layers.attention(*map(jnp.array, (query, key, value, visible)))
  for head in range(4):
    logits = query[0, :, head] @ key[0, :, head // 2].T / np.sqrt(2)
    shares = np.exp(np.where(visible[0], logits, -np.inf))
    shares /= shares.sum(-1, keepdims=True)
    np.testing.assert_allclose(found[0, :, head], shares @ value[0, :, head // 2], rtol=1e-5)


def test_a_stretch_slows_slow_pairs_only():
  plain = rotary.frequencies(rotary.Rope(500_000.0), 64)
  stretch = rotary.Stretch(8.0, 1.0, 4.0, 8192)
  slowed = rotary.frequencies(rotary.Rope(500_000.0, stretch), 64) / plain
  num_turns = 8192 * plain / (2 * np.pi)
  np.testing.assert_allclose(slowed[num_turns > 4], 1)
  np.testing.assert_allclose(slowed[num_turns < 1], 1 / 8)
  between = slowed[(num_turns > 1) & (num_turns < 4)]
  assert len(between) and (between > 1 / 8).all() and (between < 1).all()


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    ({'activation': 'relu'}, 'activation must be one of silu, gelu_tanh'),
    ({'num_layers': 0}, 'sizes must be at least 1, got .*num_layers'),
    ({'num_key_heads': 3}, 'num_key_heads must divide num_heads, got 3 and 4'),
    ({'head_size': 5}, 'head_size must be even, .* got 5'),
  ],
)
def test_sizes_that_do_not_fit_are_refused(changes, message):
  with pytest.raises(ValueError, match=message):
    decoder.decoder(CONFIG._replace(**changes))
