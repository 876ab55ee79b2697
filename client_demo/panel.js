// The settings of a live session: mirror, expression and its limits, mood, background. Each change is sent to the server,
// and all of them when a session opens.
import { request } from './api.js';
import { t } from './words.js';

const $ = (id) => document.getElementById(id);
const REGIONS = ['brows', 'eyes', 'gaze', 'mouth', 'head'];

export class Panel {
  #send; #say; #backgroundId = null; #mirror = true;
  #keepChosen = false; // until the user moves the slider, the server's setting is used

  // `send` sends a message to the server, `say` shows an error.
  constructor(send, say) {
    this.#send = send;
    this.#say = say;
    $('background').onchange = () => {
      if ($('background').value === 'file') $('background-file').click();
      else send(this.#backgroundMessage());
    };
    $('background-file').onchange = () => this.#upload($('background-file').files[0]);
    $('gain').oninput = () => {
      $('gain-value').textContent = Number($('gain').value).toFixed(1);
      send(this.#gainMessage());
    };
    $('keep').oninput = () => {
      this.#keepChosen = true;
      this.#showKeep();
      send(this.#keepMessage());
    };
    for (const name of REGIONS) {
      const label = document.createElement('label');
      label.className = 'slider';
      const text = Object.assign(document.createElement('span'), { textContent: t(name) });
      text.dataset.t = name;
      label.append(text, Object.assign(document.createElement('input'), {
        type: 'range', min: 0, max: 2, step: 0.1, value: 1, name: 'region', id: `region-${name}`,
        oninput: () => send(this.#expressionMessage()),
      }));
      $('regions').append(label);
    }
    for (const box of document.getElementsByName('hold')) box.onchange = () => send(this.#expressionMessage());
  }

  toggleMirror() {
    this.#mirror = !this.#mirror;
    $('mirror').setAttribute('aria-pressed', this.#mirror);
    $('self').style.transform = this.#mirror ? '' : 'none';
    this.#send(this.#mirrorMessage());
  }

  // Sends all settings to a new session. Settings without a choice are left out, so that the character's own remain.
  sendAll() {
    this.#send(this.#mirrorMessage());
    this.#send(this.#gainMessage());
    const background = this.#backgroundMessage();
    if (background.value !== 'own') this.#send(background);
    if (this.#hasLimits) this.#send(this.#expressionMessage());
    if (this.#keepChosen) this.#send(this.#keepMessage());
  }

  // Shows the server's setting.
  show({ keep }) {
    if (this.#keepChosen || keep === undefined) return;
    $('keep').value = keep;
    this.#showKeep();
  }

  // The settings that are kept with a character.
  get settings() {
    const background = $('background').value; // an uploaded background is lost when the server stops
    const settings = { background: background === 'file' ? 'own' : background, expression: this.#expressionMessage().value };
    return this.#keepChosen ? { ...settings, keep: Number($('keep').value) } : settings;
  }

  get #hasLimits() {
    const { hold, gains } = this.#expressionMessage().value;
    return hold.length > 0 || Object.keys(gains).length > 0;
  }

  #mirrorMessage() { return { type: 'mirror', value: this.#mirror }; }
  #gainMessage() { return { type: 'gain', value: Number($('gain').value) }; }
  #keepMessage() { return { type: 'keep', value: Number($('keep').value) }; }

  #backgroundMessage() {
    const { value } = $('background');
    return { type: 'background', value: value === 'file' ? this.#backgroundId ?? 'own' : value };
  }

  async #upload(file) {
    if (!file) return;
    try {
      this.#backgroundId = (await (await request('backgrounds', { method: 'POST', body: file })).json()).id;
      this.#send(this.#backgroundMessage());
    } catch (error) { this.#say(error.message); }
  }

  #expressionMessage() {
    const hold = [...document.getElementsByName('hold')].filter((box) => box.checked).map((box) => box.value);
    const gains = REGIONS.map((name) => [name, Number($(`region-${name}`).value)]).filter(([, value]) => value !== 1);
    return { type: 'expression', value: { hold, gains: Object.fromEntries(gains) } };
  }

  #showKeep() { $('keep-value').textContent = Number($('keep').value).toFixed(1); }
}
