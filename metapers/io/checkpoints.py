"""Checkpoints that are verified before they are believed: orbax, with checksums of every leaf.

Orbax restores an altered file in silence and never falls back to an older step, so each checkpoint
carries the sha256 of its leaves and of what it says about them, and the newest one that verifies is
used.
"""

import hashlib
import json
import os
import pathlib
import shutil
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from absl import logging
from orbax.checkpoint import checkpoint_managers

from metapers.core.types import PyTree
from metapers.io import workdirs

SET_ASIDE = 'set_aside'
BEGUN = 'checkpoints_begun'  # an empty file: something was saved here once


class Restored(NamedTuple):
  """A verified checkpoint. score: of its evaluation, None where there was none."""

  step: int
  state: PyTree
  score: float | None


class Checkpoints:
  """The checkpoints of one run: the last few, and the best by score.

  Args:
    workdir: of the run; made if missing. Its config must be this one, see `workdirs.claim`.
    config: the resolved config as plain nested dicts; what must agree for a run to go on.
    keep: how many of the last to keep, besides the best.

  Raises:
    ValueError: if the folder holds a run of another config, or something else.
  """

  def __init__(self, workdir: str | os.PathLike, config: Mapping[str, Any], *, keep: int = 2):
    self.config = workdirs.claim(workdir, config)
    self._folder = pathlib.Path(workdir).absolute() / 'checkpoints'
    self._begun = self._folder.parent / BEGUN
    policies = checkpoint_managers
    best = policies.BestN(
      get_metric_fn=lambda m: m['score'], n=1, keep_checkpoints_without_metrics=False
    )
    self._options = ocp.CheckpointManagerOptions(
      best_fn=lambda metrics: metrics['score'],  # else orbax forgets scores on a restart
      preservation_policy=policies.AnyPreservationPolicy([policies.LatestN(keep), best]),
      cleanup_tmp_directories=True,
      enable_async_checkpointing=True,
    )
    self._manager = ocp.CheckpointManager(self._folder, options=self._options)

  def save(self, step: int, state: PyTree, *, score: float | None = None) -> None:
    """Starts saving a state; returns when its arrays are copied, not when they are on disk.

    Args:
      step: number of updates made.
      state: pytree of arrays; PRNG keys may be among them.
      score: of this state's evaluation, higher is better; the best is kept.
    """
    leaves = _leaves(state)
    about = _sealed({'checksums': _checksums(leaves), 'config': self.config, 'score': score})
    items = ocp.args.Composite(state=ocp.args.StandardSave(leaves), about=ocp.args.JsonSave(about))
    metrics = None if score is None else {'score': score}
    if not self._manager.save(step, args=items, metrics=metrics, force=True):
      raise RuntimeError(f'orbax did not save step {step} in {self._folder}')
    self._note_begun()

  def restore(self, like: PyTree) -> Restored | None:
    """Restores the newest checkpoint that verifies; None if nothing was ever saved.

    Newer ones that do not verify are named in a warning and set aside.

    Args:
      like: a state of the same structure, shapes and dtypes.

    Raises:
      ValueError: if there are checkpoints and none verifies.
    """
    steps = sorted(self._manager.all_steps(), reverse=True)
    for step in steps:
      found = self._verified(step, like)
      if found is not None:
        self._note_begun()
        self._set_aside([later for later in steps if later > step])
        return found
    if steps or self._begun.exists():
      raise ValueError(
        f'of the checkpoints in {self._folder} none is whole (found: {steps}); restore them from a '
        'copy, or start again in another workdir'
      )
    return None

  def best(self, like: PyTree) -> Restored | None:
    """Restores the checkpoint with the highest score among those that verify; None without any."""
    self.wait()
    found = [self._verified(step, like) for step in self._manager.all_steps()]
    return max((each for each in found if each and each.score is not None), key=_rank, default=None)

  def wait(self) -> None:
    """Waits until everything saved is on disk."""
    self._manager.wait_until_finished()
    self._note_begun()

  def close(self) -> None:
    """Waits, and releases the manager's threads."""
    self.wait()
    self._manager.close()

  def _note_begun(self) -> None:
    if self._manager.all_steps():
      self._begun.touch()

  def _verified(self, step: int, like: PyTree) -> Restored | None:
    wanted = _leaves(like)
    abstract = {name: jax.ShapeDtypeStruct(x.shape, x.dtype) for name, x in wanted.items()}
    items = ocp.args.Composite(
      state=ocp.args.StandardRestore(abstract), about=ocp.args.JsonRestore()
    )
    try:
      found = self._manager.restore(step, args=items)
    except Exception as error:  # what a damaged file raises depends on which byte is wrong
      logging.warning('checkpoint %d of %s cannot be read: %s', step, self._folder, _line(error))
      return None
    about, leaves = found['about'], found['state']
    wrong = [] if about == _sealed(about) else ['its description']
    wrong += [f'checksum of {x}' for x in _differences(_checksums(leaves), about['checksums'])]
    # Orbax does not mind asking for one shape and getting another.
    wrong += [f'shape of {x}' for x in abstract if leaves[x].shape != abstract[x].shape]
    if wrong:
      logging.warning('checkpoint %d of %s is not right: %s', step, self._folder, ', '.join(wrong))
      return None
    return Restored(step, _like(like, leaves), about['score'])

  def _set_aside(self, steps: list[int]) -> None:
    if not steps:
      return
    self._manager.close()
    for step in steps:
      target = self._folder.parent / SET_ASIDE / str(step)
      logging.warning('checkpoint %d is not used and goes to %s', step, target)
      shutil.rmtree(target, ignore_errors=True)
      target.parent.mkdir(exist_ok=True)
      (self._folder / str(step)).rename(target)
    self._manager = ocp.CheckpointManager(self._folder, options=self._options)


