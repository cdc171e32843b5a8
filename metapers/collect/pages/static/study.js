// Keys for the buttons of the page, the time that an answer took, and no second click.
'use strict';
const begun = performance.now();
const answer = document.getElementById('answer');

document.addEventListener('keydown', (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
  // Arrows move within a group of choices, as they always do.
  if (event.target.type === 'radio' && event.key.startsWith('Arrow')) return;
  const key = event.key.toLowerCase();
  for (const control of document.querySelectorAll('[data-keys]')) {
    if (control.dataset.keys.split(' ').includes(key) && !control.disabled) {
      event.preventDefault();
      control.click();
      return;
    }
  }
});

if (answer) {
  answer.addEventListener('submit', () => {
    answer.elements.duration.value = ((performance.now() - begun) / 1000).toFixed(2);
    // After the browser has read which button it was.
    setTimeout(() => document.querySelectorAll('button').forEach((b) => { b.disabled = true; }));
  });
}
// A page that comes back from the browser's memory is of before the answer.
window.addEventListener('pageshow', (event) => { if (event.persisted) location.reload(); });
