// The middle of an image, resized as jaxnets.data.images.read_image does it: Pillow's antialiased
// bilinear filter with its fixed-point arithmetic, so equal pixels give equal bytes.

const BITS = 22; // of the fraction of a weight, as in Pillow's Resample.c

/** For each of `to` pixels: the first source pixel that counts, and the weights from it on. */
function filter(total, start, length, to) {
  const scale = length / to;
  const support = Math.max(scale, 1);
  return Array.from({ length: to }, (_, i) => {
    const centre = start + (i + 0.5) * scale;
    const begin = Math.max(0, Math.trunc(centre - support + 0.5));
    const end = Math.min(total, Math.trunc(centre + support + 0.5));
    const raw = [];
    for (let x = begin; x < end; x++) {
      raw.push(Math.max(0, 1 - Math.abs((x - centre + 0.5) / support)));
    }
    const sum = raw.reduce((a, b) => a + b, 0);
    return { begin, end, weights: raw.map((w) => Math.trunc(0.5 + (w / sum) * 2 ** BITS)) };
  });
}

/** Weighted sums of bytes `step` apart, from `at` on, as bytes. */
function blend(bytes, at, step, weights) {
  let sum = 2 ** (BITS - 1);
  for (let i = 0; i < weights.length; i++) sum += bytes[at + i * step] * weights[i];
  return Math.min(255, Math.floor(sum / 2 ** BITS));
}

/** The largest square in the middle: its corner and its side. */
export function middle(width, height) {
  const side = Math.min(width, height);
  return { left: (width - side) >> 1, top: (height - side) >> 1, side };
}

/**
 * The middle square of an image as Uint8Array of (size, size, 3).
 *
 * `part(left, top, width, height)` gives that part of the image as RGBA bytes. It is asked for a
 * strip at a time, since a photo as a whole is larger than some browsers' canvases.
 */
export function resize(width, height, size, part, strip = 256) {
  const { left, top, side } = middle(width, height);
  const across = filter(width, left, side, size);
  const down = filter(height, top, side, size);
  // One axis after the other, with bytes between them: from Pillow 13 on a tall image first gets
  // its height.
  const tall = height > size && height - size > 2 * (width - size);
  const [first, second] = tall ? [down, across] : [across, down];
  const [from, length] = extent(first);
  const [start, count] = extent(second);
  const between = new Uint8Array(count * size * 3); // (count, size, 3)
  for (let at = 0; at < count; at += strip) {
    const lines = Math.min(strip, count - at);
    const box = tall ? [start + at, from, lines, length] : [from, start + at, length, lines];
    const bytes = part(...box);
    const [step, next] = tall ? [4 * lines, 4] : [4, 4 * length];
    for (let line = 0; line < lines; line++) {
      for (let i = 0; i < size * 3; i++) {
        const { begin, weights } = first[Math.trunc(i / 3)];
        const origin = line * next + (begin - from) * step + (i % 3);
        between[(at + line) * size * 3 + i] = blend(bytes, origin, step, weights);
      }
    }
  }
  const pixels = new Uint8Array(size * size * 3);
  for (let j = 0; j < size; j++) {
    const { begin, weights } = second[j];
    for (let i = 0; i < size * 3; i++) {
      const [place, channel] = [Math.trunc(i / 3), i % 3];
      const pixel = tall ? place * size + j : j * size + place;
      const origin = (begin - start) * size * 3 + i;
      pixels[pixel * 3 + channel] = blend(between, origin, size * 3, weights);
    }
  }
  return pixels;
}

/** Where the source pixels of an axis begin, and how many they are. */
function extent(filters) {
  const { begin } = filters[0];
  return [begin, filters.at(-1).end - begin];
}
