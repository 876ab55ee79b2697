// Chroma key: makes the green (#00ff00) of a video transparent. For OBS, since video over WebRTC has no transparency.

const VERTEX = `attribute vec2 at; varying vec2 place;
void main() { place = vec2(at.x, 1.0 - at.y); gl_Position = vec4(at * 2.0 - 1.0, 0.0, 1.0); }`;
// Compares only chroma with green, so that shadows on it disappear too. Limits green to the larger of red and blue, which
// removes its reflection at a person's edge. Codecs blur chroma over two pixels, so the edge is as soft.
const FRAGMENT = `precision mediump float; varying vec2 place; uniform sampler2D picture;
void main() {
  vec3 c = texture2D(picture, place).rgb;
  vec2 chroma = vec2(dot(c, vec3(-0.169, -0.331, 0.5)), dot(c, vec3(0.5, -0.419, -0.081)));
  float alpha = smoothstep(0.2, 0.42, distance(chroma, vec2(-0.331, -0.419)));
  c.g = min(c.g, max(c.r, c.b));
  gl_FragColor = vec4(c * alpha, alpha);
}`;

// Draws `video` into `canvas`, frame by frame. Returns a function that stops this, or null without WebGL.
export function removeGreen(video, canvas) {
  const gl = canvas.getContext('webgl', { premultipliedAlpha: true, alpha: true, preserveDrawingBuffer: true });
  if (!gl) return null;
  const program = gl.createProgram();
  for (const [kind, source] of [[gl.VERTEX_SHADER, VERTEX], [gl.FRAGMENT_SHADER, FRAGMENT]]) {
    const shader = gl.createShader(kind);
    gl.shaderSource(shader, source);
    gl.compileShader(shader);
    gl.attachShader(program, shader);
  }
  gl.linkProgram(program);
  gl.useProgram(program);
  gl.bindBuffer(gl.ARRAY_BUFFER, gl.createBuffer());
  gl.bufferData(gl.ARRAY_BUFFER, new Float32Array([0, 0, 1, 0, 0, 1, 1, 1]), gl.STATIC_DRAW);
  const at = gl.getAttribLocation(program, 'at');
  gl.enableVertexAttribArray(at);
  gl.vertexAttribPointer(at, 2, gl.FLOAT, false, 0, 0);
  gl.bindTexture(gl.TEXTURE_2D, gl.createTexture());
  for (const side of [gl.TEXTURE_WRAP_S, gl.TEXTURE_WRAP_T]) gl.texParameteri(gl.TEXTURE_2D, side, gl.CLAMP_TO_EDGE);
  gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MIN_FILTER, gl.LINEAR);
  let running = true;
  const draw = () => {
    if (!running) return;
    if (video.videoWidth) {
      if (canvas.width !== video.videoWidth || canvas.height !== video.videoHeight) {
        Object.assign(canvas, { width: video.videoWidth, height: video.videoHeight });
      }
      gl.viewport(0, 0, canvas.width, canvas.height);
      gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGB, gl.RGB, gl.UNSIGNED_BYTE, video);
      gl.drawArrays(gl.TRIANGLE_STRIP, 0, 4);
    }
    video.requestVideoFrameCallback(draw);
  };
  draw();
  return () => { running = false; };
}
