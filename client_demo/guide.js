// The first time: one thing after the other, and what comes next only once it is done.
import { t } from './words.js';

const KEPT = 'avatar-stream-guided';
const STEPS = ['guideChoose', 'guideStart', 'guideAhead', 'guideMove'];

export class Guide {
  #step = localStorage.getItem(KEPT) ? STEPS.length : 0;

  constructor(element) {
    this.element = element;
    this.show();
  }

  // Something was done: `chose` a portrait, `live` is the avatar, `calibrated` it is.
  did(what) {
    const reached = { chose: 1, live: 2, calibrated: 3 }[what];
    if (reached <= this.#step) return;
    this.#step = reached;
    this.show();
    if (reached === 3) {
      localStorage.setItem(KEPT, 'yes');
      setTimeout(() => { this.#step = STEPS.length; this.show(); }, 8000);
    }
  }

  show() {
    const sentence = STEPS[this.#step];
    this.element.hidden = !sentence;
    this.element.textContent = sentence ? t(sentence) : '';
  }
}
