"""What the pages of a study share: templates, forms and messages."""

import pathlib
from typing import Any
from urllib import parse

import jinja2
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse

from metapers.collect.study import Study

PAGES = pathlib.Path(__file__).with_name('pages')
NO_FORM = 'This is no form of this study.'
LONGEST_NUMBER = 12  # digits


class Pages:
  """The study behind the pages, the folder that it lies in, and the templates."""

  def __init__(self, study: Study, folder: pathlib.Path):
    self.study, self.folder = study, folder
    self.templates = jinja2.Environment(
      loader=jinja2.FileSystemLoader(PAGES),
      autoescape=True,
      undefined=jinja2.StrictUndefined,
      trim_blocks=True,
    )

  def show(self, name: str, status: int = 200, **values: Any) -> HTMLResponse:
    """Returns a page."""
    given = {'title': self.study.settings.title, **values}
    return HTMLResponse(self.templates.get_template(f'{name}.html').render(given), status)

  def say(self, status: int, heading: str, words: str, **values: Any) -> HTMLResponse:
    """Returns a page with a message."""
    given = {'again': None, 'back': None, **values}
    return self.show('message', status, heading=heading, words=words, **given)


def pages_of(request: Request) -> Pages:
  """Returns the pages that a request is answered by."""
  return request.app.state.pages


async def form(request: Request) -> dict[str, str]:
  """Returns the fields of a form, the last of each name.

  Raises:
    HTTPException: for what is no form.
  """
  try:
    body = (await request.body()).decode()
    return dict(parse.parse_qsl(body, keep_blank_values=True, max_num_fields=20, errors='strict'))
  except ValueError as error:
    raise HTTPException(400, NO_FORM) from error


def number(text: str | None) -> int:
  """Returns a whole number from 0 up, as a form of ours holds it.

  Raises:
    HTTPException: for anything else.
  """
  if not text or not text.isascii() or not text.isdecimal() or len(text) > LONGEST_NUMBER:
    raise HTTPException(400, NO_FORM)
  return int(text)


def to(path: str) -> RedirectResponse:
  """Returns what leads to another page, so that loading it anew sends no form."""
  return RedirectResponse(path, 303)
