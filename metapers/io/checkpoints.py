"""Checkpoints that are verified before they are used: orbax, with checksums of every leaf.

Orbax restores an altered file in silence and never falls back to an older step, so each checkpoint
carries the sha256 of its leaves and of its description, and the newest one that verifies is used.
"""

import errno
import functools
import os
import pathlib
import shutil
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp
from absl import logging

from metapers.core.types import PyTree
from metapers.io import leaves, processes, verified, workdirs

FOLDER = 'checkpoints'
SET_ASIDE = 'set_aside'
FROZEN = 'frozen'
OVERHEAD = 2**18  # bytes of a checkpoint besides its arrays
BEGUN = 'checkpoints_begun'  # an empty file: something was saved here once


def newest_step(workdir: str | os.PathLike) -> int:
  """Returns the number of steps of a run's newest checkpoint, unverified; -1 without one."""
  names = [path.name for path in (pathlib.Path(workdir) / FOLDER).glob('*')]
  return max((int(name) for name in names if name.isdecimal()), default=-1)


class Restored(NamedTuple):
  """A verified checkpoint.

  score: of its evaluation, None where there was none. frozen: hash of the parameters that were kept
  out of training, '' without any.
  """

  step: int
  state: PyTree
  score: float | None
  frozen: str = ''


class Checkpoints:
  """The checkpoints of one run: the last few, and the best by score.

  Args:
    workdir: of the run; made if missing. Its config must be this one, see `workdirs.claim`.
    config: the resolved config as plain nested dicts; what must agree for a run to go on.
    keep: how many of the last to keep, besides the best.
    read_only: change nothing on disk, so that a run may go on saving there meanwhile.

  Attributes:
    restored_step: of the checkpoint that `restore` returned; -1 before, and where it had none.

  Raises:
    ValueError: if the folder holds a run of another config, or something else; if `keep` is 0.
  """

  def __init__(
    self,
    workdir: str | os.PathLike,
    config: Mapping[str, Any],
    *,
    keep: int = 2,
    read_only: bool = False,
  ):
    if keep < 1:
      raise ValueError(f'keep must be at least 1, to go on from, got {keep}')
    self.config = (workdirs.verify_config if read_only else workdirs.claim)(workdir, config)
    self.restored_step = -1
    self._read_only = read_only
    self._folder = pathlib.Path(workdir).absolute() / FOLDER
    self._begun = self._folder.parent / BEGUN
    self._frozen = self._folder.parent / FROZEN
    self._scores: dict[int, float | None] = {}
    self._options = ocp.CheckpointManagerOptions(
      preservation_policy=_LastAndBest(keep, self._scores),
      create=not read_only,
      cleanup_tmp_directories=not read_only,  # one of them may be a save under way
      enable_async_checkpointing=True,
    )
    self._open()

  def save(self, step: int, state: PyTree, *, score: float | None = None, frozen: str = '') -> None:
    """Starts saving a state; returns when its arrays are copied, not when they are on disk.

    Args:
      step: number of updates made.
      state: pytree of arrays; PRNG keys may be among them.
      score: of this state's evaluation, higher is better; the best is kept.
      frozen: what `store_frozen` returned for this run.

    Raises:
      OSError: for a full disk; earlier checkpoints stay.
    """
    self._check_writable()
    # Copies: the next step is given the buffers of the state to write to.
    arrays = jax.tree.map(jnp.copy, leaves.named_on_devices(state))
    self._check_space(sum(array.nbytes for array in arrays.values()))
    items = verified.to_save(arrays, config=self.config, score=score, frozen=frozen)
    self._scores[step] = score
    if not self._manager.save(step, args=items, force=True):
      raise RuntimeError(f'orbax did not save step {step} in {self._folder}')
    self._note_begun()

  def store_frozen(self, params: PyTree) -> str:
    """Stores, once a run, parameters that no checkpoint repeats; returns their hash.

    Args:
      params: pytree of arrays; one without leaves is not stored, and its hash is ''.
    """
    if not jax.tree.leaves(params):
      return ''
    self._check_writable()
    return verified.store_by_hash(self._frozen, params)

  def restore_frozen(self, name: str, like: PyTree) -> PyTree:
    """Returns the parameters of a hash, verified.

    Args:
      name: the hash; '' gives `like`.
      like: pytree of the same structure, shapes and dtypes; its shardings are those of the result.

    Raises:
      ValueError: if they are missing or damaged: every checkpoint of the run needs them.
    """
    return verified.restore_by_hash(self._frozen, name, like) if name else like

  def restore(self, like: PyTree) -> Restored | None:
    """Returns the newest checkpoint that verifies; None if nothing was ever saved.

    Those that do not verify are named in a warning and set aside, lest one be kept as the best.

    Args:
      like: a state of the same structure, shapes and dtypes; its shardings are those of the result,
        whatever those of the run that saved.

    Raises:
      ValueError: if there are checkpoints and none verifies, or they are of another form.
    """
    self.wait()
    newest, damaged = None, []
    steps = sorted(self._manager.all_steps(), reverse=True)
    for step in steps:
      found = self._verified(step, like)
      newest = newest or found
      damaged += [] if found else [step]
    if newest is None and (steps or self._begun.exists()):
      raise ValueError(
        f'no checkpoint in {self._folder} is intact (found: {steps}); restore them from a copy, or '
        'start again in another workdir'
      )
    if newest and damaged and not self._read_only:
      self._set_aside(damaged)
    self.restored_step = newest.step if newest else -1
    return newest

  def best(self, like: PyTree) -> Restored | None:
    """Returns the checkpoint with the highest score of those that verify; None without any."""
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

  def _open(self) -> None:
    self._manager = ocp.CheckpointManager(self._folder, options=self._options)
    self._scores.clear()
    for step in self._manager.all_steps():
      about = self._about(step)
      self._scores[step] = about['score'] if about else None

  def _check_writable(self) -> None:
    if self._read_only:
      raise ValueError(f'{self._folder} was opened with read_only=True; nothing is saved there')

  def _check_space(self, size: int) -> None:
    # Orbax would find out in several threads, each of which tells its own tale.
    needed, free = size + OVERHEAD, shutil.disk_usage(self._folder).free
    if free < needed:
      reason = f'{os.strerror(errno.ENOSPC)}: a checkpoint takes {needed} bytes, {free} are left'
      raise OSError(errno.ENOSPC, reason, str(self._folder))

  def _note_begun(self) -> None:
    # Looks at the disk: orbax lists a step before it is there, and a kill may come between.
    writes = processes.is_first() and not self._read_only
    if writes and any(x.name.isdecimal() for x in self._folder.iterdir()):
      self._begun.touch()

  def _name(self, step: int) -> str:
    return f'checkpoint {step} of {self._folder}'

  def _about(self, step: int) -> dict[str, Any] | None:
    read = functools.partial(self._manager.restore, step)
    return verified.read_description(read, self._name(step))

  def _verified(self, step: int, like: PyTree) -> Restored | None:
    about = self._about(step)
    if about is None:
      return None
    read = functools.partial(self._manager.restore, step)
    state = verified.read_state(read, self._name(step), about, like)
    return None if state is None else Restored(step, state, about['score'], about['frozen'])

  def _set_aside(self, steps: list[int]) -> None:
    self._manager.close()
    for step in steps if processes.is_first() else ():
      target = self._folder.parent / SET_ASIDE / str(step)
      logging.warning('checkpoint %d is not used and goes to %s', step, target)
      shutil.rmtree(target, ignore_errors=True)
      target.parent.mkdir(exist_ok=True)
      (self._folder / str(step)).rename(target)
    processes.wait_for_all(SET_ASIDE)
    self._open()


