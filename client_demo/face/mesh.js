// Finds the face in a camera's pictures, in a frame of its own: the network's compiled code needs liberties that the
// page itself does without (see the server's Content-Security-Policy for this path). `window.follow` is its surface.
import { FacePacker } from './packet.js';
import { MouthView } from './mouth.js';

const RATE = 25; // faces a second at most

/* global FaceMesh */
window.follow = async (stream, say, failed) => {
  const camera = document.getElementById('camera');
  const mesh = new FaceMesh({ locateFile: (name) => new URL(`vendor/${name}`, import.meta.url).href });
  // On the processor: it runs everywhere. Other options than these stop this version of the network.
  mesh.setOptions({ maxNumFaces: 1, refineLandmarks: true, useCpuInference: true });
  const [packer] = await Promise.all([FacePacker.load(), mesh.initialize()]);
  const mouth = new MouthView();
  mesh.onResults(({ multiFaceLandmarks: [found] = [] }) => {
    if (!found) return say(packer.nobody);
    const { videoWidth: width, videoHeight: height } = camera;
    // Everything in heights of the picture; depth comes in widths.
    const points = new Float32Array(478 * 3);
    for (let k = 0; k < 478; k += 1) {
      points[3 * k] = found[k].x * width / height;
      points[3 * k + 1] = found[k].y;
      points[3 * k + 2] = found[k].z * width / height;
    }
    say(packer.pack(points, mouth.read(camera, points)));
  });
  camera.srcObject = stream;
  await camera.play();
  let stopped = false;
  (async () => {
    let due = performance.now();
    while (!stopped) {
      try {
        if (camera.readyState >= 2 && camera.videoWidth) await mesh.send({ image: camera });
      } catch (error) { // the browser took its graphics away, perhaps
        if (!stopped) failed(error);
        return;
      }
      due = Math.max(due + 1000 / RATE, performance.now());
      await new Promise((resolve) => { setTimeout(resolve, due - performance.now()); });
    }
    mesh.close();
  })();
  return () => { stopped = true; camera.srcObject = null; };
};
parent.postMessage('face', location.origin);
