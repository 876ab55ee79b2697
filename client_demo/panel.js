// What is set while live: mirror, expression and its bounds, mood, background. Told to the server as it changes, and as
// a whole when a session opens.
import { t } from './words.js';

const $ = (id) => document.getElementById(id);
const REGIONS = ['brows', 'eyes', 'gaze', 'mouth', 'head'];

export class Panel {
  #send; #keepChosen = false; #mirror = true; // until the mood is chosen the server's own setting counts

  constructor(send) {
    this.#send = send;
    $('background').onchange = () => send(this.#background());
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
    if ($('background').value !== 'own') this.#send(this.#background());
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
    const settings = { background: $('background').value, expression: this.#expression().value };
    return this.#keepChosen ? { ...settings, keep: Number($('keep').value) } : settings;
  }

  get #bounded() {
    const { hold, gains } = this.#expression().value;
    return hold.length > 0 || Object.keys(gains).length > 0;
  }

  #mirrored() { return { type: 'mirror', value: this.#mirror }; }
  #gain() { return { type: 'gain', value: Number($('gain').value) }; }
  #keep() { return { type: 'keep', value: Number($('keep').value) }; }
  #background() { return { type: 'background', value: $('background').value }; }

  #expression() {
    const hold = [...document.getElementsByName('hold')].filter((box) => box.checked).map((box) => box.value);
    const gains = REGIONS.map((name) => [name, Number($(`region-${name}`).value)]).filter(([, value]) => value !== 1);
    return { type: 'expression', value: { hold, gains: Object.fromEntries(gains) } };
  }

  #showKeep() { $('keep-value').textContent = Number($('keep').value).toFixed(1); }
}