class _LastAndBest(NamedTuple):
  """What orbax shall preserve; its own BestN trusts a file of scores without a checksum."""

  keep: int
  scores: Mapping[int, float | None]

  def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> list[bool]:
    del context
    steps = [checkpoint.step for checkpoint in checkpoints]
    ranked = [(self.scores[step], step) for step in steps if self.scores[step] is not None]
    kept = {*steps[-self.keep :], max(ranked, default=(None, None))[1]}
    return [step in kept for step in steps]


class InMemory:
  """Stands in for `Checkpoints` where nothing is to be saved: holds the best state only."""

  def __init__(self):
    self._best: Restored | None = None

  def save(self, step: int, state: PyTree, *, score: float | None = None, frozen: str = '') -> None:
    """Keeps a copy of the state if no earlier one scored higher."""
    new = Restored(step, state, score, frozen)
    if score is not None and (self._best is None or _rank(new) > _rank(self._best)):
      # A copy: the state's buffers are given to the next step to write to.
      self._best = new._replace(state=jax.tree.map(jnp.copy, state))

  def store_frozen(self, params: PyTree) -> str:
    """Stores nothing, and returns the hash of nothing."""
    del params
    return ''

  def restore_frozen(self, name: str, like: PyTree) -> PyTree:
    """Returns the parameters given."""
    del name
    return like

  def restore(self, like: PyTree) -> None:
    """There is never anything to go on from."""

  def best(self, like: PyTree) -> Restored | None:
    """Returns the state with the highest score; None without any."""
    del like
    return self._best

  def wait(self) -> None:
    """Nothing is ever under way."""


def _rank(restored: Restored) -> tuple[float | None, int]:
  return restored.score, restored.step  # of equals the latest