class InMemory:
  """Stands in for `Checkpoints` where nothing is to be saved: holds the best state only."""

  def __init__(self):
    self._best: Restored | None = None

  def save(self, step: int, state: PyTree, *, score: float | None = None) -> None:
    """Keeps a copy of the state if no earlier one scored higher."""
    new = Restored(step, state, score)
    if score is not None and (self._best is None or _rank(new) > _rank(self._best)):
      # A copy: the state's buffers are given to the next step to write to.
      self._best = new._replace(state=jax.tree.map(jnp.copy, state))

  def restore(self, like: PyTree) -> None:
    """There is never anything to go on from."""

  def best(self, like: PyTree) -> Restored | None:
    """Returns the state with the highest score; None without any."""
    del like
    return self._best

  def wait(self) -> None:
    """Nothing is ever under way."""


def _rank(restored: Restored) -> tuple[float | None, int]:
  return restored.score, restored.step  # of equals the latest, which orbax keeps too


def _sealed(about: Mapping[str, Any]) -> dict[str, Any]:
  content = {name: value for name, value in about.items() if name != 'seal'}
  described = json.dumps(content, sort_keys=True).encode()
  return {**content, 'seal': hashlib.sha256(described).hexdigest()}


def _leaves(state: PyTree) -> dict[str, np.ndarray]:
  # Orbax refuses arrays without entries, such as weights of a context of width 0.
  named, _ = jax.tree_util.tree_flatten_with_path(state)
  return {_name(path): _plain(leaf) for path, leaf in named if leaf.size}


def _name(path: tuple[Any, ...]) -> str:
  return jax.tree_util.keystr(path, simple=True, separator='.')


def _plain(leaf: Any) -> np.ndarray:
  # A copy: on a CPU the view would be of a buffer that the next step is given to write to.
  return np.array(jax.random.key_data(leaf) if _is_key(leaf) else leaf)


def _is_key(leaf: Any) -> bool:
  return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _like(like: PyTree, leaves: Mapping[str, np.ndarray]) -> PyTree:
  def revive(path, old):
    if not old.size:
      return old
    new = jnp.asarray(leaves[_name(path)])
    return jax.random.wrap_key_data(new, impl=jax.random.key_impl(old)) if _is_key(old) else new

  return jax.tree_util.tree_map_with_path(revive, like)


def _checksums(leaves: Mapping[str, np.ndarray]) -> dict[str, str]:
  def checksum(array):
    array = np.ascontiguousarray(array)
    described = f'{array.dtype} {array.shape} '.encode()
    return hashlib.sha256(described + array.tobytes()).hexdigest()

  return {name: checksum(np.asarray(leaf)) for name, leaf in leaves.items()}


def _differences(actual: Mapping[str, str], expected: Mapping[str, str]) -> list[str]:
  names = sorted(set(actual) | set(expected))
  return [name for name in names if actual.get(name) != expected.get(name)]


def _line(error: Exception) -> str:
  return f'{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ""}'[:200]
