// "Check my set-up": tests one requirement after the other, and says what is wrong and what to do.
import { iceServers } from './api.js';
import { t } from './words.js';

const GATHERING_MS = 5000; // at most, for ICE candidates
const FRAME_COUNT_MS = 2000; // over which the camera's frame rate is measured
const FAST_ANSWER_MS = 150;
const GOOD_FRAME_RATE = 20;
const CODECS = ['video/VP8', 'video/H264'];

// Each resolves to { ok, text }, where ok is true, false, or null (a warning). null instead: not applicable.
const CHECKS = {
  async server() {
    const began = performance.now();
    const answer = await fetch('healthz', { cache: 'no-store' });
    const ms = Math.round(performance.now() - began);
    if (!answer.ok) return { ok: false, text: t('checkServerBad') };
    return { ok: ms < FAST_ANSWER_MS ? true : null, text: t('checkServer', ms) };
  },

  async camera(shared) {
    if (!navigator.mediaDevices?.getUserMedia) return { ok: false, text: t('insecure') };
    const devices = await navigator.mediaDevices.enumerateDevices();
    if (!devices.some(({ kind }) => kind === 'videoinput')) return { ok: false, text: t('none') };
    try {
      shared.camera = await navigator.mediaDevices.getUserMedia({ video: { width: { ideal: 640 }, frameRate: { ideal: 25 } } });
    } catch (error) {
      return { ok: false, text: t(error.name === 'NotReadableError' ? 'busy' : 'refused') };
    }
    const { width, height } = shared.camera.getVideoTracks()[0].getSettings();
    return { ok: true, text: t('checkCamera', `${width} × ${height}`) };
  },

  async rate(shared) {
    if (!shared.camera) return null;
    const video = document.createElement('video');
    Object.assign(video, { srcObject: shared.camera, muted: true });
    await video.play();
    let frames = 0;
    const count = () => { frames += 1; video.requestVideoFrameCallback(count); };
    video.requestVideoFrameCallback(count);
    await new Promise((done) => { setTimeout(done, FRAME_COUNT_MS); });
    video.srcObject = null;
    const rate = Math.round(frames * 1000 / FRAME_COUNT_MS);
    return { ok: rate >= GOOD_FRAME_RATE ? true : null, text: t(rate >= GOOD_FRAME_RATE ? 'checkRate' : 'checkRateSlow', rate) };
  },

  async codecs() {
    const known = (RTCRtpReceiver.getCapabilities('video')?.codecs ?? []).map(({ mimeType }) => mimeType);
    const found = CODECS.filter((name) => known.includes(name));
    return { ok: found.length > 0, text: found.length ? t('checkCodecs', found.map((name) => name.slice(6)).join(', ')) : t('checkNoCodecs') };
  },

  async network() {
    const servers = await iceServers('session');
    const pc = new RTCPeerConnection({ iceServers: servers });
    pc.createDataChannel('check');
    const kinds = new Set();
    await new Promise((done) => {
      setTimeout(done, GATHERING_MS);
      pc.onicecandidate = ({ candidate }) => (candidate ? kinds.add(candidate.type) : done());
      pc.createOffer().then((offer) => pc.setLocalDescription(offer));
    });
    pc.close();
    const turn = servers.some(({ urls }) => String(urls).startsWith('turn'));
    if (turn && !kinds.has('relay')) return { ok: false, text: t('checkNoRelay') };
    if (!kinds.size) return { ok: false, text: t('checkNoWay') };
    return { ok: true, text: t(turn ? 'checkRelay' : 'checkNetwork') };
  },

  async privacy() {
    // The smallest module with a SIMD instruction.
    const simd = WebAssembly.validate(new Uint8Array([0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 10,
      1, 8, 0, 65, 0, 253, 15, 253, 98, 11]));
    const webgl = document.createElement('canvas').getContext('webgl2');
    return simd && webgl ? { ok: true, text: t('checkPrivacy') } : { ok: null, text: t('checkNoPrivacy') };
  },
};

// Runs all checks and shows them in the list. Resolves to true if none failed.
export async function check(list) {
  list.replaceChildren();
  const shared = {};
  let passed = true;
  for (const run of Object.values(CHECKS)) {
    const item = document.createElement('li');
    item.textContent = '…';
    list.append(item);
    let found;
    try { found = await run(shared); } catch (error) { found = { ok: false, text: `${t('checkFailed')} ${error.message}` }; }
    if (!found) { item.remove(); continue; }
    item.dataset.ok = found.ok ?? 'maybe';
    item.textContent = found.text;
    passed &&= found.ok !== false;
  }
  shared.camera?.getTracks().forEach((track) => track.stop());
  return passed;
}
