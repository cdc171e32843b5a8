import contextlib
import json
import os
import pathlib
import re
import sys

import pytest

from metapers.collect import check, running
from metapers.collect import items as texts

sync_api = pytest.importorskip('playwright.sync_api', reason='playwright is not installed')
CHROMIUM = pathlib.Path('/usr/bin/chromium')
pytestmark = pytest.mark.skipif(not CHROMIUM.exists(), reason=f'there is no browser {CHROMIUM}')
ROOT = pathlib.Path(__file__).parents[2]
COMMAND = [sys.executable, '-m', 'experiments.collect']
QUESTIONS = 6
PHONE = {'viewport': {'width': 390, 'height': 844}, 'has_touch': True, 'is_mobile': True}


@pytest.fixture(scope='module')
def address(tmp_path_factory):
  words = ('--beliefs', f'--questions={QUESTIONS}')
  os.chdir(ROOT)
  server = check.Served(COMMAND, tmp_path_factory.mktemp('browser') / 'study', *words)
  yield server.address
  server.close()


@pytest.fixture(scope='module')
def chromium():
  with sync_api.sync_playwright() as playwright:
    browser = playwright.chromium.launch(executable_path=CHROMIUM, args=['--no-sandbox'])
    yield browser
    browser.close()


@pytest.fixture
def open_page(chromium, address):
  """Opens the first page; at the end no page has logged an error, or called another host."""
  with contextlib.ExitStack() as stack:
    troubles = []

    def opened(site=address, **options):
      context = chromium.new_context(**options)
      stack.callback(context.close)
      page = context.new_page()
      page.on('console', lambda message: troubles.append(message.text))
      page.on('pageerror', lambda error: troubles.append(str(error)))
      page.on('request', lambda asked: asked.url.startswith(site) or troubles.append(asked.url))
      page.goto(site)
      return page

    yield opened
  assert [trouble for trouble in troubles if '409' not in trouble] == []


def press(page, key):
  with page.expect_navigation():
    page.keyboard.press(key)


def begun(page):
  with page.expect_navigation():
    page.get_by_role('button', name='Begin').click()
  return page


def number(page):
  return int(re.search(r'Question (\d+)', page.inner_text('.count'))[1])


def test_a_whole_study_needs_a_keyboard_alone(open_page):
  page = open_page()
  page.wait_for_function('document.activeElement.innerText === "Begin"')
  press(page, 'Enter')
  for asked, key in enumerate(['ArrowLeft', 's', '2', 'b', 'k', 'ArrowRight'], 1):
    assert number(page) == asked
    page.keyboard.press('w')  # clearly
    assert page.get_by_label('clearly').is_checked()
    press(page, key)
  assert page.get_by_role('heading', name='Thank you').is_visible()
  assert page.get_by_role('img', name='Chance that you prefer').is_visible()


def test_every_control_is_reached_by_tab_and_its_focus_is_seen(open_page):
  page = begun(open_page())
  reached = []
  for _ in range(7):
    page.keyboard.press('Tab')
    focused = page.evaluate(
      'const e = document.activeElement, s = getComputedStyle(e.type === "radio" ? '
      'e.nextElementSibling : e); [e.value || e.innerText, s.outlineStyle, s.outlineWidth]'
    )
    assert focused[1:] == ['solid', '3px'], focused
    reached.append(focused[0])
  assert {'choice:0', 'choice:1', 'same', 'both_bad', 'skip', '1'} <= set(reached)
  page.get_by_role('button', name='Prefer A').focus()
  press(page, 'Enter')
  assert number(page) == 2


def test_an_answer_is_undone_and_a_reload_changes_nothing(open_page):
  page = begun(open_page())
  texts = page.inner_text('.candidates')
  press(page, '1')
  press(page, '1')
  assert number(page) == 3
  page.reload()
  assert number(page) == 3
  press(page, 'u')
  press(page, 'u')
  assert number(page) == 1 and page.inner_text('.candidates') == texts
  assert page.get_by_role('button', name='Undo').count() == 0


