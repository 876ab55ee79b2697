// "Check my set-up": looks at what the avatar needs, one thing after the other, and says what is wrong and what to do.
import { iceServers } from './api.js';
import { t } from './words.js';

const LINE = 5000; // milliseconds that looking for a way through the network may take
const CODECS = ['video/VP8', 'video/H264'];

// Each says { ok: true, false or null (not fatal), text }.
const CHECKS = {
  async server() {
    const began = performance.now();
    const answer = await fetch('healthz', { cache: 'no-store' });
    const ms = Math.round(performance.now() - began);
    if (!answer.ok) return { ok: false, text: t('checkServerBad') };
    return { ok: ms < 150 ? true : null, text: t('checkServer', ms) };
  },

  async camera(keep) {
    if (!navigator.mediaDevices?.getUserMedia) return { ok: false, text: t('insecure') };
    const devices = await navigator.mediaDevices.enumerateDevices();
    if (!devices.some(({ kind }) => kind === 'videoinput')) return { ok: false, text: t('none') };
    try {
      keep.camera = await navigator.mediaDevices.getUserMedia({ video: { width: { ideal: 640 }, frameRate: { ideal: 25 } } });
    } catch (error) {
      return { ok: false, text: t(error.name === 'NotReadableError' ? 'busy' : 'refused') };
    }
    const { width, height } = keep.camera.getVideoTracks()[0].getSettings();
    return { ok: true, text: t('checkCamera', `${width} × ${height}`) };
  },

  async rate(keep) {
    if (!keep.camera) return null;
    const video = document.createElement('video');
    Object.assign(video, { srcObject: keep.camera, muted: true });
    await video.play();
    let frames = 0;
    const count = () => { frames += 1; video.requestVideoFrameCallback(count); };
    video.requestVideoFrameCallback(count);
    await new Promise((done) => { setTimeout(done, 2000); });
    video.srcObject = null;
    const rate = Math.round(frames / 2);
    return { ok: rate >= 20 ? true : null, text: t(rate >= 20 ? 'checkRate' : 'checkRateSlow', rate) };
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
      setTimeout(done, LINE);
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
    const drawn = document.createElement('canvas').getContext('webgl2');
    return simd && drawn ? { ok: true, text: t('checkPrivacy') } : { ok: null, text: t('checkNoPrivacy') };
  },
};

// Runs all checks into the list; resolves to whether nothing is wrong.
export async function check(list) {
  list.replaceChildren();
  const keep = {};
  let well = true;
  for (const run of Object.values(CHECKS)) {
    const item = document.createElement('li');
    item.textContent = '…';
    list.append(item);
    let found;
    try { found = await run(keep); } catch (error) { found = { ok: false, text: `${t('checkFailed')} ${error.message}` }; }
    if (!found) { item.remove(); continue; }
    item.dataset.ok = found.ok ?? 'maybe';
    item.textContent = found.text;
    well &&= found.ok !== false;
  }
  keep.camera?.getTracks().forEach((track) => track.stop());
  return well;
}
