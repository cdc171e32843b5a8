"""Every learner takes the same step on eight devices as on one, in one program and in eight."""

import functools
import json
import pathlib
import sys

import jax
import jax.numpy as jnp
import layouts
import numpy as np
import optax
import pytest
from jax.sharding import AxisType, PartitionSpec

from metapers import learners
from metapers.core import population
from metapers.populations import toy
from metapers.training import devices, loop, meta_training, objectives, step

NUM_DEVICES = 8
ROUNDING = 2e-5
SOME = toy.two_types(num_support=2, num_query=2, num_users=8)
SMALL = {'hidden': (4,)}
SIZES = {
  'maml': SMALL | {'inner_steps': 1},
  'fomaml': SMALL | {'inner_steps': 1},
  'anil': SMALL | {'inner_steps': 1},
  'meta_sgd': SMALL | {'inner_steps': 1},
  'reptile': SMALL | {'inner_steps': 1},
  'per_user': SMALL | {'inner_steps': 2},
  'cnp': {'hidden': 4, 'width': 4},
  'latent_np': {'hidden': 4, 'width': 4},
  'transformer_np': {'hidden': 4, 'width': 4, 'num_layers': 1, 'num_heads': 2, 'num_slots': 2},
  'np_btl': {'hidden': 4, 'width': 4, 'num_heads': 2},
  'vpl': {'hidden': 4, 'width': 4},
  'spl': {'hidden': 4, 'width': 4},
  'low_rank': {'num_users': 8, 'rank': 2},
  'lore': {'num_users': 8, 'rank': 2, 'inner_steps': 5},
  'rfm': {'num_users': 8, 'rank': 2},
  'pref': {'num_users': 8, 'rank': 2},
  'vrf': {'hidden': 4, 'width': 4, 'rank': 2},
  'gaussian_prior': {},
  'empirical_bayes': {'num_particles': 16, 'fit_steps': 2},
  'lookup': SMALL | {'num_histories': 8},
  'mrm': {'rank': 2, 'inner_steps': 1},
  'p_rm': SMALL | {'num_users': 8, 'width': 2},
  'pal': {'num_users': 8, 'width': 2},
  'item_neighbors': SMALL,
  'copl': SMALL | {'num_histories': 8, 'history_length': 4},
  'p_ttt': SMALL | {'width': 2},
  'pairwise_gp': {'width': 4},
  'particle': {'num_particles': 8},
  'pfn': {'width': 4, 'hidden': 4, 'num_rounds': 1},
  'dirichlet_mixture': {'num_particles': 16, 'num_outside': 16, 'num_fit_particles': 30},
  'resetting': {
    'inner': {
      'name': 'dirichlet_mixture',
      'num_particles': 16,
      'num_outside': 16,
      'num_fit_particles': 30,
    },
    'num_starts': 2,
  },
  'hedge': {'members': {'cnp': {'hidden': 4, 'width': 4}, 'pooled': SMALL}},
  'as_pairs': {},
}
COUPLING = {
  'cvar': objectives.cvar(0.3),
  'robust_personalization': objectives.robust_personalization(),
  'group_dro': objectives.group_dro(0.5),
  'group_invariant': objectives.group_invariant(),
}
# One of each kind: by gradient, amortised, of tables, fitted, of members.
MAPPED = ('maml', 'latent_np', 'low_rank', 'bayes_head', 'lookup', 'hedge')


def learner_of(name):
  return learners.make(name, num_features=4, **SIZES.get(name, SMALL))


def mesh_of(num_devices):
  chosen = jax.devices()[:num_devices]
  return jax.make_mesh((num_devices,), (devices.AXIS,), (AxisType.Auto,), devices=chosen)


def placements():
  """Returns one device, and eight in either way."""
  eight = mesh_of(NUM_DEVICES)
  return {
    'one': devices.placement(mesh=mesh_of(1)),
    **{kind: devices.placement(kind, mesh=eight) for kind in devices.PARALLEL},
  }


@functools.cache
def drawn():
  """Returns a batch of users of three groups, of which toy ones have none."""
  batch = jax.jit(step.task_sampler(SOME, batch_size=NUM_DEVICES))((), jax.random.key(1))
  return batch._replace(groups=batch.tasks.user % 3)


def stepped(learner, params, placement, objective):
  """Returns every number after a step from given parameters on the users drawn, by name."""

  def sampler(arrays, key):
    del key
    return jax.tree.map(placement.own, arrays)

  optimizer = optax.sgd(1.0)
  update = step.make_step(
    step.meta_loss(learner, objective, placement=placement), sampler, optimizer
  )
  start = objective.init(3), jax.random.key(1)
  state = loop.initial_state(params, optimizer, *start, placement=placement)
  run = placement.compile(update, state)
  after, metrics = run(state, {}, placement.place(drawn(), 'arrays'))
  kept = {'params': after.params, 'objective': after.objective_state, 'metrics': metrics}
  return {name: np.asarray(leaf) for name, leaf in layouts.named(kept).items()}


