// The mouth view: thirty cells of colour between the lips, as avatar_stream/face/mouth_view.py reads them.

const UPPER_LIP = [78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308];
const LOWER_LIP = [78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308];
const CHEEKS = [50, 280, 205, 425, 195];
const [ROWS, COLUMNS] = [6, 5];
const SAMPLES_PER_CELL = [3, 4]; // down and across
const CORNER_INSET = 0.08; // share of the lips' length that is left out at each corner
const MIN_READABLE_LIP_GAP = 0.02; // in eye distances
const CHROMA_BLUR_PIXELS = 2; // standard deviation of the blur of colours after a camera and a codec
const MIN_OWN_LIGHT = 0.5; // smallest share of a cell's light that is assumed to be its own
const MAX_CELL_VALUE = 1.05; // in shares of tooth colour
const MARGIN_PIXELS = Math.ceil(CHROMA_BLUR_PIXELS) + 1; // around the opening
const TOOTH = { share: [0.78, 0.81, 0.77], offset: [58, 78, 82] }; // tooth colour from skin colour, a straight line for each channel
const PICTURE_HEIGHT = 360; // pixels to which the camera's picture is scaled

export class MouthView {
  #canvas = document.createElement('canvas');
  #context = this.#canvas.getContext('2d', { willReadFrequently: true });

