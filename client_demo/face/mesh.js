// Finds the face in a camera's pictures, in its own frame. The network's compiled code needs permissions that the page
// does not have (see the server's Content-Security-Policy for this path). The page calls `window.follow`.
import { FacePacker } from './packet.js';
import { MouthView } from './mouth.js';

const MAX_FACES_PER_SECOND = 25;

/* global FaceMesh */
window.follow = async (stream, onFace, onFailure) => {
  const camera = document.getElementById('camera');
  const mesh = new FaceMesh({ locateFile: (name) => new URL(`vendor/${name}`, import.meta.url).href });
  // Inference on the CPU works everywhere. This version of the network stops with other options.
  mesh.setOptions({ maxNumFaces: 1, refineLandmarks: true, useCpuInference: true });
  const [packer] = await Promise.all([FacePacker.load(), mesh.initialize()]);
  const mouth = new MouthView();
  mesh.onResults(({ multiFaceLandmarks: [found] = [] }) => {
    if (!found) return onFace(packer.nobody);
    const { videoWidth: width, videoHeight: height } = camera;
    // In picture heights; the network gives depth in picture widths.
    const points = new Float32Array(478 * 3);
    for (let k = 0; k < 478; k += 1) {
      points[3 * k] = found[k].x * width / height;
      points[3 * k + 1] = found[k].y;
      points[3 * k + 2] = found[k].z * width / height;
    }
    onFace(packer.pack(points, mouth.read(camera, points)));
  });
  camera.srcObject = stream;
  await camera.play();
  let stopped = false;
  (async () => {
    let due = performance.now();
    while (!stopped) {
      try {
        if (camera.readyState >= 2 && camera.videoWidth) await mesh.send({ image: camera });
      } catch (error) { // for example, the browser lost its WebGL context
        if (!stopped) onFailure(error);
        return;
      }
      due = Math.max(due + 1000 / MAX_FACES_PER_SECOND, performance.now());
      await new Promise((resolve) => { setTimeout(resolve, due - performance.now()); });
    }
    mesh.close();
  })();
  return () => { stopped = true; camera.srcObject = null; };
};
parent.postMessage('face', location.origin);