def test_a_second_tab_says_that_the_question_was_answered_in_the_first(open_page):
  page = begun(open_page())
  other = page.context.new_page()
  other.goto(page.url)
  press(page, '1')
  press(other, '2')
  assert 'Nothing was changed' in other.inner_text('main')
  with other.expect_navigation():
    other.get_by_role('link', name='Go on').click()
  assert number(other) == number(page) == 2


def test_going_back_shows_the_question_that_is_open(open_page):
  page = begun(open_page())
  press(page, '1')
  press(page, '1')
  page.go_back()
  page.wait_for_function('document.querySelector(".count").innerText.includes("Question 3")')


def test_a_telephone_shows_it_all_and_is_touched(open_page):
  page = open_page(**PHONE)
  with page.expect_navigation():
    page.get_by_role('button', name='Begin').tap()
  for _ in range(2):
    assert page.evaluate('document.documentElement.scrollWidth') == 390
    for button in page.locator('#answer button').all():
      box = button.bounding_box()
      assert box['height'] >= 44 and box['x'] >= 0 and box['x'] + box['width'] <= 390
    with page.expect_navigation():
      page.get_by_role('button', name='Prefer B').tap()
  assert number(page) == 3
  assert not page.locator('kbd').first.is_visible()


def test_a_screen_reader_is_told_what_there_is(open_page):
  page = begun(open_page())
  press(page, '1')
  for role, name in (
    ('article', 'Text A'), ('article', 'Text B'), ('progressbar', '1 of 6 answered'),
    ('button', 'Prefer A'), ('button', 'About the same'), ('button', 'Both bad'),
    ('radio', 'by far'), ('group', 'How clear is it'), ('complementary', 'What the model believes'),
    ('img', 'Chance that you prefer'),
  ):  # fmt: skip
    assert page.get_by_role(role, name=name).count() == 1, (role, name)
  assert page.locator('html').get_attribute('lang') == 'en'
  assert page.locator('h1').count() == 1


def test_without_scripts_the_buttons_work(open_page):
  page = begun(open_page(java_script_enabled=False))
  with page.expect_navigation():
    page.get_by_role('button', name='Prefer A').click()
  assert number(page) == 2


def test_a_second_click_is_not_a_second_answer(open_page):
  page = begun(open_page())
  with page.expect_navigation():
    page.evaluate(
      'const b = document.querySelector("button[value=skip]"); b.click(); b.click(); b.click()'
    )
  assert number(page) == 2


def test_who_is_asked_fifteen_questions_is_told_the_text_they_like_best(open_page, tmp_path):
  items = texts.read(running.DEMO)
  standard = (items.features - items.features.mean(0)) / items.features.std(0)
  taste = {'humour': 4.0, 'reasons': 2.0, 'words': -1.0}
  utility = standard @ [taste.get(name, 0.0) for name in items.names]
  asked = {'num_questions': 15, 'control_share': 0, 'repeat_share': 0, 'attention_share': 0}
  asked['stop_probability'] = 0.6
  (tmp_path / 'settings.json').write_text(json.dumps(asked))
  words = ('--beliefs', f'--settings={tmp_path / "settings.json"}')
  with contextlib.closing(check.Served(COMMAND, tmp_path / 'study', *words)) as server:
    page = begun(open_page(server.address))
    for _ in range(15):
      shown = page.locator('.candidates .text').all_inner_texts()
      first, second = (utility[items.texts.index(text)] for text in shown)
      press(page, '1' if first > second else '2')
    told = page.inner_text('main')
  target = texts.target(items, '')
  assert items.texts[target[utility[target].argmax()]] in told
  assert int(re.search(r'It is (\d+)\s% sure which of 8 texts', told)[1]) > 60
  assert 'more questions would change little' in told
