// Shows what a chosen point of a clip attends to. A place in a clip is [frame, row, column].
"use strict";

const AXES = {t: 0, h: 1, w: 2};
const POINT = 24;  // pixels of a canvas for each point of the map, so that a thin line can go around the chosen one
const axis = document.getElementById("axis"), scale = document.getElementById("scale");
const padding = document.getElementById("padding");
const {order, clips} = pageData.attention;

// One scale of one clip: sizes, and attention by axis as shares of a line's largest.
function unpack(packed, frames) {
  const map = {sizes: [frames, packed.rows, packed.columns]};
  for (const name of order) {
    map[name] = Uint8Array.from(atob(packed[name]), letter => letter.charCodeAt(0));
  }
  return map;
}

const index = (map, [t, y, x]) => (t * map.sizes[1] + y) * map.sizes[2] + x;

// Attention of one place along one axis; it sums to 1.
function line(map, name, place) {
  const length = map.sizes[AXES[name]], start = index(map, place) * length;
  const values = map[name].subarray(start, start + length), sum = values.reduce((a, b) => a + b, 0);
  return Array.from(values, value => value / sum);
}

// How much of every place arrives at one by the axes: the last one takes from places that the earlier ones have filled.
function attended(map, axes, place) {
  let weights = new Map([[String(place), 1]]);
  for (const name of [...axes].reverse()) {
    const next = new Map();
    for (const [key, weight] of weights) {
      const source = key.split(",").map(Number);
      line(map, name, source).forEach((share, position) => {
        const target = source.with(AXES[name], position).join();
        next.set(target, (next.get(target) ?? 0) + weight * share);
      });
    }
    weights = next;
  }
  return weights;
}

class Example {
  constructor(section, packed) {
    this.section = section;
    this.output = section.querySelector("output");
    this.frames = [...section.querySelectorAll(".frame")];
    this.scales = packed.map(map => unpack(map, this.frames.length));
    this.chosen = null;  // [frame, and row and column as shares of height and width]
    this.frames.forEach((frame, t) => {
      const picture = frame.querySelector(".picture");
      picture.addEventListener("click", event => {
        const box = picture.getBoundingClientRect();
        this.choose(t, (event.clientY - box.top) / box.height, (event.clientX - box.left) / box.width);
      });
      picture.addEventListener("keydown", event => this.move(event, t));
    });
  }

  choose(t, y, x) {
    const inside = share => Math.min(Math.max(share, 0), 0.999999);
    this.chosen = [t, inside(y), inside(x)];
    this.draw();
  }

  move(event, t) {
    const step = {ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1], Enter: [0, 0]}[event.key];
    if (!step) return;
    event.preventDefault();
    const [, rows, columns] = this.scales[scale.value].sizes;
    const [, y, x] = this.chosen?.[0] === t ? this.chosen : [t, 0.5, 0.5];
    this.choose(t, y + step[0] / rows, x + step[1] / columns);
  }

  draw() {
    if (!this.chosen) return;
    this.section.classList.add("chosen");
    const map = this.scales[scale.value], [frames, rows, columns] = map.sizes;
    const place = [this.chosen[0], Math.floor(this.chosen[1] * rows), Math.floor(this.chosen[2] * columns)];
    const weights = attended(map, axis.value === "together" ? order : axis.value, place);
    const largest = Math.max(...weights.values());
    this.output.value = `frame ${place[0] + 1} of ${frames}, row ${place[1] + 1} of ${rows}, column ${place[2] + 1} of ` +
      `${columns}: largest share ${(100 * largest).toFixed(1)} %`;
    this.frames.forEach((frame, t) => this.paint(frame, t, map, place, weights, largest));
  }

  paint(frame, t, map, place, weights, largest) {
    const [, rows, columns] = map.sizes, canvas = frame.querySelector("canvas");
    canvas.width = columns * POINT;
    canvas.height = rows * POINT;
    const pen = canvas.getContext("2d");
    let part = 0;
    for (const [key, weight] of weights) {
      const [frameOf, y, x] = key.split(",").map(Number);
      if (frameOf !== t) continue;
      part += weight;
      pen.fillStyle = `rgba(255, 120, 0, ${0.85 * weight / largest})`;
      pen.fillRect(x * POINT, y * POINT, POINT, POINT);
    }
    if (t === place[0]) {
      for (const [colour, inset] of [["#000", 0.5], ["#fff", 1.5], ["#fff", 2.5], ["#000", 3.5]]) {
        pen.strokeStyle = colour;
        pen.strokeRect(place[2] * POINT + inset, place[1] * POINT + inset, POINT - 2 * inset, POINT - 2 * inset);
      }
    }
    frame.querySelector(".share").textContent = `${(100 * part).toFixed(1)} %`;
  }
}

const examples = [...document.querySelectorAll(".example")].map((section, i) => new Example(section, clips[i]));
document.querySelector("form").addEventListener("change", () => {
  document.body.classList.toggle("bare", !padding.checked);
  examples.forEach(example => example.draw());
});
