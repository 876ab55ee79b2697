// Privacy mode: the picture stays here, and only numbers of the face leave. It is never sent because something failed.
import { FaceFinder } from './camera.js';
import { privacy } from './kept.js';
import { t } from './words.js';

const $ = (id) => document.getElementById(id);

export class PrivateFace {
  #finder = null; #send; #hint; #failed;

  // `send` takes the bytes of a face, `hint` says what is being waited for, `failed` hears a sentence.
  constructor(send, hint, failed) {
    this.#send = send;
    this.#hint = hint;
    this.#failed = failed;
  }

  get wanted() { return privacy.value; }

  toggle() {
    privacy.value = !privacy.value;
    this.show();
  }

  // Finds the face in a camera's pictures from now on; throws a sentence.
  async find(camera) {
    this.#hint(t('loading'));
    const mine = this.#finder = new FaceFinder();
    try {
      await mine.start(camera, this.#send, (error) => this.#failed(unfound(error)));
    } catch (error) {
      throw new Error(unfound(error));
    } finally {
      this.#hint();
    }
  }

  forget() {
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

const unfound = (error) => `${t('notFound')} ${error?.message ?? error}`;
