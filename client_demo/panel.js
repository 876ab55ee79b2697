// What is set while live: mirror, expression and its bounds, mood, background. Told to the server as it changes, and as
// a whole when a session opens.
import { request } from './api.js';
import { t } from './words.js';

const $ = (id) => document.getElementById(id);
const REGIONS = ['brows', 'eyes', 'gaze', 'mouth', 'head'];

export class Panel {
  #send; #say; #ground = null; #keepChosen = false; #mirror = true; // until the mood is chosen the server's own setting counts

  // `send` tells the server, `say` a person.
  constructor(send, say) {
    this.#send = send;
    this.#say = say;
    $('background').onchange = () => {
      if ($('background').value === 'file') $('background-file').click();
      else send(this.#background());
    };
    $('background-file').onchange = () => this.#upload($('background-file').files[0]);
    $('gain').oninput = () => {
      $('gain-value').textContent = Number($('gain').value).toFixed(1);
      send(this.#gain());
    };
    $('keep').oninput = () => {
      this.#keepChosen = true;
      this.#showKeep();
      send(this.#keep());
    };
    for (const name of REGIONS) {
      const label = document.createElement('label');
      label.className = 'slider';
      const text = Object.assign(document.createElement('span'), { textContent: t(name) });
      text.dataset.t = name;
      label.append(text, Object.assign(document.createElement('input'), {
        type: 'range', min: 0, max: 2, step: 0.1, value: 1, name: 'region', id: `region-${name}`,
        oninput: () => send(this.#expression()),
      }));
      $('regions').append(label);
    }
    for (const box of document.getElementsByName('hold')) box.onchange = () => send(this.#expression());
  }

  toggleMirror() {
    this.#mirror = !this.#mirror;
    $('mirror').setAttribute('aria-pressed', this.#mirror);
    $('self').style.transform = this.#mirror ? '' : 'none';
    this.#send(this.#mirrored());
  }

  // Everything, for a session that has just opened; a character's own settings stay where nothing was chosen.
  tell() {
    this.#send(this.#mirrored());
    this.#send(this.#gain());
    const ground = this.#background();
    if (ground.value !== 'own') this.#send(ground);
    if (this.#bounded) this.#send(this.#expression());
    if (this.#keepChosen) this.#send(this.#keep());
  }

  // As the server has it.
  show({ keep }) {
    if (this.#keepChosen || keep === undefined) return;
    $('keep').value = keep;
    this.#showKeep();
  }

  // What goes with a character.
  get settings() {
    const ground = $('background').value; // a picture of one's own is gone with the server
    const settings = { background: ground === 'file' ? 'own' : ground, expression: this.#expression().value };
    return this.#keepChosen ? { ...settings, keep: Number($('keep').value) } : settings;
  }

  get #bounded() {
    const { hold, gains } = this.#expression().value;
    return hold.length > 0 || Object.keys(gains).length > 0;
  }

  #mirrored() { return { type: 'mirror', value: this.#mirror }; }
  #gain() { return { type: 'gain', value: Number($('gain').value) }; }
  #keep() { return { type: 'keep', value: Number($('keep').value) }; }

  #background() {
    const { value } = $('background');
    return { type: 'background', value: value === 'file' ? this.#ground ?? 'own' : value };
  }

  async #upload(file) {
    if (!file) return;
    try {
      this.#ground = (await (await request('backgrounds', { method: 'POST', body: file })).json()).id;
      this.#send(this.#background());
    } catch (error) { this.#say(error.message); }
  }

  #expression() {
    const hold = [...document.getElementsByName('hold')].filter((box) => box.checked).map((box) => box.value);
    const gains = REGIONS.map((name) => [name, Number($(`region-${name}`).value)]).filter(([, value]) => value !== 1);
    return { type: 'expression', value: { hold, gains: Object.fromEntries(gains) } };
  }

  #showKeep() { $('keep-value').textContent = Number($('keep').value).toFixed(1); }
}
