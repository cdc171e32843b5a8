"""Parameters that are kept out of training, and stored once in a workdir."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import small_runs

from metapers.io.checkpoints import FROZEN, Checkpoints
from metapers.training import loop

pytestmark = small_runs.READS_DAMAGED_FILES
SCHEDULE = loop.Schedule(6, 2, 2)
TABLE = jnp.linspace(0, 1, 6).reshape(2, 3).astype(jnp.bfloat16)
TOKENS = jnp.arange(2)


def start(shift=0):
  """Parameters of which one array moves; the frozen ones are neither float32 nor all floats."""
  return {'w': jnp.zeros(3), 'table': TABLE + shift, 'tokens': {'ids': TOKENS + shift}}


def loss(params, objective_state, batch, arrays):
  target = batch + params['table'][params['tokens']['ids'][1]].astype(jnp.float32)[None]
  return jnp.mean((params['w'][None] - target) ** 2), (objective_state, {})


def fit(workdir=None, schedule=SCHEDULE, shift=0, **options):
  kept = workdir and Checkpoints(workdir, small_runs.config(schedule))
  options = {'frozen': ('table', 'tokens'), 'optimizer': optax.adamw(0.1)} | options
  try:
    return small_runs.point(
      schedule, start=start(shift), batch_loss=loss, checkpoints=kept, **options
    )
  finally:
    if kept:
      kept.close()


def stored(workdir):
  """Lists files of frozen parameters with their contents."""
  found = [path for path in (workdir / FROZEN).rglob('*') if path.is_file()]
  return {path: path.read_bytes() for path in found}


@pytest.fixture(scope='module')
def finished(tmp_path_factory):
  workdir = tmp_path_factory.mktemp('frozen')
  return workdir, fit(workdir)


def test_frozen_parameters_stay_and_are_seen_by_loss_evaluation_and_result():
  seen = []
  evaluate = lambda params, step: seen.append(params) or {'score': step}  # noqa: E731
  result = fit(evaluate=evaluate)
  for params in (*seen, result.params, result.best_params):
    assert small_runs.same_bits({**params, 'w': 0}, {**start(), 'w': 0})
  assert (result.params['w'] != 0).all() and len(seen) == 3
  moved = small_runs.point(SCHEDULE, optimizer=optax.adamw(0.1), sampler=shifted)
  np.testing.assert_allclose(result.params['w'], moved.params['w'], rtol=1e-6)


def shifted(arrays, key):
  return small_runs.noise_sampler(arrays, key) + TABLE[1].astype(jnp.float32)[None]


def test_no_moments_are_kept_of_them_and_no_checkpoint_holds_them(finished):
  workdir, _ = finished
  like = loop.initial_state({'w': jnp.zeros(3)}, optax.adamw(0.1), jnp.array(0), jax.random.key(0))
  kept = Checkpoints(workdir, small_runs.config(SCHEDULE), read_only=True)
  found = kept.restore(like)
  assert found.step == 6
  assert small_runs.same_bits(kept.restore_frozen(found.frozen, frozen()), frozen())
  kept.close()


def frozen():
  return {'table': TABLE, 'tokens': {'ids': TOKENS}}


def test_they_are_stored_once_by_hash_and_resumed_from_there(finished, tmp_path):
  _, whole = finished
  fit(tmp_path, SCHEDULE._replace(num_steps=4))
  before = stored(tmp_path)
  assert len(list((tmp_path / FROZEN).iterdir())) == 1
  # What the caller brings to a resumed run is not what the run began with: the run's own counts.
  assert small_runs.same_bits(fit(tmp_path, shift=1), whole)
  assert stored(tmp_path) == before


def test_others_are_stored_under_another_hash(finished, tmp_path):
  workdir, _ = finished
  fit(tmp_path, shift=1)
  names = [next((each / FROZEN).iterdir()).name for each in (workdir, tmp_path)]
  assert names[0] != names[1]


@pytest.mark.parametrize('damage', ['flipped', 'lost', 'description'])
def test_damaged_ones_are_not_used(tmp_path, damage):
  fit(tmp_path, SCHEDULE._replace(num_steps=4))
  pattern = 'about/metadata' if damage == 'description' else 'state/**/d/*'
  files = list((tmp_path / FROZEN).glob(f'*/{pattern}'))
  assert files
  for path in files:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.unlink() if damage == 'lost' else path.write_bytes(content)
  with pytest.raises(ValueError, match=r'/frozen/.* are missing or damaged'):
    fit(tmp_path)


def test_a_run_that_was_killed_while_storing_them_starts_anew(finished, tmp_path):
  workdir, whole = finished
  name = next((workdir / FROZEN).iterdir()).name
  Checkpoints(tmp_path, small_runs.config(SCHEDULE)).close()
  half = tmp_path / FROZEN / f'{name}.orbax-checkpoint-tmp' / 'state'
  half.mkdir(parents=True)
  (half / 'manifest.ocdbt').write_bytes(b'half')
  assert small_runs.same_bits(fit(tmp_path), whole)
  assert small_runs.same_bits(fit(tmp_path), whole)  # from what was stored


@pytest.mark.parametrize('names', [('no',), ('table', 'no')])
def test_unknown_names_are_refused(names):
  with pytest.raises(ValueError, match=r'frozen names no, which .* they are: table, tokens, w'):
    fit(frozen=names)


def test_parameters_without_names_cannot_be_frozen():
  with pytest.raises(ValueError, match=r'frozen names w, .* they are: no dict'):
    small_runs.point(SCHEDULE, start=jnp.zeros(3), frozen=('w',))
