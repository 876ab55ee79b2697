// The portraits to choose from: the user's characters, the server's samples, and the user's own picture.
import { request } from './api.js';
import { keptPicture, keptPortrait } from './kept.js';
import { t } from './words.js';

export class Portraits {
  #grid; #ownFile = null; #chosen = null; #pictures = {}; #characters = {};
  enrolment = false; // whether the server keeps characters
  styles = [];

  constructor(grid, onChoose, onUpload) {
    this.#grid = grid;
    Object.assign(this, { onChoose, onUpload });
  }

  get chosen() { return this.#chosen; }

  // A promise of the chosen portrait's picture as a URL; '' if it cannot be loaded.
  get picture() { return this.#pictures[this.#chosen] ?? Promise.resolve(''); }

  // The chosen character, or null; and whether an uploaded picture is chosen.
  get character() { return this.#characters[this.#chosen] ?? null; }
  get uploaded() { return this.#chosen?.startsWith('u-') ?? false; }

  async load() {
    const first = this.#fill(await this.#list());
    this.#select(first);
    await this.#offerKept();
  }

  // Loads the list again after a character was enrolled, renamed or removed. Selects `id`, or the same portrait as before.
  async reload(id = null) {
    const own = this.#grid.querySelector('[data-own]');
    const first = this.#fill(await this.#list());
    if (own) this.#grid.append(own);
    const known = this.#grid.querySelector(`input[value="${CSS.escape(id ?? this.#chosen)}"]`);
    this.#select(known ? known.value : first, true);
  }

  // Uploads a picture and selects it. Throws a ServerError with the server's message if it is refused.
  async upload(file) {
    const id = await this.send(file);
    this.#grid.querySelector('[data-own]')?.remove();
    this.#ownFile = file;
    this.#add(id, t('chosen'), this.#fetch(id)).dataset.own = '';
    this.#select(id, true);
    await keptPicture.put(file);
  }

  // Uploads a picture; resolves to its id.
  async send(file) {
    return (await (await request('identities', { method: 'POST', body: file })).json()).id;
  }

  // Shows the picture of the last visit from this device. It is sent only when the user selects it.
  async #offerKept() {
    const file = await keptPicture.get();
    if (!file || this.#ownFile) return;
    const label = this.#add('', t('before'), URL.createObjectURL(file));
    label.dataset.own = '';
    label.querySelector('input').onclick = () => this.onUpload(file);
  }

  // Uploads the user's own picture again, since the server may have been restarted.
  async renew() {
    if (this.#ownFile && this.#grid.querySelector('[data-own] input')?.checked) await this.upload(this.#ownFile);
  }

  async #list() { return (await request('identities')).json(); }

  // Shows the list; returns the id to select by default.
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

  // Loads a picture with the token, which an <img> would not send. '' if that fails.
  async #fetch(id) {
    try {
      return URL.createObjectURL(await (await request(`identities/${id}`)).blob());
    } catch { return ''; }
  }

  // `source` is the picture's URL, or a promise of it.
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
