import jax
import jax.numpy as jnp

from metapers.core import memory_maps


def test_programs_are_dropped_only_where_they_hold_very_many_maps(monkeypatch, tmp_path):
  traced = []

  @jax.jit
  def function(x):
    traced.append(1)
    return x + 1

  monkeypatch.setattr(memory_maps, 'MAPS', tmp_path / 'maps')
  assert not memory_maps.drop_programs()  # of a system without such a file
  for count, is_dropped in ((memory_maps.MOST, False), (memory_maps.MOST + 1, True)):
    function(jnp.zeros(3))
    (tmp_path / 'maps').write_text('one\n' * count)
    assert memory_maps.drop_programs() == is_dropped
    function(jnp.zeros(3))
    assert len(traced) == 1 + is_dropped
