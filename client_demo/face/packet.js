// Packs a face into a hundred bytes. avatar_stream/rigs/face_packet.py describes the format and unpacks it.

const LANDMARKS = 478;
const MAX_CELL_VALUE = 1.05;

export class FacePacker {
  nobody = new Uint8Array(1);

  // Loads the basis from the server: see FaceCode in face_packet.py.
  static async load() {
    const response = await fetch(new URL('code.bin', import.meta.url));
    if (!response.ok) throw new Error(`no face code: ${response.status}`);
    return new FacePacker(await response.arrayBuffer());
  }

  constructor(stored) {
    const [count, size] = new Int32Array(stored, 0, 2);
    this.count = count;
    this.mean = new Float32Array(stored, 8, size);
    const weight = new Float32Array(stored, 8 + 4 * size, size);
    const scale = new Float32Array(stored, 8 + 8 * size, count);
    const moves = new Int16Array(stored, 8 + 8 * size + 4 * count, count * size);
    // Each row, multiplied with a face, gives one number: it is weighted and divided by its squared length.
    this.rows = new Float32Array(count * size);
    for (let row = 0; row < count; row += 1) {
      let total = 0;
      for (let k = 0; k < size; k += 1) total += (moves[row * size + k] * scale[row]) ** 2 * weight[k];
      for (let k = 0; k < size; k += 1) {
        this.rows[row * size + k] = moves[row * size + k] * scale[row] * weight[k] / total;
      }
    }
  }

  // `points`: 478 times x, y, z, in picture heights. `view`: 30 pairs of a mouth view's cells, or null.
  pack(points, view) {
    const { axes, middle, size } = ownAxes(points);
    const bytes = new Uint8Array(14 + this.count + (view ? view.length / 2 : 0));
    const head = new DataView(bytes.buffer);
    bytes[0] = 1;
    bytes[1] = view ? 1 : 0;
    quaternion(axes).forEach((value, k) => head.setInt16(2 + 2 * k, Math.round(value * 32767), true));
    head.setUint16(8, Math.min(Math.round(size * 32768), 65535), true);
    for (const k of [0, 1]) head.setInt16(10 + 2 * k, roundedWithin(middle[k] * 8192, 32767), true);
    const own = new Float32Array(LANDMARKS * 3);
    for (let k = 0; k < LANDMARKS; k += 1) {
      const from = [0, 1, 2].map((axis) => points[3 * k + axis] - middle[axis]);
      axes.forEach((axis, row) => { own[3 * k + row] = dot(axis, from) / size - this.mean[3 * k + row]; });
    }
    for (let row = 0; row < this.count; row += 1) {
      let sum = 0;
      const start = row * own.length;
      for (let k = 0; k < own.length; k += 1) sum += this.rows[start + k] * own[k];
      head.setInt8(14 + row, roundedWithin(sum, 127));
    }
    if (view) {
      const fourBits = (value) => Math.min(Math.max(Math.round(value / MAX_CELL_VALUE * 15), 0), 15);
      for (let k = 0; k < view.length / 2; k += 1) bytes[14 + this.count + k] = fourBits(view[2 * k]) << 4 | fourBits(view[2 * k + 1]);
    }
    return bytes;
  }
}

// The face's own axes (three rows), the midpoint of the outer eye corners, and the distance between them.
export function ownAxes(points) {
  const at = (k) => [points[3 * k], points[3 * k + 1], points[3 * k + 2]];
  const mean = (...ks) => ks.map(at).reduce((sum, p) => sum.map((x, axis) => x + p[axis] / ks.length), [0, 0, 0]);
  const [right, left] = [at(33), at(263)];
  const size = length(minus(left, right)) || 1e-6;
  const x = minus(left, right).map((value) => value / size);
  const down = minus(mean(2, 94, 164), mean(9, 8, 168));
  const along = dot(down, x);
  const upright = down.map((value, axis) => value - along * x[axis]);
  const y = upright.map((value) => value / (length(upright) || 1e-6));
  const z = [x[1] * y[2] - x[2] * y[1], x[2] * y[0] - x[0] * y[2], x[0] * y[1] - x[1] * y[0]];
  return { axes: [x, y, z], middle: right.map((value, axis) => (value + left[axis]) / 2), size };
}

// x, y, z of the unit quaternion, w positive, of the rotation whose columns are the axes (Shepperd, 1978).
function quaternion([x, y, z]) {
  const m = [[x[0], y[0], z[0]], [x[1], y[1], z[1]], [x[2], y[2], z[2]]];
  const trace = m[0][0] + m[1][1] + m[2][2];
  let q;
  if (trace > 0) {
    const s = Math.sqrt(trace + 1) * 2;
    q = [(m[2][1] - m[1][2]) / s, (m[0][2] - m[2][0]) / s, (m[1][0] - m[0][1]) / s, s / 4];
  } else {
    const i = [0, 1, 2].reduce((best, k) => (m[k][k] > m[best][best] ? k : best), 0);
    const [j, k] = [(i + 1) % 3, (i + 2) % 3];
    const s = Math.sqrt(m[i][i] - m[j][j] - m[k][k] + 1) * 2;
    q = [0, 0, 0, (m[k][j] - m[j][k]) / s];
    q[i] = s / 4;
    q[j] = (m[j][i] + m[i][j]) / s;
    q[k] = (m[k][i] + m[i][k]) / s;
  }
  return q.slice(0, 3).map((value) => (q[3] < 0 ? -value : value));
}

const roundedWithin = (value, limit) => Math.min(Math.max(Math.round(value), -limit), limit);
const dot = (a, b) => a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
const minus = (a, b) => a.map((value, axis) => value - b[axis]);
const length = (a) => Math.hypot(...a);
