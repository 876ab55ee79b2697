// This device's camera, and for privacy mode the face finder, which runs on this device.
import { t } from './words.js';

const LOADING_MS = 20_000; // at most, for the face finder
const RATE_MS = 3000; // over which the bit rate is measured

export async function openCamera() {
  if (!navigator.mediaDevices?.getUserMedia) throw new Error(t('insecure'));
  try {
    return await navigator.mediaDevices.getUserMedia({
      video: { width: { ideal: 640 }, height: { ideal: 480 }, frameRate: { ideal: 25 } },
    });
  } catch (error) {
    throw new Error(cameraError(error));
  }
}

function cameraError(error) {
  switch (error?.name) {
    case 'NotAllowedError': return t('refused');
    case 'NotFoundError': case 'OverconstrainedError': return t('none');
    case 'NotReadableError': return t('busy');
    default: return `${t('failed')} ${error?.message ?? error}.`;
  }
}

// The face finder needs WebGL. Firefox without a screen has none, and users can switch it off.
function hasWebGL() {
  const canvas = document.createElement('canvas');
  return Boolean(canvas.getContext('webgl2') ?? canvas.getContext('webgl'));
}

// Finds the face in a camera's pictures and packs it into bytes (see face/mesh.js).
export class FaceFinder {
  #frame; #stop = () => {}; #ended = false; #sizes = [];

  // Calls `onFace` with the bytes of every face, and `onFailure` with the error that ends it.
  async start(camera, onFace, onFailure) {
    if (!hasWebGL()) throw new Error(t('noGraphics'));
    const frame = this.#frame = document.createElement('iframe');
    Object.assign(frame, { src: 'face/mesh.html', hidden: true, title: 'Finds your face' });
    const ready = new Promise((resolve, reject) => {
      const onMessage = ({ source, data }) => {
        if (source !== frame.contentWindow || data !== 'face') return;
        removeEventListener('message', onMessage);
        resolve();
      };
      addEventListener('message', onMessage);
      setTimeout(() => reject(new Error(t('silent'))), LOADING_MS);
    });
    document.body.append(frame);
    await ready;
    if (this.#ended) return;
    this.#stop = await frame.contentWindow.follow(camera, (bytes) => {
      this.#sizes.push([performance.now(), bytes.length]);
      onFace(bytes);
    }, onFailure);
    if (this.#ended) this.#stop();
  }

  // Kilobits a second over the last RATE_MS, without headers.
  get rate() {
    const now = performance.now();
    this.#sizes = this.#sizes.filter(([at]) => now - at < RATE_MS);
    return this.#sizes.reduce((sum, [, size]) => sum + size, 0) * 8 / RATE_MS;
  }

  stop() {
    this.#ended = true;
    this.#stop();
    this.#frame?.remove();
  }
}