def together(placement):
  """Returns the batch that all devices draw, on the host."""

  def draw(state, key):
    batch = step.task_sampler(SOME, batch_size=NUM_DEVICES, placement=placement)((), key)
    batch = batch._replace(keys=jax.random.key_data(batch.keys))
    return state, jax.tree.map(placement.gathered, batch)

  nothing, key = placement.place((jnp.zeros(()), jax.random.key(1)), 'arrays')
  batch = placement.compile(draw, nothing)(nothing, key)[1]
  return {name: np.asarray(leaf) for name, leaf in layouts.named(batch).items()}


def distance(found, expected):
  """Returns the largest difference, beside how large the numbers are."""
  assert found.keys() == expected.keys()

  def relative(one, other):
    one, other = (np.asarray(each, np.float64) for each in (one, other))
    return float(np.max(np.abs(one - other) / (1 + np.abs(other)), initial=0))

  return max(relative(found[name], expected[name]) for name in expected)


def ways(name):
  """Returns in which ways a learner is compared: all of one of each kind, the default of others."""
  return devices.PARALLEL if name in MAPPED else ('jit',)


def distances_of(make, kinds=devices.PARALLEL):
  """Returns how far what eight devices make is from what one makes, in each of the ways."""
  placed = placements()
  expected = make(placed['one'])
  return {kind: distance(make(placed[kind]), expected) for kind in kinds}


def distances(name, objective, kinds=devices.PARALLEL):
  """Returns how far a step on eight devices is from that on one, in each of the ways."""
  learner = learner_of(name)
  learner = learner._replace(loss=jax.jit(learner.loss))  # traced once
  params = jax.jit(learner.init)(jax.random.key(0))

  def moved(placement):
    after = stepped(learner, params, placement, objective)
    assert after['metrics.gradient_norm'] > 50 * ROUNDING  # else nothing would be seen
    return after

  return distances_of(moved, kinds)


def leaked():
  """Returns how far losses of users are whose inner gradients JAX's `shard_map` adds up.

  By default it does so without a word, where parameters are replicated and users are not.
  """
  learner = learner_of('maml')
  params = jax.jit(learner.init)(jax.random.key(0))

  def losses(params, batch):
    return jax.vmap(learner.loss, (None, 0, 0))(params, batch.tasks, batch.keys)[0]

  specs = {'in_specs': (PartitionSpec(), PartitionSpec(devices.AXIS))}
  divided = jax.shard_map(
    losses, mesh=mesh_of(NUM_DEVICES), out_specs=PartitionSpec(devices.AXIS), **specs
  )
  expected = {'losses': np.asarray(jax.jit(losses)(params, drawn()))}
  return distance({'losses': np.asarray(jax.jit(divided)(params, drawn()))}, expected)


def operations(kind, num_devices):
  """Returns the operations of one device's program in a step with four users for each device."""
  placement = devices.placement(kind, mesh=mesh_of(num_devices))
  learner, optimizer = learner_of('maml'), optax.sgd(0.1)
  update = step.make_step(
    step.meta_loss(learner, objectives.mean(), placement=placement),
    step.task_sampler(SOME, batch_size=4 * num_devices, placement=placement),
    optimizer,
  )
  start = learner.init(jax.random.key(0)), optimizer, (), jax.random.key(1)
  state = loop.initial_state(*start, placement=placement)
  if kind == 'jit':
    lowered = jax.jit(update).lower(state, {}, ())
  else:
    mapped = jax.pmap(
      lambda number, *given: update(*given), devices.AXIS,
      in_axes=(0, None, None, None), out_axes=None, devices=list(placement.mesh.devices.flat),
    )  # fmt: skip
    lowered = mapped.lower(jnp.arange(num_devices), state, {}, ())
  return lowered.compile().cost_analysis()['flops']


def divided_arrays():
  """Returns how far a run whose features are divided by prompt is from one that has them whole."""
  table = np.random.default_rng(0).normal(size=(13, 2, 4)).astype(np.float32)
  arrays = {'features': jnp.asarray(table), 'prompts': jnp.arange(13)}
  plain = toy.two_types(num_support=2, num_query=2)

  def sample_episode(arrays, key, split):
    episode, truth = plain.sample_episode((), key, split)
    prompts = jax.random.choice(key, arrays['prompts'], (2,), replace=False)
    shown = arrays['features'][prompts]
    query = episode.query
    query = query._replace(candidates=query.candidates._replace(features=shown))
    return episode._replace(query=query), truth

  made: population.Population = plain._replace(arrays=arrays, sample_episode=sample_episode)
  training = meta_training.Training(num_steps=2, batch_size=8, steps_per_call=2)

  def params(rule):
    over = devices.placement(mesh=mesh_of(NUM_DEVICES), rule=rule)
    padded = over.place(devices.padded(made.arrays, over, 'arrays'), 'arrays')
    shard = padded['features'].sharding.shard_shape(padded['features'].shape)
    found = meta_training.meta_train(
      learner_of('pooled'), made, training, placement=over, progress=False
    )
    return {k: np.asarray(v) for k, v in layouts.named(found.params).items()}, shard

  (whole, all_rows), (divided, own_rows) = params(devices.replicated), params(devices.by_prompt)
  return {'distance': distance(divided, whole), 'rows': [all_rows[0], own_rows[0]]}


