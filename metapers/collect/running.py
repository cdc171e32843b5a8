"""A study's server as a process, and the model that asks where none is given."""

import pathlib
import socket
from collections.abc import Callable

import numpy as np

from metapers.collect import items as texts
from metapers.collect.study import Study
from metapers.serving import fitting
from metapers.serving.exports import Export

try:
  import uvicorn

  from metapers.collect import server
except ModuleNotFoundError as error:
  needed = "a study's page needs: pip install 'metapers[collect]'"
  raise ModuleNotFoundError(needed, name=error.name) from error

DEMO = pathlib.Path(__file__).with_name('demo')
OPENED = (
  'listening on {host}: whoever reaches this machine can take part, and try tokens of the '
  'administrator and of participants; traffic is not encrypted, so put a proxy with TLS before it'
)


def prior(items: str | pathlib.Path) -> Export:
  """Returns a model of nobody: logistic regression with weights N(0, I) of standardised features.

  Raises:
    ValueError: for items without features.
  """
  found = texts.read(items)
  if not found.features.size:
    raise ValueError(
      f'the items in {items} have no features, and a model reads nothing else: give some (columns '
      'of items, or features.npy, as experiments.extract makes it), or --model=none'
    )
  pool = texts.pool(found, 2, 0)
  nobody = np.zeros(len(pool), np.int32)
  return fitting.standard(fitting.Given(found.features[pool], nobody, nobody, found.names))


def serve(
  study: Study,
  folder: str | pathlib.Path,
  *,
  host: str,
  port: int,
  ready: Callable[[str], None],
) -> None:
  """Serves a study until the process is told to end.

  Args:
    study: an opened one.
    folder: that it lies in.
    host: to listen on.
    port: to listen on; 0 takes a free one.
    ready: is told the address once it is listened on.

  Raises:
    OSError: for a port that is taken, or not allowed.
  """
  names = server.LOOPBACK if is_loopback(host) else ('*',)
  app = server.application(study, folder, hosts=names)
  with socket.socket(socket.AF_INET6 if ':' in host else socket.AF_INET) as listening:
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listening.bind((host, port))
    listening.listen(1024)
    ready(f'http://{f"[{host}]" if ":" in host else host}:{listening.getsockname()[1]}')
    config = uvicorn.Config(
      app, log_level='warning', access_log=False, server_header=False, lifespan='off',
      timeout_keep_alive=30,
    )  # fmt: skip
    uvicorn.Server(config).run(sockets=[listening])


def is_loopback(host: str) -> bool:
  """Returns whether only this machine reaches a host."""
  return host in ('127.0.0.1', 'localhost', '::1')
