// The portraits to choose from: samples of the server, and one's own picture.
import { request } from './api.js';
import { keptPicture, keptPortrait } from './kept.js';
import { t } from './words.js';

export class Portraits {
  #grid; #own = null; #chosen = null; #pictures = {};

  constructor(grid, onChoose, onUpload) {
    this.#grid = grid;
    Object.assign(this, { onChoose, onUpload });
  }

  get chosen() { return this.#chosen; }

  // The address of the chosen portrait's picture.
  get picture() { return this.#pictures[this.#chosen]; }

  async load() {
    const { identities, default: first } = await (await request('identities')).json();
    for (const { id, name } of identities) this.#add(id, name, `identities/${id}`);
    this.#select(identities.some(({ id }) => id === keptPortrait.id) ? keptPortrait.id : first);
    await this.#offerKept();
  }

  // Uploads a picture and chooses it; throws with the server's sentence where it cannot be used.
  async upload(file) {
    const { id } = await (await request('identities', { method: 'POST', body: file })).json();
    this.#grid.querySelector('[data-own]')?.remove();
    this.#own = file;
    this.#add(id, t('chosen'), `identities/${id}`).dataset.own = '';
    this.#select(id, true);
    await keptPicture.put(file);
  }

  // The picture of the last visit is shown from this device, and sent once it is chosen again.
  async #offerKept() {
    const file = await keptPicture.get();
    if (!file || this.#own) return;
    const label = this.#add('', t('before'), URL.createObjectURL(file));
    label.dataset.own = '';
    label.querySelector('input').onclick = () => this.onUpload(file);
  }

  // The server may have been restarted since: give it one's own picture again.
  async renew() {
    if (this.#own && this.#grid.querySelector('[data-own] input')?.checked) await this.upload(this.#own);
  }

  #add(id, name, source) {
    this.#pictures[id] = source;
    const label = document.createElement('label');
    label.className = 'face';
    const input = Object.assign(document.createElement('input'), { type: 'radio', name: 'portrait', value: id });
    input.onclick = () => this.#select(id, true);
    const image = Object.assign(document.createElement('img'), { src: source, alt: '', loading: 'lazy' });
    const text = Object.assign(document.createElement('span'), { textContent: name });
    label.append(input, image, text);
    this.#grid.append(label);
    return label;
  }

  #select(id, byHand = false) {
    const input = this.#grid.querySelector(`input[value="${CSS.escape(id)}"]`);
    if (!input) return;
    input.checked = true;
    this.#chosen = id;
    if (!input.closest('[data-own]')) keptPortrait.id = id;
    this.onChoose(id, byHand);
  }
}
