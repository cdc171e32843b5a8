"""Strict settings for every test: no silent broadcasting of ranks, warnings are errors."""

import os

# Tests compile much and compute little: half of their time would go into optimising code.
FAST_COMPILATION = '--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true'
os.environ['XLA_FLAGS'] = ' '.join(filter(None, [os.environ.get('XLA_FLAGS'), FAST_COMPILATION]))

# One core for each worker of pytest-xdist: XLA's threads of several processes would wait for each
# other in turns that take many times as long.
worker = os.environ.get('PYTEST_XDIST_WORKER')
if worker and hasattr(os, 'sched_setaffinity'):
  cores = sorted(os.sched_getaffinity(0))
  os.sched_setaffinity(0, {cores[int(worker.removeprefix('gw')) % len(cores)]})

import jax  # noqa: E402

jax.config.update('jax_numpy_rank_promotion', 'raise')