  // Thirty pairs (red; mean of green and blue) in shares of a tooth's colour. null if the lips of `points` are closed.
  read(video, points) {
    const at = (k) => [points[3 * k] * PICTURE_HEIGHT, points[3 * k + 1] * PICTURE_HEIGHT];
    const space = (k) => [0, 1, 2].map((axis) => points[3 * k + axis] * PICTURE_HEIGHT);
    const between = (a, b) => Math.hypot(...space(a).map((value, axis) => value - space(b)[axis]));
    const eyes = between(33, 263);
    const gap = Math.max(...UPPER_LIP.map((k, number) => between(k, LOWER_LIP[number])));
    if (gap < MIN_READABLE_LIP_GAP * eyes) return null;
    const width = Math.round(PICTURE_HEIGHT * video.videoWidth / video.videoHeight);
    if (this.#canvas.width !== width) Object.assign(this.#canvas, { width, height: PICTURE_HEIGHT });
    this.#context.drawImage(video, 0, 0, width, PICTURE_HEIGHT);
    const tooth = toothTone(this.#skin(at, Math.max(1, Math.round(eyes / 20)), width));
    return this.#cells(at, tooth, width);
  }

  #skin(at, reach, width) {
    const tones = CHEEKS.map(at).filter(([x, y]) => x >= 0 && y >= 0 && x < width && y < PICTURE_HEIGHT).map(([x, y]) => {
      const side = 2 * reach + 1;
      return mean(this.#context.getImageData(Math.round(x) - reach, Math.round(y) - reach, side, side).data);
    });
    return tones.length ? [0, 1, 2].map((k) => tones.reduce((sum, tone) => sum + tone[k], 0) / tones.length) : [170, 130, 110];
  }

  #cells(at, tooth, width) {
    const places = UPPER_LIP.concat(LOWER_LIP).map(at);
    const edge = (axis, pick) => Math[pick](...places.map((place) => place[axis]));
    const [left, top] = [Math.max(Math.floor(edge(0, 'min')) - MARGIN_PIXELS, 0), Math.max(Math.floor(edge(1, 'min')) - MARGIN_PIXELS, 0)];
    const across = Math.max(Math.min(Math.ceil(edge(0, 'max')) + MARGIN_PIXELS + 1, width) - left, 1);
    const down = Math.max(Math.min(Math.ceil(edge(1, 'max')) + MARGIN_PIXELS + 1, PICTURE_HEIGHT) - top, 1);
    const { data } = this.#context.getImageData(left, top, across, down);
    // Bilinear interpolation.
    const colour = (x, y, k) => {
      const [u, v] = [Math.min(Math.max(x - left, 0), across - 1), Math.min(Math.max(y - top, 0), down - 1)];
      const [i, j] = [Math.floor(u), Math.floor(v)];
      const value = (a, b) => data[4 * (Math.min(b, down - 1) * across + Math.min(a, across - 1)) + k];
      const [s, t] = [u - i, v - j];
      return (value(i, j) * (1 - s) + value(i + 1, j) * s) * (1 - t) + (value(i, j + 1) * (1 - s) + value(i + 1, j + 1) * s) * t;
    };
    const view = new Float32Array(ROWS * COLUMNS * 2);
    const [rows, columns] = [ROWS * SAMPLES_PER_CELL[0], COLUMNS * SAMPLES_PER_CELL[1]];
    for (let column = 0; column < columns; column += 1) {
      const along = CORNER_INSET + (1 - 2 * CORNER_INSET) * (column + 0.5) / columns;
      const [above, below] = [pointOnLine(UPPER_LIP.map(at), along), pointOnLine(LOWER_LIP.map(at), along)];
      for (let row = 0; row < rows; row += 1) {
        const share = (row + 0.5) / rows;
        const [x, y] = above.map((value, axis) => value + (below[axis] - value) * share);
        const [red, green, blue] = [0, 1, 2].map((k) => colour(x, y, k) / tooth[k] / (SAMPLES_PER_CELL[0] * SAMPLES_PER_CELL[1]));
        const cell = 2 * (Math.floor(row / SAMPLES_PER_CELL[0]) * COLUMNS + Math.floor(column / SAMPLES_PER_CELL[1]));
        view[cell] += red;
        view[cell + 1] += (green + blue) / 2;
      }
    }
    this.#removeLips(view, at, (x, y) => {
      const [red, green, blue] = [0, 1, 2].map((k) => colour(x, y, k) / tooth[k]);
      return [red, (green + blue) / 2];
    });
    for (let cell = 0; cell < view.length; cell += 2) {
      view[cell] = Math.min(view[cell], MAX_CELL_VALUE);
      view[cell + 1] = Math.min(view[cell + 1], view[cell]);
    }
    return view;
  }

  // Removes the lips' colour that blur adds to the cells.
  #removeLips(view, at, lipAt) {
    for (let column = 0; column < COLUMNS; column += 1) {
      const along = CORNER_INSET + (1 - 2 * CORNER_INSET) * (column + 0.5) / COLUMNS;
      const [above, below] = [pointOnLine(UPPER_LIP.map(at), along), pointOnLine(LOWER_LIP.map(at), along)];
      const gap = Math.max(Math.hypot(below[0] - above[0], below[1] - above[1]), 1e-3);
      const out = [0, 1].map((axis) => (below[axis] - above[axis]) * CHROMA_BLUR_PIXELS / gap);
      const upper = lipAt(above[0] - out[0], above[1] - out[1]);
      const lower = lipAt(below[0] + out[0], below[1] + out[1]);
      for (let row = 0; row < ROWS; row += 1) {
        const place = (row + 0.5) / ROWS * gap;
        const [over, under] = [shareBeyond(place), shareBeyond(gap - place)];
        for (const k of [0, 1]) {
          const cell = 2 * (row * COLUMNS + column) + k;
          const own = (view[cell] - over * upper[k] - under * lower[k]) / Math.max(1 - over - under, MIN_OWN_LIGHT);
          view[cell] = Math.max(own, 0);
        }
      }
    }
  }
}

// Share of a pixel's light that comes from beyond an edge `distance` pixels away.
const shareBeyond = (distance) => 1 / (1 + Math.exp(1.702 / CHROMA_BLUR_PIXELS * distance));

function pointOnLine(line, along) {
  const place = along * (line.length - 1);
  const k = Math.min(Math.floor(place), line.length - 2);
  return line[k].map((value, axis) => value + (line[k + 1][axis] - value) * (place - k));
}

const toothTone = (skin) => skin.map((value, k) => Math.min(TOOTH.share[k] * value + TOOTH.offset[k], 245));

function mean(data) {
  const sum = [0, 0, 0];
  for (let k = 0; k < data.length; k += 4) for (const channel of [0, 1, 2]) sum[channel] += data[k + channel];
  return sum.map((value) => value / (data.length / 4));
}
