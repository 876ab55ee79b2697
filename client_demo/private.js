// Privacy mode: the picture stays on this device and only numbers are sent. A failure never makes the page send the picture.
import { FaceFinder } from './camera.js';
import { privacy } from './kept.js';
import { t } from './words.js';

const $ = (id) => document.getElementById(id);

export class PrivateFace {
  #finder = null; #send; #hint; #onFailure;

  // `send` sends the bytes of a face, `hint` shows what the page waits for, `onFailure` gets an error message.
  constructor(send, hint, onFailure) {
    this.#send = send;
    this.#hint = hint;
    this.#onFailure = onFailure;
  }

  get wanted() { return privacy.value; }

  toggle() {
    privacy.value = !privacy.value;
    this.show();
  }

  // Starts to find the face in a camera's pictures; throws an Error with a message for the user.
  async find(camera) {
    this.#hint(t('loading'));
    const mine = this.#finder = new FaceFinder();
    try {
      await mine.start(camera, this.#send, (error) => this.#onFailure(notFoundMessage(error)));
    } catch (error) {
      throw new Error(notFoundMessage(error));
    } finally {
      this.#hint();
    }
  }

  stop() {
    this.#finder?.stop();
    this.#finder = null;
    $('sent').textContent = '';
  }

  showRate() {
    if (this.#finder) $('sent').textContent = `${Math.round(this.#finder.rate)} kbit/s`;
  }

  show() {
    $('private').checked = this.wanted;
    $('promise').dataset.t = this.wanted ? 'kept' : 'privacy';
    $('promise').textContent = t($('promise').dataset.t);
  }
}

const notFoundMessage = (error) => `${t('notFound')} ${error?.message ?? error}`;
