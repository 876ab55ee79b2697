// Reads frame numbers from the shown camera and avatar pictures, and keeps some avatar pictures.
(() => {
  const BITS = 11, COUNT = BITS + 1;
  const probe = window.probe = { camera: [], avatar: [], pictures: [] };
  function reader(video, log, keep) {
    const canvas = document.createElement('canvas');
    canvas.width = 240; canvas.height = 8;
    const context = canvas.getContext('2d', { willReadFrequently: true });
    const whole = document.createElement('canvas');
    const see = (now, metadata) => {
      video.requestVideoFrameCallback(see);
      if (!video.videoWidth) return;
      const strip = video.videoHeight / 16;
      context.drawImage(video, 0, strip * 0.3, video.videoWidth, strip * 0.4, 0, 0, 240, 8);
      const pixels = context.getImageData(0, 0, 240, 8).data;
      let number = 0, ones = 0;
      for (let k = 0; k < COUNT; k++) {
        let sum = 0, n = 0;
        for (let x = k * 20 + 6; x < k * 20 + 14; x++) for (let y = 2; y < 6; y++) { sum += pixels[(y * 240 + x) * 4]; n++; }
        const level = sum / n;
        if (level > 80 && level < 175) return;
        if (level > 128) { ones++; if (k < BITS) number |= 1 << k; }
      }
      if (ones % 2) return;
      log.push([number, performance.now()]);
      if (keep && probe.pictures.length < keep && log.length % 4 === 0) {
        whole.width = video.videoWidth; whole.height = video.videoHeight;
        whole.getContext('2d').drawImage(video, 0, 0);
        probe.pictures.push([number, whole.toDataURL('image/jpeg', 0.92)]);
      }
    };
    video.requestVideoFrameCallback(see);
  }
  reader(document.getElementById('self'), probe.camera, 0);
  reader(document.getElementById('avatar'), probe.avatar, window.keepPictures ?? 0);
})();
