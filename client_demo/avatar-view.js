// <avatar-view server="https://avatar.example/" session="studio" token="...">: an avatar on any page, by WHEP.
//
// `server` defaults to this module's server. `state` is "connecting", "live" or "refused"; a "statechange" event reports
// changes, and `sentence` is the reason. `video` is the video element, `muted` switches its sound.
// The attribute `transparent` removes a green background, so that the page shows through.
// The server must allow the page's site: avatar-stream serve --allow-origin https://your.site
import { removeGreen } from './key.js';
import { ServerError, iceServers, leave, minimizeJitterBuffer, negotiate, onLost, token } from './api.js';

const MIN_RETRY_MS = 500;
const MAX_RETRY_MS = 5000;
const STALL_CHECK_MS = 1000;
const STALLED_CHECKS = 3; // checks without new bytes after which the session has ended
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
  :host([state="live"]) .label { opacity: 0; } /* the video shows its own label */
  .sentence { position: absolute; inset: auto 0 8%; margin: 0; padding: 0 1rem; text-align: center;
    text-shadow: 0 0 .5em #000, 0 0 .2em #000; }
  button { position: absolute; right: 2%; top: 2%; font: inherit; font-size: .85rem; color: #fff; background: #000a;
    border: 1px solid #fff5; border-radius: 1em; padding: .2em 1em; cursor: pointer; }
  [hidden] { display: none; }
`);

export class AvatarView extends HTMLElement {
  static observedAttributes = ['server', 'session', 'token'];
  #pc = null; #resource = null; #retryMs = MIN_RETRY_MS; #retryTimer = 0;
  #stallTimer = 0; #bytesBefore = 0; #stalledChecks = 0;
  #sentence; #soundButton; #stopRemovingGreen = null;
  #onPageHide = () => this.#leave();

  constructor() {
    super();
    const root = this.attachShadow({ mode: 'open' });
    root.adoptedStyleSheets = [STYLE];
    root.innerHTML = `<video autoplay playsinline aria-label="Live avatar"></video><p class="label">AI-generated</p>
      <p class="sentence" role="status"></p><button hidden>Switch sound on</button>`;
    this.video = root.querySelector('video');
    this.#sentence = root.querySelector('.sentence');
    this.#soundButton = root.querySelector('button');
    this.video.onplaying = () => { this.#retryMs = MIN_RETRY_MS; this.#show('live'); };
    this.#soundButton.onclick = () => { this.muted = false; };
  }

  get state() { return this.getAttribute('state') ?? 'connecting'; }
  get sentence() { return this.#sentence.textContent; }
  get muted() { return this.video.muted; }
  set muted(value) {
    this.video.muted = value;
    if (!value) this.#soundButton.hidden = true;
  }

  connectedCallback() {
    if (this.hasAttribute('transparent')) this.#makeTransparent();
    this.#watch();
    this.#stallTimer = setInterval(() => this.#checkForStall(), STALL_CHECK_MS);
    addEventListener('pagehide', this.#onPageHide);
  }

  disconnectedCallback() {
    clearTimeout(this.#retryTimer);
    clearInterval(this.#stallTimer);
    removeEventListener('pagehide', this.#onPageHide);
    this.#stopRemovingGreen?.();
    this.shadowRoot.querySelector('canvas')?.remove();
    this.#leave();
  }

  attributeChangedCallback(name, before, now) {
    if (!this.isConnected || before === null || before === now) return;
    this.#leave();
    clearTimeout(this.#retryTimer);
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
        if (track.kind === 'video') minimizeJitterBuffer(receiver);
        stream.addTrack(track);
      };
      onLost(pc, () => { if (this.#pc === pc) this.#retry('The connection was lost. Trying again…'); });
      const { location: resource, answer } = await negotiate(pc, endpoint, this.#bearer);
      this.#resource = resource;
      if (this.#pc !== pc) return this.#leave();
      await pc.setRemoteDescription({ type: 'answer', sdp: answer });
      this.video.srcObject = stream;
      await this.#play();
    } catch (error) {
      if (error instanceof ServerError && [401, 403].includes(error.status)) {
        return this.#show('refused', `${error.message}.`);
      }
      if (this.isConnected) {
        this.#retry(error instanceof ServerError && error.status === 404 ? 'Nobody is here yet.' : 'Connecting…');
      }
    }
  }

  #makeTransparent() {
    const canvas = document.createElement('canvas');
    this.#stopRemovingGreen = removeGreen(this.video, canvas);
    if (this.#stopRemovingGreen) this.video.after(canvas);
    else this.removeAttribute('transparent'); // without WebGL the green background stays
  }

  // Browsers refuse sound before a click; OBS does not.
  async #play() {
    this.video.muted = this.hasAttribute('muted');
    try { await this.video.play(); } catch (error) {
      if (error.name !== 'NotAllowedError') return;
      this.video.muted = true;
      this.#soundButton.hidden = false;
      await this.video.play();
    }
  }

  // When a session ends, the last picture stays on screen: so check whether bytes still arrive.
  async #checkForStall() {
    if (this.state !== 'live' || !this.#pc) return;
    let bytes = 0;
    for (const report of (await this.#pc.getStats()).values()) {
      if (report.type === 'inbound-rtp') bytes += report.bytesReceived;
    }
    this.#stalledChecks = bytes === this.#bytesBefore ? this.#stalledChecks + 1 : 0;
    this.#bytesBefore = bytes;
    if (this.#stalledChecks >= STALLED_CHECKS) { this.#stalledChecks = 0; this.#retry('The session has ended.'); }
  }

  #retry(sentence) {
    this.#leave();
    this.#show('connecting', sentence);
    this.#retryTimer = setTimeout(() => this.#watch(), this.#retryMs);
    this.#retryMs = Math.min(this.#retryMs * 2, MAX_RETRY_MS);
  }

  #leave() {
    this.#pc?.close();
    leave(this.#resource, this.#bearer);
    this.#pc = this.#resource = null;
  }

  #show(state, sentence = '') {
    this.#sentence.textContent = sentence;
    if (state === this.getAttribute('state')) return;
    this.setAttribute('state', state);
    this.dispatchEvent(new Event('statechange'));
  }
}

customElements.define('avatar-view', AvatarView);
