"use strict";
// Volumes and fields of the viewer, as l2reg/reporting/viewer_data.py packs them.
// In a mosaic, pixel columns are array axis 0, rows axis 1, and the tiles, row by row, axis 2.

const SHRINKS = [33, 102, 172], KEPT = [247, 247, 247], GROWS = [178, 24, 43]; // as in page.css
const FOLD = 0; // value of a voxel that folds; 1 to 255 are log2 of the change of volume

function readMosaic(image, [ni, nj, nk], columns) {
  const canvas = document.createElement("canvas");
  canvas.width = image.naturalWidth;
  canvas.height = image.naturalHeight;
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(image, 0, 0);
  const pixels = context.getImageData(0, 0, canvas.width, canvas.height).data;
  const voxels = new Uint8Array(ni * nj * nk);
  let voxel = 0;
  for (let k = 0; k < nk; k++) {
    const left = (k % columns) * ni, top = Math.floor(k / columns) * nj;
    for (let j = 0; j < nj; j++) {
      let pixel = 4 * ((top + j) * canvas.width + left);
      for (let i = 0; i < ni; i++, pixel += 4) voxels[voxel++] = pixels[pixel];
    }
  }
  return voxels;
}

function readField(text) {
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  return new Int16Array(bytes.buffer);
}

function volumeColour(value) {
  if (value === FOLD) return [0, 0, 0];
  const t = (value - 128) / 127;
  return KEPT.map((kept, c) => kept + Math.abs(t) * ((t < 0 ? SHRINKS : GROWS)[c] - kept));
}
