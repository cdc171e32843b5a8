import jax
import jax.numpy as jnp
import optax
import pytest
import small_runs

from metapers import learners
from metapers.populations import toy
from metapers.training import optimizers

PARAMS = {'w': jnp.arange(3.0), 'b': jnp.ones(())}


def written_out(learning_rate, num_steps, weight_decay, clip_norm):
  """AdamW as it was before it had a name: warm-up over a twentieth, cosine to 0."""
  schedule = optax.warmup_cosine_decay_schedule(
    init_value=0.0,
    peak_value=learning_rate,
    warmup_steps=max(1, num_steps // 20),
    decay_steps=max(2, num_steps),
  )
  return optax.chain(
    optax.clip_by_global_norm(clip_norm), optax.adamw(schedule, weight_decay=weight_decay)
  )


def trajectory(optimizer, num_steps):
  """Minimises a quadratic that is steep enough for clipping; returns the parameters on the way."""

  def step(carry, _):
    params, state = carry
    gradient = jax.tree.map(lambda x: 4 * (x - 2), params)
    updates, state = optimizer.update(gradient, state, params)
    params = optax.apply_updates(params, updates)
    return (params, state), params

  start = (PARAMS, optimizer.init(PARAMS))
  return jax.jit(lambda start: jax.lax.scan(step, start, length=num_steps)[1])(start)


@pytest.mark.parametrize('num_steps', [2, 45, 200])
def test_adamw_is_warm_up_cosine_and_clipping_bit_for_bit(num_steps):
  ours = optimizers.adamw(0.1, num_steps, weight_decay=0.01, clip_norm=0.5)
  theirs = written_out(0.1, num_steps, 0.01, 0.5)
  assert small_runs.same_bits(trajectory(ours, num_steps), trajectory(theirs, num_steps))


@pytest.mark.parametrize(
  ('name', 'options', 'constant'),
  [('maml', {'learn_inner_rate': False}, 'log_rates'), ('lookup', {'num_histories': 4}, 'bank')],
)
def test_weight_decay_leaves_what_is_not_learned_bit_for_bit(name, options, constant):
  learner = learners.make(name, num_features=3, hidden=(2,), **options)
  start = learner.init(jax.random.key(0))
  start[constant] = jax.tree.map(lambda x: x + 1, start[constant])
  episode, _ = toy.two_types(num_features=3).episode_of((), jnp.asarray(0), 'train')
  optimizer = optimizers.adamw(0.1, 9, weight_decay=0.5)

  @jax.jit
  def step(params, state):
    gradient = jax.grad(lambda p: learner.loss(p, episode, jax.random.key(0))[0])(params)
    updates, state = optimizer.update(gradient, state, params)
    return optax.apply_updates(params, updates), state

  params, state = start, optimizer.init(start)
  for _ in range(4):
    params, state = step(params, state)
  assert small_runs.same_bits(params[constant], start[constant])
  learned = 'adapted' if name == 'maml' else 'pooled'
  kernels = (each[learned]['linear']['kernel'] for each in (params, start))
  assert not small_runs.same_bits(*kernels)


def test_a_run_of_one_step_is_not_one_of_rate_0():
  after = trajectory(optimizers.adamw(0.1, 1), 1)
  assert float(jnp.abs(after['w'][-1] - PARAMS['w']).max()) == pytest.approx(0.1, rel=1e-3)


def test_the_warm_up_is_a_twentieth_of_any_number_of_steps(monkeypatch):
  lengths = []
  monkeypatch.setattr(
    optax, 'warmup_cosine_decay_schedule', lambda **options: lengths.append(options) or 0.1
  )
  numbers = range(3000)
  for number in numbers:
    optimizers.adamw(0.1, number)
  assert [each['warmup_steps'] for each in lengths] == [max(1, n // 20) for n in numbers]
  assert [each['decay_steps'] for each in lengths] == [max(2, n) for n in numbers]


@pytest.mark.parametrize('name', optimizers.OPTIMIZERS)
def test_every_optimizer_is_called_alike_and_descends(name):
  path = trajectory(optimizers.OPTIMIZERS[name](0.1, 60), 60)['w']
  assert jnp.max(jnp.abs(path[-1] - 2)) < 0.7


@pytest.mark.parametrize(
  ('name', 'rate', 'num_steps', 'options', 'message'),
  [
    ('adamw', -0.1, 1, {}, 'learning_rate must be at least 0 and finite, got -0.1'),
    ('adam', float('nan'), 1, {}, 'learning_rate must be at least 0 and finite, got nan'),
    ('sgd', float('inf'), 1, {}, 'learning_rate must be at least 0 and finite, got inf'),
    ('sgd', 0.1, -1, {}, 'num_steps must be at least 0, got -1'),
    ('adamw', 0.1, 1, {'clip_norm': 0.0}, 'clip_norm must be above 0, got 0.0'),
    ('adamw', 0.1, 1, {'weight_decay': -1.0}, 'weight_decay must be at least 0, got -1.0'),
    ('adamw', 0.1, 1, {'warmup_share': 1.0}, 'warmup_share must be at least 0 and below 1'),
    ('sgd', 0.1, 1, {'momentum': 1.0}, 'momentum must be at least 0 and below 1, got 1.0'),
  ],
)
def test_impossible_values_are_refused(name, rate, num_steps, options, message):
  with pytest.raises(ValueError, match=message):
    optimizers.OPTIMIZERS[name](rate, num_steps, **options)
