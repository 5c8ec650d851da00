// Colours that are used most, each the mean of its bucket; each pixel takes the nearest.
const bytes = Uint8Array.from(atob(picture), (each) => each.charCodeAt(0));
const bitmap = await createImageBitmap(new Blob([bytes], { type: "image/png" }));
const { width, height } = bitmap;
const ink = new OffscreenCanvas(width, height).getContext("2d");
ink.drawImage(bitmap, 0, 0);
const { data } = ink.getImageData(0, 0, width, height);
const bucket = (at) => (data[at] >> 3 << 10) | (data[at + 1] >> 3 << 5) | (data[at + 2] >> 3);
const sums = Array.from({ length: 32768 }, () => [0, 0, 0, 0]);
for (let at = 0; at < data.length; at += 4) {
  const sum = sums[bucket(at)];
  for (let part = 0; part < 3; part += 1) sum[part] += data[at + part];
  sum[3] += 1;
}
// A colour that is seen rarely, but is one, says more than one more grey.
const weight = ([red, green, blue, count]) =>
  count * (1 + 12 * ((Math.max(red, green, blue) - Math.min(red, green, blue)) / count / 255) ** 2);
const palette = [...sums].filter((sum) => sum[3]).sort((a, b) => weight(b) - weight(a)).slice(0, most)
  .map((sum) => sum.slice(0, 3).map((part) => Math.round(part / sum[3])));
const apart = (a, b) => (a[0] - b[0]) ** 2 + (a[1] - b[1]) ** 2 + (a[2] - b[2]) ** 2;
const nearest = sums.map((sum) => {
  if (!sum[3]) return 0;
  const mean = sum.map((part) => part / sum[3]);
  return palette.reduce((best, each, i) => (apart(each, mean) < apart(palette[best], mean) ? i : best), 0);
});
const rows = new Uint8Array(height * (width + 1));
for (let y = 0; y < height; y += 1) {
  for (let x = 0; x < width; x += 1) {
    rows[y * (width + 1) + 1 + x] = nearest[bucket(4 * (y * width + x))];
  }
}
let text = "";
for (let at = 0; at < rows.length; at += 32768) text += String.fromCharCode(...rows.subarray(at, at + 32768));
return { width, height, palette: palette.flat(), rows: btoa(text) };
