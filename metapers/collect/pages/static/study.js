// Keys for the buttons of the page, the time that an answer took, and no second click.
'use strict';
const begun = performance.now();
const answer = document.getElementById('answer');

document.addEventListener('keydown', (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
  const step = {ArrowUp: 1, ArrowDown: -1}[event.key];
  if (step) return strengthen(event, step);
  const key = event.key.toLowerCase();
  for (const button of document.querySelectorAll('button[data-keys]')) {
    if (button.dataset.keys.split(' ').includes(key) && !button.disabled) {
      event.preventDefault();
      button.click();
      return;
    }
  }
});

function strengthen(event, step) {
  const levels = [...document.querySelectorAll('input[name=strength]')];
  if (!levels.length) return;
  event.preventDefault();
  const next = levels.findIndex((level) => level.checked) + step;
  levels.forEach((level, index) => { level.checked = index === Math.min(next, levels.length - 1); });
}

if (answer) {
  answer.addEventListener('submit', () => {
    answer.elements.duration.value = ((performance.now() - begun) / 1000).toFixed(2);
    // After the browser has read which button it was.
    setTimeout(() => document.querySelectorAll('button').forEach((b) => { b.disabled = true; }));
  });
}
// A page that comes back from the browser's memory is of before the answer.
window.addEventListener('pageshow', (event) => { if (event.persisted) location.reload(); });
