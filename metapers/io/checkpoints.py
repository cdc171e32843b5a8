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
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp
from absl import logging

from metapers.core.types import PyTree
from metapers.io import leaves, workdirs

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
    read_only: change nothing on disk, so that a run may go on saving there meanwhile.

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
    self.config = (workdirs.verify if read_only else workdirs.claim)(workdir, config)
    self._read_only = read_only
    self._folder = pathlib.Path(workdir).absolute() / 'checkpoints'
    self._begun = self._folder.parent / BEGUN
    self._scores: dict[int, float | None] = {}
    self._options = ocp.CheckpointManagerOptions(
      preservation_policy=_LastAndBest(keep, self._scores),
      create=not read_only,
      cleanup_tmp_directories=not read_only,  # one of them may be a save under way
      enable_async_checkpointing=True,
    )
    self._open()

  def save(self, step: int, state: PyTree, *, score: float | None = None) -> None:
    """Starts saving a state; returns when its arrays are copied, not when they are on disk.

    Args:
      step: number of updates made.
      state: pytree of arrays; PRNG keys may be among them.
      score: of this state's evaluation, higher is better; the best is kept.
    """
    if self._read_only:
      raise ValueError(f'{self._folder} was opened with read_only=True; nothing is saved there')
    arrays = leaves.named(state)
    checksums = leaves.checksums(arrays)
    about = _sealed({'checksums': checksums, 'config': self.config, 'score': score})
    items = ocp.args.Composite(state=ocp.args.StandardSave(arrays), about=ocp.args.JsonSave(about))
    self._scores[step] = score
    if not self._manager.save(step, args=items, force=True):
      raise RuntimeError(f'orbax did not save step {step} in {self._folder}')
    self._note_begun()

  def restore(self, like: PyTree) -> Restored | None:
    """Restores the newest checkpoint that verifies; None if nothing was ever saved.

    Those that do not verify are named in a warning and set aside, lest one be kept as the best.

    Args:
      like: a state of the same structure, shapes and dtypes.

    Raises:
      ValueError: if there are checkpoints and none verifies.
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
        f'of the checkpoints in {self._folder} none is whole (found: {steps}); restore them from a '
        'copy, or start again in another workdir'
      )
    if newest and damaged and not self._read_only:
      self._set_aside(damaged)
    return newest

  def best(self, like: PyTree) -> Restored | None:
    """Restores the checkpoint with the highest score among those that verify; None without any."""
    self.wait()
    found = [self._verified(step, like) for step in self._manager.all_steps()]
    return max((each for each in found if each and each.score is not None), key=_rank, default=None)

  def newest_step(self) -> int:
    """Returns the step of the newest checkpoint, verified or not; 0 without any."""
    return self._manager.latest_step() or 0

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

  def _note_begun(self) -> None:
    # Looks at the disk: orbax lists a step before it is there, and a kill may come between.
    if not self._read_only and any(x.name.isdecimal() for x in self._folder.iterdir()):
      self._begun.touch()

  def _about(self, step: int) -> dict[str, Any] | None:
    items = ocp.args.Composite(about=ocp.args.JsonRestore())
    try:
      about = self._manager.restore(step, args=items)['about']
    except Exception as error:  # what a damaged file raises depends on which byte is wrong
      logging.warning('checkpoint %d of %s cannot be read: %s', step, self._folder, _line(error))
      return None
    if not isinstance(about, dict) or about != _sealed(about):
      logging.warning('checkpoint %d of %s: its description is altered', step, self._folder)
      return None
    return about

  def _verified(self, step: int, like: PyTree) -> Restored | None:
    about = self._about(step)
    if about is None:
      return None
    wanted = {x: jax.ShapeDtypeStruct(y.shape, y.dtype) for x, y in leaves.named(like).items()}
    leaves.check_names(wanted, about['checksums'])
    items = ocp.args.Composite(state=ocp.args.StandardRestore(wanted))
    try:
      found = self._manager.restore(step, args=items)['state']
    except Exception as error:  # as above
      logging.warning('checkpoint %d of %s cannot be read: %s', step, self._folder, _line(error))
      return None
    altered = leaves.differences(leaves.checksums(found), about['checksums'])
    wrong = [f'checksum of {name}' for name in altered]
    # Orbax does not mind asking for one shape and getting another.
    wrong += [f'shape of {name}' for name in wanted if found[name].shape != wanted[name].shape]
    if wrong:
      logging.warning('checkpoint %d of %s is not right: %s', step, self._folder, ', '.join(wrong))
      return None
    return Restored(step, leaves.like(like, found), about['score'])

  def _set_aside(self, steps: list[int]) -> None:
    self._manager.close()
    for step in steps:
      target = self._folder.parent / SET_ASIDE / str(step)
      logging.warning('checkpoint %d is not used and goes to %s', step, target)
      shutil.rmtree(target, ignore_errors=True)
      target.parent.mkdir(exist_ok=True)
      (self._folder / str(step)).rename(target)
    self._open()


class _LastAndBest(NamedTuple):
  """What orbax shall preserve; its own BestN believes a file of scores without a checksum."""

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
  return restored.score, restored.step  # of equals the latest


def _sealed(about: Mapping[str, Any]) -> dict[str, Any]:
  content = {name: value for name, value in about.items() if name != 'seal'}
  described = json.dumps(content, sort_keys=True).encode()
  return {**content, 'seal': hashlib.sha256(described).hexdigest()}


def _line(error: Exception) -> str:
  return f'{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ""}'[:200]
