"""What stands before every page: headers, hosts, sizes, and a log without content."""

import time
from collections.abc import Sequence
from urllib import parse

from absl import logging
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LARGEST_FORM, LARGEST_JSON = 2**14, 2**21  # bytes
HEADERS = {
  'content-security-policy': (
    "default-src 'self'; base-uri 'none'; object-src 'none'; form-action 'self'; "
    "frame-ancestors 'none'"
  ),
  'x-content-type-options': 'nosniff',
  'referrer-policy': 'same-origin',
  'cross-origin-opener-policy': 'same-origin',
}


class TooLarge(Exception):
  """A request longer than anybody needs."""


class Guard:
  """Refuses what no page of ours sends, adds headers to all that is answered, and logs.

  Args:
    app: behind it.
    hosts: names that the server answers to; '*' for any. On loopback it is only those, or a page
      elsewhere could reach it by a name of its own.
  """

  def __init__(self, app: ASGIApp, hosts: Sequence[str]):
    self.app, self.hosts = app, hosts

  async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
    """Serves one request."""
    if scope['type'] != 'http':
      await self.app(scope, receive, send)
      return
    begun, status = time.perf_counter(), 500

    async def answer(message: Message) -> None:
      nonlocal status
      if message['type'] == 'http.response.start':
        status = message['status']
        is_fixed = scope['path'].startswith('/static/')
        kept = {'cache-control': 'no-cache' if is_fixed else 'no-store'}
        MutableHeaders(scope=message).update(HEADERS | kept)
      await send(message)

    refused = self._refusal(scope)
    try:
      if refused:
        await refused(scope, receive, answer)
      else:
        await self.app(scope, _limited(scope, receive), answer)
    finally:
      milliseconds = 1000 * (time.perf_counter() - begun)
      level = logging.WARNING if status >= 400 else logging.INFO
      # Never the path, which may hold a token, nor anything that was sent.
      logging.log(level, '%s %s %d %.0f ms', scope['method'], _area(scope), status, milliseconds)

  def _refusal(self, scope: Scope) -> PlainTextResponse | None:
    headers = Headers(scope=scope)
    host = headers.get('host', '')
    if '*' not in self.hosts and host.rsplit(':', 1)[0] not in self.hosts:
      return PlainTextResponse('This server does not answer to that name.', 400)
    origin = headers.get('origin')
    if scope['method'] != 'GET' and origin and parse.urlsplit(origin).netloc != host:
      return PlainTextResponse('This form is of another site.', 403)
    length = headers.get('content-length', '0')
    if not length.isdecimal() or int(length) > _most(scope):
      return PlainTextResponse('That is too much.', 413)
    return None


def _most(scope: Scope) -> int:
  return LARGEST_JSON if scope['path'].startswith('/api/') else LARGEST_FORM


def _limited(scope: Scope, receive: Receive) -> Receive:
  """Counts what comes, since a request need not say how long it is."""
  left = _most(scope)

  async def counted() -> Message:
    nonlocal left
    message = await receive()
    left -= len(message.get('body', b''))
    if left < 0:
      raise TooLarge
    return message

  return counted


def _area(scope: Scope) -> str:
  first = scope['path'].split('/')[1]
  return first if first in ('', 'p', 'begin', 'admin', 'api', 'static') else 'other'
