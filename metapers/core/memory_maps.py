"""Memory maps of compiled programs: LLVM ends a process that has no more of them."""

import gc
import pathlib

import jax

MAPS = pathlib.Path('/proc/self/maps')
MOST = 20_000  # Linux gives a process 65,530


def drop_programs() -> bool:
  """Drops all compiled programs where they hold very many memory maps; returns whether it did.

  Each holds some, and is kept as long as its function; who trains one learner after another in one
  process runs out of them after hundreds. What is called again is compiled again.
  """
  if not MAPS.exists() or MAPS.read_bytes().count(b'\n') <= MOST:
    return False
  jax.clear_caches()
  gc.collect()
  return True
