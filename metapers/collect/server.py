"""A study as a Starlette application."""

import pathlib
import sqlite3
from collections.abc import Sequence
from urllib import parse

from absl import logging
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from metapers.collect import admin, api, guard, participation, web
from metapers.collect.store import Conflict
from metapers.collect.study import Study

LOOPBACK = ('127.0.0.1', 'localhost', '[::1]')


def application(
  study: Study, folder: str | pathlib.Path, *, hosts: Sequence[str] = LOOPBACK
) -> Starlette:
  """Returns the application that serves a study.

  Args:
    study: an opened one.
    folder: that it lies in.
    hosts: names that the server answers to, '*' for any.
  """
  app = Starlette(
    routes=[
      *participation.routes(),
      *admin.routes(),
      *api.routes(),
      Route('/favicon.ico', _nothing),
      Mount('/static', StaticFiles(directory=web.PAGES / 'static')),
    ],
    middleware=[Middleware(guard.Guard, hosts=hosts)],
    exception_handlers={
      Conflict: conflict,
      sqlite3.Error: not_stored,
      guard.TooLarge: too_large,
      HTTPException: refused,
      Exception: failed,
    },
  )
  app.state.pages = web.Pages(study, pathlib.Path(folder))
  app.state.sessions = set()
  return app


async def conflict(request: Request, error: Exception) -> Response:
  """A form of before: of another tab, of a page gone back to, or sent again."""
  path = request.url.path
  back = parse.quote('/'.join(path.split('/')[:3])) if path.startswith('/p/') else '/'
  words = f'{str(error)[0].upper()}{str(error)[1:]}. Nothing was changed.'
  return web.pages_of(request).say(409, 'This page is of before', words, back=back)


async def not_stored(request: Request, error: Exception) -> Response:
  """A disk without space, or a file that another process holds."""
  return participation.not_stored(web.pages_of(request), error)


async def too_large(request: Request, error: Exception) -> Response:
  """More than any form of ours holds."""
  return web.pages_of(request).say(413, 'Too much', 'That is more than this page takes.')


async def refused(request: Request, error: Exception) -> Response:
  """What is not there, or not allowed."""
  assert isinstance(error, HTTPException)
  words = error.detail if error.status_code != 404 else 'There is nothing here.'
  if request.url.path.startswith('/api/'):
    return JSONResponse({'error': words}, error.status_code)
  return web.pages_of(request).say(error.status_code, 'Not possible', words)


async def failed(request: Request, error: Exception) -> Response:
  """A mistake of ours, or a model that fails: answers are kept before it is asked."""
  logging.error('a page failed: %s', type(error).__name__)
  words = 'The next question cannot be chosen now. All your answers are kept. Load the page again.'
  return web.pages_of(request).say(500, 'Something went wrong', words)


async def _nothing(request: Request) -> Response:
  return Response(status_code=204)
