"""The HTTP interface, as a front end of others calls it."""


class Interface:
  """The interface of a served study, as its administrator."""

  def __init__(self, site):
    self.client = site.client
    self.headers = {'authorization': f'Bearer {site.token}'}

  def call(self, verb, status=200, key=None, name='ada', **values):
    headers = self.headers | ({'idempotency-key': key} if key else {})
    found = self.client.post(f'/api/profiles/{name}/{verb}', json=values, headers=headers)
    assert found.status_code == status, found.text
    return found.json()