def resumed(folder):
  """Returns parameters of runs that eight devices began and others ended, by their number."""
  half = layouts.SCHEDULE._replace(num_steps=4)
  found = {}
  for number in (1, 2, 4):
    layouts.run(folder / str(number), half, mesh=mesh_of(NUM_DEVICES))
    found[number] = layouts.run(folder / str(number), mesh=mesh_of(number)).params
  plain = layouts.run(folder / 'plain', mesh=mesh_of(1)).params
  named = [
    {k: np.asarray(v, np.float32) for k, v in layouts.named(each).items()}
    for each in (plain, *found.values())
  ]
  return [distance(each, named[0]) for each in named[1:]]


def all_of(folder):
  """Returns what the tests look at."""
  return {
    'learners': {
      name: distances(name, objectives.mean(), ways(name)) for name in learners.LEARNERS
    },
    'objectives': {name: distances('pooled', each) for name, each in COUPLING.items()},
    'drawn': distances_of(together),
    'operations': {kind: [operations(kind, n) for n in (1, 8)] for kind in devices.PARALLEL},
    'leaked': leaked(),
    'divided': divided_arrays(),
    'resumed': resumed(folder),
  }


@pytest.fixture(scope='module')
def found(tmp_path_factory):
  folder = tmp_path_factory.mktemp('parallel')
  process = layouts.elsewhere(__file__, folder, num_devices=NUM_DEVICES)
  assert process.wait(timeout=900) == 0
  return json.loads((folder / 'found.json').read_text())


@pytest.mark.parametrize('kind', devices.PARALLEL)
def test_eight_devices_draw_the_users_of_one(found, kind):
  assert found['drawn'][kind] == 0


@pytest.mark.parametrize('name', learners.LEARNERS)
def test_eight_devices_take_the_step_of_one(found, name):
  assert set(found['learners'][name]) == set(ways(name))
  assert max(found['learners'][name].values()) < ROUNDING


@pytest.mark.parametrize('kind', devices.PARALLEL)
@pytest.mark.parametrize('name', COUPLING)
def test_objectives_that_couple_users_see_those_of_all_devices(found, name, kind):
  assert found['objectives'][name][kind] < ROUNDING


def test_users_that_leak_into_each_others_adaptation_are_found(found):
  assert found['leaked'] > 100 * ROUNDING


@pytest.mark.parametrize('kind', devices.PARALLEL)
def test_the_work_of_a_user_does_not_grow_with_the_number_of_devices(found, kind):
  one, eight = found['operations'][kind]
  assert eight == pytest.approx(one, rel=0.01)


def test_arrays_divided_by_prompt_train_as_whole_ones(found):
  assert found['divided']['rows'] == [13, 2]  # thirteen prompts, padded to sixteen
  assert found['divided']['distance'] < ROUNDING


def test_items_known_by_their_numbers_stay_whole():
  eight = jax.sharding.AbstractMesh((8,), (devices.AXIS,))
  over = devices.Placement(eight, 'jit', devices.by_prompt)
  numbered = {'features': jnp.zeros((12, 0)), 'rewards': jnp.zeros((12, 3))}
  padded = devices.padded(numbered, over, 'arrays')
  assert jax.tree.map(jnp.shape, padded) == {'features': (12, 0), 'rewards': (16, 3)}
  assert devices.by_prompt('arrays.features', numbered['features']) == jax.P()


def test_a_run_of_eight_devices_goes_on_on_one_two_and_four(found):
  assert max(found['resumed']) < ROUNDING


def test_coupled_users_are_refused_where_no_program_has_them_all():
  coupled = learner_of('pooled')._replace(batch_loss=lambda params, tasks, keys: ())
  eight = devices.Placement(jax.sharding.AbstractMesh((8,), (devices.AXIS,)), 'pmap')
  with pytest.raises(ValueError, match=r"coupled .*batch_loss.*: take parallel='jit'"):
    step.meta_loss(coupled, objectives.mean(), placement=eight)


def test_a_batch_that_leaves_a_rest_over_programs_is_refused():
  eight = devices.Placement(jax.sharding.AbstractMesh((8,), (devices.AXIS,)), 'pmap')
  with pytest.raises(ValueError, match='a multiple of the 8 devices, got 12'):
    step.task_sampler(SOME, batch_size=12, placement=eight)


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    ({'parallel': 'threads'}, "one of jit, pmap, got 'threads'"),
    ({'parallel': 'pmap', 'rule': devices.by_prompt}, "whole on each device: take parallel='jit'"),
  ],
)
def test_placements_that_cannot_be_are_refused(options, message):
  with pytest.raises(ValueError, match=message):
    devices.placement(**options)


if __name__ == '__main__':
  assert jax.device_count() == NUM_DEVICES
  jax.config.update('jax_numpy_rank_promotion', 'raise')
  folder = pathlib.Path(sys.argv[1])
  (folder / 'found.json').write_text(json.dumps(all_of(folder)))
