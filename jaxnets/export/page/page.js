// Classifies images with onnxruntime-web, on one thread: more would need headers that a plain web
// server does not send.  In the page itself, not in a worker, whose requests the page's policy
// would not bind.

import { middle, resize } from "./resize.js";

const page = JSON.parse(document.getElementById("data").textContent);
const $ = (id) => document.getElementById(id);
const samples = document.querySelectorAll(".picks button");
const SHOWN = 10; // classes
const REPEATS = 15; // of a measurement, unless that takes
const PATIENCE = 250; // milliseconds

const loaded = new Map(); // bytes that are here of large files, by path: [these, all]
const sessions = new Map(); // promises, by the name of a model
let image = null; // the pixels of the one shown
let images = 0; // how many were asked for, and how often an answer was: the last one counts
let answers = 0;
let turn = Promise.resolve(); // a session answers one call at a time

/** What the page is at: busy, ready or failed. */
function say(state, text = "") {
  document.body.dataset.state = state;
  $("status").textContent = text;
}
const busy = (text) => say("busy", text);
const fail = (text) => say("failed", text);

// Loading

/** The bytes of a file of this folder; of a large one, whose size is given, says how many. */
async function bytesOf(path, size = 0) {
  const response = await fetch(path);
  if (!response.ok) throw new Error(`${path}: ${response.status} ${response.statusText}`);
  const reader = response.body.getReader();
  const parts = [];
  for (let count = 0; ; ) {
    const { done, value } = await reader.read();
    if (done) return new Uint8Array(await new Blob(parts).arrayBuffer());
    parts.push(value);
    count += value.length;
    if (size) tellLoading(path, count, size);
  }
}

function tellLoading(path, count, size) {
  loaded.set(path, [count, size]);
  const files = [...loaded.values()];
  const [here, all] = [0, 1].map((i) => files.reduce((sum, file) => sum + file[i], 0));
  busy(`Loading: ${Math.round((100 * here) / all)}% of ${(all / 1e6).toFixed(1)} MB`);
}

async function load({ module, wasm, size }) {
  const [ort, binary] = await Promise.all([import(`./${module}`), bytesOf(wasm, size)]);
  ort.env.logLevel = "error";
  ort.env.wasm.numThreads = 1;
  ort.env.wasm.wasmBinary = binary.buffer;
  return ort;
}

function chosen() {
  const radio = document.querySelector("#switch input:checked");
  return page.models[radio ? Number(radio.value) : 0];
}

/** A function from pixels to probabilities. */
async function open({ file, size }) {
  const [{ InferenceSession, Tensor }, bytes] = await Promise.all([ort, bytesOf(file, size)]);
  const session = await InferenceSession.create(bytes);
  const run = async (pixels) => {
    const images = new Tensor("uint8", pixels, [1, page.size, page.size, 3]);
    return (await session.run({ images }, ["probabilities"])).probabilities.data;
  };
  await run(new Uint8Array(page.size ** 2 * 3)); // the first run is a slow one
  return run;
}

function session(model) {
  const { name } = model;
  if (!sessions.has(name)) sessions.set(name, open(model));
  sessions.get(name).catch(() => sessions.delete(name)); // the next time may be a better one
  return sessions.get(name);
}

// Images

/** Shows and classifies what `load` gives, unless another image is asked for meanwhile. */
async function show(load, name, button = null) {
  const mine = ++images;
  try {
    const bitmap = await decode(await load(), name);
    if (mine !== images) return;
    image = read(bitmap);
    $("given").ariaLabel = `The image: ${name}`;
    for (const other of samples) other.setAttribute("aria-pressed", String(other === button));
    classify();
  } catch (error) {
    if (mine === images) fail(error.message);
  }
}

async function decode(blob, name) {
  try {
    // As Pillow reads it: turned as the camera says, its colour profile left aside.
    return await createImageBitmap(blob, { colorSpaceConversion: "none" });
  } catch {
    throw new Error(`${name}: this browser cannot read it as an image.`);
  }
}

