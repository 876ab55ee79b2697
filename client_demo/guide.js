// Hints on a first visit. The next step appears once the one before is done.
import { t } from './words.js';

const GUIDED_KEY = 'avatar-stream-guided';
const LAST_STEP_MS = 8000; // for which the last hint is shown
const STEPS = ['guideChoose', 'guideStart', 'guideAhead', 'guideMove'];

export class Guide {
  #step = localStorage.getItem(GUIDED_KEY) ? STEPS.length : 0;

  constructor(element) {
    this.element = element;
    this.show();
  }

  // `what` was done: 'chose' (a portrait), 'live' (the avatar) or 'calibrated'.
  did(what) {
    const reached = { chose: 1, live: 2, calibrated: 3 }[what];
    if (reached <= this.#step) return;
    this.#step = reached;
    this.show();
    if (reached === 3) {
      localStorage.setItem(GUIDED_KEY, 'yes');
      setTimeout(() => { this.#step = STEPS.length; this.show(); }, LAST_STEP_MS);
    }
  }

  show() {
    const sentence = STEPS[this.#step];
    this.element.hidden = !sentence;
    this.element.textContent = sentence ? t(sentence) : '';
  }
}
