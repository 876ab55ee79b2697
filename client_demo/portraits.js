// The portraits to choose from: samples of the server, and one's own picture.
import { request } from './api.js';

export class Portraits {
  #grid; #own = null; #chosen = null; #pictures = {};

  constructor(grid, onChoose) {
    this.#grid = grid;
    this.onChoose = onChoose;
  }

  get chosen() { return this.#chosen; }

  // The address of the chosen portrait's picture.
  get picture() { return this.#pictures[this.#chosen]; }

  async load() {
    const { identities, default: first } = await (await request('identities')).json();
    for (const { id, name } of identities) this.#add(id, name, `identities/${id}`);
    this.#select(first);
  }

  // Uploads a picture and chooses it; throws with the server's sentence where it cannot be used.
  async upload(file) {
    const { id } = await (await request('identities', { method: 'POST', body: file })).json();
    this.#grid.querySelector('[data-own]')?.remove();
    this.#own = file;
    this.#add(id, 'You chose', `identities/${id}`).dataset.own = '';
    this.#select(id);
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
    input.addEventListener('change', () => this.#select(id));
    const image = Object.assign(document.createElement('img'), { src: source, alt: '', loading: 'lazy' });
    const text = Object.assign(document.createElement('span'), { textContent: name });
    label.append(input, image, text);
    this.#grid.append(label);
    return label;
  }

  #select(id) {
    const input = this.#grid.querySelector(`input[value="${CSS.escape(id)}"]`);
    if (!input) return;
    input.checked = true;
    this.#chosen = id;
    this.onChoose(id);
  }
}
