// <avatar-view server="https://avatar.example/" session="studio" token="...">: an avatar on any page. Speaks WHEP.
//
// `server` is this module's own where it is left out. The element's `state` is "connecting", "live" or "refused" (a
// "statechange" event says when it changes, `sentence` why), `video` is its video element, `muted` its sound.
// With `transparent` a green background is taken out: the page shows through.
// The server must allow the page's site: avatar-stream serve --allow-origin https://your.site
import { keyed } from './key.js';
import { ServerError, iceServers, leave, negotiate, newestFirst, onLost, token } from './api.js';

const LONGEST_WAIT = 5000;
const STYLE = new CSSStyleSheet();
STYLE.replaceSync(`
  :host { display: block; position: relative; overflow: hidden; color: #eceef4;
    font: 16px/1.5 system-ui, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
  video, canvas { display: block; width: 100%; height: 100%; object-fit: contain; opacity: 0; transition: opacity .3s; }
  canvas { position: absolute; inset: 0; }
  :host([state="live"]) :is(video, canvas) { opacity: 1; }
  :host([transparent]) video { opacity: 0 !important; }
  .label { position: absolute; left: 2%; top: 2%; margin: 0; font-size: clamp(.6rem, 2vmin, .9rem); letter-spacing: .06em;
    text-transform: uppercase; background: #000a; padding: .2em .8em; border-radius: 1em; }
  :host([state="live"]) .label { opacity: 0; } /* the picture carries its own */
  .sentence { position: absolute; inset: auto 0 8%; margin: 0; padding: 0 1rem; text-align: center;
    text-shadow: 0 0 .5em #000, 0 0 .2em #000; }
  button { position: absolute; right: 2%; top: 2%; font: inherit; font-size: .85rem; color: #fff; background: #000a;
    border: 1px solid #fff5; border-radius: 1em; padding: .2em 1em; cursor: pointer; }
  [hidden] { display: none; }
`);

export class AvatarView extends HTMLElement {
  static observedAttributes = ['server', 'session', 'token'];
  #pc = null; #place = null; #wait = 500; #retry = 0; #looking = 0; #before = 0; #still = 0;
  #sentence; #sound; #stopKeying = null;

  constructor() {
    super();
    const root = this.attachShadow({ mode: 'open' });
    root.adoptedStyleSheets = [STYLE];
    root.innerHTML = `<video autoplay playsinline aria-label="Live avatar"></video><p class="label">AI-generated</p>
      <p class="sentence" role="status"></p><button hidden>Switch sound on</button>`;
    this.video = root.querySelector('video');
    this.#sentence = root.querySelector('.sentence');
    this.#sound = root.querySelector('button');
    this.video.onplaying = () => { this.#wait = 500; this.#show('live'); };
    this.#sound.onclick = () => { this.muted = false; };
  }

  get state() { return this.getAttribute('state') ?? 'connecting'; }
  get sentence() { return this.#sentence.textContent; }
  get muted() { return this.video.muted; }
  set muted(value) {
    this.video.muted = value;
    if (!value) this.#sound.hidden = true;
  }

  connectedCallback() {
    if (this.hasAttribute('transparent')) this.#seeThrough();
    this.#watch();
    this.#looking = setInterval(() => this.#look(), 1000);
    this.leaving = () => this.#leave();
    addEventListener('pagehide', this.leaving);
  }

  disconnectedCallback() {
    clearTimeout(this.#retry);
    clearInterval(this.#looking);
    removeEventListener('pagehide', this.leaving);
    this.#stopKeying?.();
    this.shadowRoot.querySelector('canvas')?.remove();
    this.#leave();
  }

  attributeChangedCallback(name, before, now) {
    if (!this.isConnected || before === null || before === now) return;
    this.#leave();
    clearTimeout(this.#retry);
    this.#watch();
  }

  get #endpoint() {
    const server = new URL(this.getAttribute('server') ?? new URL('.', import.meta.url), location.href);
    return new URL(`whep/${encodeURIComponent(this.getAttribute('session') ?? '')}`, server).href;
  }

  get #bearer() { return this.getAttribute('token') ?? token.value; }

  async #watch() {
    const endpoint = this.#endpoint;
    try {
      const pc = this.#pc = new RTCPeerConnection({ iceServers: await iceServers(endpoint, this.#bearer) });
      const stream = new MediaStream();
      for (const kind of ['video', 'audio']) pc.addTransceiver(kind, { direction: 'recvonly' });
      pc.ontrack = ({ track, receiver }) => {
        if (track.kind === 'video') newestFirst(receiver);
        stream.addTrack(track);
      };
      onLost(pc, () => { if (this.#pc === pc) this.#again('The connection was lost. Trying again…'); });
      const { location: place, answer } = await negotiate(pc, endpoint, this.#bearer);
      this.#place = place;
      if (this.#pc !== pc) return this.#leave();
      await pc.setRemoteDescription({ type: 'answer', sdp: answer });
      this.video.srcObject = stream;
      await this.#play();
    } catch (error) {
      if (error instanceof ServerError && [401, 403].includes(error.status)) {
        return this.#show('refused', `${error.message}.`);
      }
      if (this.isConnected) {
        this.#again(error instanceof ServerError && error.status === 404 ? 'Nobody is here yet.' : 'Connecting…');
      }
    }
  }

  #seeThrough() {
    const canvas = document.createElement('canvas');
    this.#stopKeying = keyed(this.video, canvas);
    if (this.#stopKeying) this.video.after(canvas);
    else this.removeAttribute('transparent'); // a green background is better than none
  }

  // Browsers refuse sound before a click; OBS does not.
  async #play() {
    this.video.muted = this.hasAttribute('muted');
    try { await this.video.play(); } catch (error) {
      if (error.name !== 'NotAllowedError') return;
      this.video.muted = true;
      this.#sound.hidden = false;
      await this.video.play();
    }
  }

  // The picture stands still when its session ends: look whether packets still come.
  async #look() {
    if (this.state !== 'live' || !this.#pc) return;
    let bytes = 0;
    for (const report of (await this.#pc.getStats()).values()) {
      if (report.type === 'inbound-rtp') bytes += report.bytesReceived;
    }
    this.#still = bytes === this.#before ? this.#still + 1 : 0;
    this.#before = bytes;
    if (this.#still >= 3) { this.#still = 0; this.#again('The session has ended.'); }
  }

  #again(sentence) {
    this.#leave();
    this.#show('connecting', sentence);
    this.#retry = setTimeout(() => this.#watch(), this.#wait);
    this.#wait = Math.min(this.#wait * 2, LONGEST_WAIT);
  }

  #leave() {
    this.#pc?.close();
    leave(this.#place, this.#bearer);
    this.#pc = this.#place = null;
  }

  #show(state, sentence = '') {
    this.#sentence.textContent = sentence;
    if (state === this.getAttribute('state')) return;
    this.setAttribute('state', state);
    this.dispatchEvent(new Event('statechange'));
  }
}

customElements.define('avatar-view', AvatarView);