/** The pixels of an image as the network takes them; draws both. */
function read(bitmap) {
  const { width, height } = bitmap;
  const strip = document.createElement("canvas");
  const pixels = resize(width, height, page.size, (left, top, w, h) => {
    Object.assign(strip, { width: w, height: h });
    const context = strip.getContext("2d", { willReadFrequently: true });
    draw(context, bitmap, [left, top, w, h]);
    return context.getImageData(0, 0, w, h).data;
  });
  const { left, top, side } = middle(width, height);
  const given = $("given").getContext("2d");
  given.imageSmoothingQuality = "high";
  draw(given, bitmap, [left, top, side, side]);
  bitmap.close();
  const seen = new ImageData(page.size, page.size);
  seen.data.fill(255);
  pixels.forEach((value, i) => (seen.data[Math.trunc(i / 3) * 4 + (i % 3)] = value));
  $("seen").getContext("2d").putImageData(seen, 0, 0);
  return pixels;
}

/** Part of an image on all of a canvas; what is transparent lies on white. */
function draw(context, bitmap, part) {
  const { width, height } = context.canvas;
  context.fillStyle = "white";
  context.fillRect(0, 0, width, height);
  context.drawImage(bitmap, ...part, 0, 0, width, height);
}

// Answers

/** Answers for the image and the model chosen, unless asked again before its turn. */
function classify() {
  const mine = ++answers;
  busy();
  turn = turn
    .then(() => mine === answers && answer(() => mine === answers))
    .catch((error) => fail(`The network cannot be run here: ${error.message}`));
}

async function answer(isWanted) {
  const model = chosen();
  const run = await session(model);
  const times = [];
  let probabilities;
  for (let total = 0; times.length < REPEATS && total < PATIENCE; total += times.at(-1)) {
    const before = performance.now();
    probabilities = await run(image);
    times.push(performance.now() - before);
  }
  times.sort((a, b) => a - b);
  if (isWanted()) tell([...probabilities], times, model);
}

const percent = (p) => `${(100 * p).toFixed(1)}%`;

function tell(probabilities, times, { name, size }) {
  const order = [...probabilities.keys()].sort((a, b) => probabilities[b] - probabilities[a]);
  const top = order.slice(0, SHOWN);
  $("bars").replaceChildren(...top.map((i) => bar(page.classes[i], probabilities[i])));
  const others = 1 - top.reduce((sum, i) => sum + probabilities[i], 0);
  const rest = order.length - top.length;
  $("rest").textContent = rest ? `The other ${rest}: ${percent(Math.max(0, others))}` : "";
  $("top").textContent = page.classes[top[0]];
  $("share").textContent = percent(probabilities[top[0]]);
  const [time, file] = document.querySelectorAll(".tiles dd");
  time.textContent = `${times[times.length >> 1].toFixed(1)} ms`;
  file.textContent = `${(size / 1e6).toFixed(2)} MB`;
  const runs = times.length > 1 ? `the median of ${times.length} runs` : "one run";
  $("how").textContent = `${name}, on one thread of this device: ${runs}.`;
  $("answer").hidden = false;
  say("ready");
}

function bar(name, probability) {
  const row = document.createElement("li");
  const [label, track, value] = ["span", "div", "data"].map((tag) => document.createElement(tag));
  label.textContent = name;
  track.append(document.createElement("div"));
  track.firstChild.style.width = `${100 * probability}%`;
  value.textContent = percent(probability);
  value.value = probability;
  row.append(label, track, value);
  return row;
}

// Whatever gives an image

function give(file) {
  if (file) show(async () => file, file.name);
}

function pick(button) {
  const path = button.querySelector("img").getAttribute("src");
  show(async () => new Blob([await bytesOf(path)]), button.innerText, button);
}

for (const button of samples) button.addEventListener("click", () => pick(button));
$("file").addEventListener("change", (event) => {
  give(event.target.files[0]);
  event.target.value = ""; // so that the same file can be chosen again
});
document.addEventListener("paste", (event) => give(event.clipboardData.files[0]));
const over = (is) => document.body.classList.toggle("over", is);
document.addEventListener("dragover", (event) => {
  event.preventDefault();
  over(true);
});
document.addEventListener("dragleave", (event) => over(event.relatedTarget !== null));
document.addEventListener("drop", (event) => {
  event.preventDefault();
  over(false);
  const [file] = event.dataTransfer.files;
  if (file) give(file);
  else fail("What was dropped is no image file.");
});
$("switch")?.addEventListener("change", classify);

const ort = load(page.runtime);
session(chosen()).catch(() => {}); // the first answer says what went wrong
pick(samples[0]);
