// The portraits to choose from: one's own characters, samples of the server, and one's own picture.
import { request } from './api.js';
import { keptPicture, keptPortrait } from './kept.js';
import { t } from './words.js';

export class Portraits {
  #grid; #own = null; #chosen = null; #pictures = {}; #characters = {};
  enrolment = false; // the server keeps characters
  styles = [];

  constructor(grid, onChoose, onUpload) {
    this.#grid = grid;
    Object.assign(this, { onChoose, onUpload });
  }

  get chosen() { return this.#chosen; }

  // The address of the chosen portrait's picture, once it is here; empty where it cannot be shown.
  get picture() { return this.#pictures[this.#chosen] ?? Promise.resolve(''); }

  // The chosen character, or null; and whether an uploaded picture is chosen.
  get character() { return this.#characters[this.#chosen] ?? null; }
  get uploaded() { return this.#chosen?.startsWith('u-') ?? false; }

  async load() {
    const kept = this.#fill(await this.#list());
    this.#select(kept);
    await this.#offerKept();
  }

  // After something was enrolled, renamed or removed: the list anew, with `id` chosen, or who was chosen before.
  async reload(id = null) {
    const own = this.#grid.querySelector('[data-own]');
    const first = this.#fill(await this.#list());
    if (own) this.#grid.append(own);
    const known = this.#grid.querySelector(`input[value="${CSS.escape(id ?? this.#chosen)}"]`);
    this.#select(known ? known.value : first, true);
  }

  // Uploads a picture and chooses it; throws with the server's sentence where it cannot be used.
  async upload(file) {
    const id = await this.send(file);
    this.#grid.querySelector('[data-own]')?.remove();
    this.#own = file;
    this.#add(id, t('chosen'), this.#fetch(id)).dataset.own = '';
    this.#select(id, true);
    await keptPicture.put(file);
  }

  // Uploads a picture; its id.
  async send(file) {
    return (await (await request('identities', { method: 'POST', body: file })).json()).id;
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

  async #list() { return (await request('identities')).json(); }

  // Shows who there is; the id that is chosen where nothing else is.
  #fill({ identities, default: first, enrolment, styles }) {
    Object.assign(this, { enrolment, styles });
    this.#grid.replaceChildren();
    for (const id of Object.keys(this.#characters)) this.#pictures[id].then((url) => url && URL.revokeObjectURL(url));
    this.#characters = {};
    for (const { id, name, sample } of identities) {
      if (!sample) this.#characters[id] = { id, name };
      this.#add(id, name, sample ? `identities/${id}` : this.#fetch(id));
    }
    return identities.some(({ id }) => id === keptPortrait.id) ? keptPortrait.id : first;
  }

  // A picture that its owner alone may see: an <img> by itself sends no token.
  async #fetch(id) {
    try {
      return URL.createObjectURL(await (await request(`identities/${id}`)).blob());
    } catch { return ''; }
  }

  // `source` is the picture's address, or the promise of one.
  #add(id, name, source) {
    this.#pictures[id] = Promise.resolve(source);
    const label = document.createElement('label');
    label.className = 'face';
    const input = Object.assign(document.createElement('input'), { type: 'radio', name: 'portrait', value: id });
    input.onclick = () => this.#select(id, true);
    const image = Object.assign(document.createElement('img'), { alt: '', loading: 'lazy' });
    this.#pictures[id].then((url) => { if (url) image.src = url; });
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
