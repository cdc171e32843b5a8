"""Studies that are served, as a test reaches them."""

import re

import made_studies
from starlette import testclient

from metapers.collect import running, server
from metapers.collect.settings import Settings

ASKED = Settings(num_questions=6, control_share=0.3, repeat_share=0.0, attention_share=0.1,
                 show_beliefs=True, pool_size=8)  # fmt: skip


class Site:
  """A served study."""

  def __init__(self, folder, asked=ASKED, with_model=False, texts=None, model=None):
    items = made_studies.write_items(folder / 'items', texts)
    model = running.prior(items) if with_model else model
    self.study = made_studies.open_study(folder, asked, model, texts)
    self.token = self.study.store.new_token()
    app = server.application(self.study, folder / 'study')
    self.client = testclient.TestClient(
      app, base_url='http://127.0.0.1', follow_redirects=False, raise_server_exceptions=False
    )

  def begin(self):
    return self.client.post('/begin').headers['location']

  def fields(self, path):
    page = self.client.get(path)
    assert page.status_code == 200
    return dict(re.findall(r'name="(question|key)" value="([^"]+)"', page.text))

  def answer(self, path, what='choice:0', **changed):
    given = {**self.fields(path), 'answer': what, 'duration': '1.5', **changed}
    return self.client.post(f'{path}/answer', data=given), given

  def count(self):
    return len(self.study.store.rows('SELECT id FROM answers WHERE undone IS NULL'))
