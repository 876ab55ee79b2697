// The portraits to choose from: samples of the server, and one's own picture.
import { getJson } from './session.js';

export class Portraits {
  #grid; #own = null; #chosen = null;

  constructor(grid, onChoose) {
    this.#grid = grid;
    this.onChoose = onChoose;
  }

  get chosen() { return this.#chosen; }

  async load() {
    const { identities, default: first } = await getJson(await fetch('identities'));
    for (const { id, name } of identities) this.#add(id, name, `identities/${id}`);
    this.#select(first);
  }

  // Uploads a picture and chooses it; throws with the server's sentence where it cannot be used.
  async upload(file) {
    const { id } = await getJson(await fetch('identities', { method: 'POST', body: file }));
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
