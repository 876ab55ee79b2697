// The camera of this device, and privacy mode: the face is found here, and only numbers leave.
import { t } from './words.js';

export async function openCamera() {
  if (!navigator.mediaDevices?.getUserMedia) throw new Error(t('insecure'));
  try {
    return await navigator.mediaDevices.getUserMedia({
      video: { width: { ideal: 640 }, height: { ideal: 480 }, frameRate: { ideal: 25 } },
    });
  } catch (error) {
    throw new Error(problem(error));
  }
}

function problem(error) {
  switch (error?.name) {
    case 'NotAllowedError': return t('refused');
    case 'NotFoundError': case 'OverconstrainedError': return t('none');
    case 'NotReadableError': return t('busy');
    default: return `${t('failed')} ${error?.message ?? error}.`;
  }
}

// What finds the face wants WebGL, which a browser may not have: Firefox without a screen, or one where it is off.
function hasGraphics() {
  const canvas = document.createElement('canvas');
  return Boolean(canvas.getContext('webgl2') ?? canvas.getContext('webgl'));
}

// Finds the face in a camera's pictures and says it in bytes (see face/mesh.js).
export class FaceFinder {
  #frame; #stop = () => {}; #ended = false; #sizes = [];

  // `say` hears the bytes of every face, `failed` the error that ends it.
  async start(camera, say, failed) {
    if (!hasGraphics()) throw new Error(t('noGraphics'));
    const frame = this.#frame = document.createElement('iframe');
    Object.assign(frame, { src: 'face/mesh.html', hidden: true, title: 'Finds your face' });
    const ready = new Promise((resolve, reject) => {
      const heard = ({ source, data }) => {
        if (source !== frame.contentWindow || data !== 'face') return;
        removeEventListener('message', heard);
        resolve();
      };
      addEventListener('message', heard);
      setTimeout(() => reject(new Error(t('silent'))), 20_000);
    });
    document.body.append(frame);
    await ready;
    if (this.#ended) return;
    this.#stop = await frame.contentWindow.follow(camera, (bytes) => {
      this.#sizes.push([performance.now(), bytes.length]);
      say(bytes);
    }, failed);
    if (this.#ended) this.#stop();
  }

  // Kilobits a second of the last three seconds, without what the line adds.
  get rate() {
    const now = performance.now();
    this.#sizes = this.#sizes.filter(([at]) => now - at < 3000);
    return this.#sizes.reduce((sum, [, size]) => sum + size, 0) * 8 / 3000;
  }

  stop() {
    this.#ended = true;
    this.#stop();
    this.#frame?.remove();
  }
}
