"""The pages of those who run a study, behind a token."""

import secrets
import time

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from metapers.collect import export, summary, web
from metapers.collect.web import Pages

COOKIE = 'admin'


def routes() -> list[BaseRoute]:
  """Returns where the pages are."""
  return [
    Route('/admin', overview),
    Route('/admin/login', login, methods=['POST']),
    Route('/admin/logout', logout, methods=['POST']),
    Route('/admin/participants', enrol, methods=['POST']),
    Route('/admin/delete', delete, methods=['POST']),
    Route('/admin/export', tables),
  ]


async def overview(request: Request) -> Response:
  """The study so far; the form for the token to everybody else."""
  pages = web.pages_of(request)
  if not _is_known(request):
    return pages.show('login')
  return await run_in_threadpool(_overview, pages, '')


async def login(request: Request) -> Response:
  """Gives a session to whoever has the token."""
  pages = web.pages_of(request)
  token = (await web.form(request)).get('token', '')
  if not await run_in_threadpool(pages.study.store.is_admin, token):
    return pages.say(403, 'Not possible', 'That is not the token.', back='/admin')
  session = secrets.token_urlsafe(32)
  request.app.state.sessions.add(session)
  answer = web.to('/admin')
  answer.set_cookie(COOKIE, session, path='/admin', httponly=True, samesite='strict')
  return answer


async def logout(request: Request) -> Response:
  """Ends a session."""
  request.app.state.sessions.discard(request.cookies.get(COOKIE, ''))
  return web.to('/admin')


async def enrol(request: Request) -> Response:
  """Makes a participant, and shows the link once."""
  pages = _admitted(request)
  study = pages.study
  token = await run_in_threadpool(study.store.enrol, study.settings.max_participants)
  return await run_in_threadpool(_overview, pages, f'{request.base_url}p/{token}')


async def delete(request: Request) -> Response:
  """Deletes a participant."""
  pages = _admitted(request)
  user = web.number((await web.form(request)).get('participant'))
  if not await run_in_threadpool(pages.study.store.delete, user):
    raise HTTPException(404)
  return web.to('/admin')


async def tables(request: Request) -> Response:
  """The tables of the study, as a zip."""
  pages = _admitted(request)
  content = await run_in_threadpool(export.zipped, pages.study.store, pages.folder)
  name = {'content-disposition': 'attachment; filename="study.zip"'}
  return Response(content, media_type='application/zip', headers=name)


def _overview(pages: Pages, link: str) -> Response:
  return pages.show('admin', link=link, summary=summary.summarise(pages.study, time.time()))


def _is_known(request: Request) -> bool:
  return request.cookies.get(COOKIE, '') in request.app.state.sessions


def _admitted(request: Request) -> Pages:
  if not _is_known(request):
    raise HTTPException(403, 'Open /admin with the token first.')
  return web.pages_of(request)
