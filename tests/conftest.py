"""Strict settings for every test: no silent broadcasting of ranks, warnings are errors."""

import atexit
import collections
import itertools
import os
import tempfile

# Tests compile much and compute little: two thirds of their time would go into better code.
FAST_COMPILATION = (
  '--xla_backend_optimization_level=0',
  '--xla_llvm_disable_expensive_passes=true',
  '--xla_cpu_use_fusion_emitters=false',
)
os.environ['XLA_FLAGS'] = ' '.join([os.environ.get('XLA_FLAGS', ''), *FAST_COMPILATION])

# Many tests compile the same programs: all processes of a run, also commands, keep them together.
if 'JAX_COMPILATION_CACHE_DIR' not in os.environ:
  compiled = tempfile.TemporaryDirectory(prefix='metapers_tests_', ignore_cleanup_errors=True)
  atexit.register(compiled.cleanup)
  os.environ['JAX_COMPILATION_CACHE_DIR'] = compiled.name
  os.environ.setdefault('JAX_COMPILATION_CACHE_MAX_SIZE', str(2**30))  # with a limit come locks
  os.environ.setdefault('JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS', '0.05')

# One core for each worker of pytest-xdist: XLA's threads of several processes would wait for each
# other in turns that take many times as long.
worker = os.environ.get('PYTEST_XDIST_WORKER')
if worker and hasattr(os, 'sched_setaffinity'):
  cores = sorted(os.sched_getaffinity(0))
  os.sched_setaffinity(0, {cores[int(worker.removeprefix('gw')) % len(cores)]})

import hypothesis  # noqa: E402
import jax  # noqa: E402
import pytest  # noqa: E402

jax.config.update('jax_numpy_rank_promotion', 'raise')

# On a busy machine, or where a program is compiled first, an example takes as long as it takes.
slow = [hypothesis.HealthCheck.too_slow]
hypothesis.settings.register_profile('patient', deadline=None, suppress_health_check=slow)
hypothesis.settings.load_profile('patient')

TESTS_BETWEEN = 10  # counting takes milliseconds; so many tests were seen to take 9,400 maps
done = itertools.count(1)


def pytest_collection_modifyitems(items):
  """Puts the longest files first, so that no worker is left alone with one at the end."""
  size = collections.Counter(item.path for item in items)
  slow = {item.path for item in items if item.get_closest_marker('slow')}
  items.sort(key=lambda item: (item.path not in slow, -size[item.path]))


def pytest_runtest_teardown():
  """Drops compiled programs, each of which holds memory maps, once a worker has very many."""
  from metapers.core import memory_maps  # not above, as below

  if not next(done) % TESTS_BETWEEN:
    memory_maps.drop_programs()


@pytest.fixture
def serve(monkeypatch):
  """Starts chat endpoints on this machine that answer by `behave(number, body)`."""
  import fake_endpoint  # not above: what pytest has not been configured for is not type-checked

  monkeypatch.setenv('OPENAI_API_KEY', fake_endpoint.KEY)
  running = []

  def start(behave):
    running.append(fake_endpoint.Endpoint(behave))
    return running[-1]

  yield start
  for endpoint in running:
    endpoint.close()
