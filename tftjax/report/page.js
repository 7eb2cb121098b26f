// What a page can do beyond what it shows without a script: tables that sort, figures with values under the
// pointer and zoom, and how long ago the forecast was made. It asks for nothing.
"use strict";
const SVG = document.querySelector("svg")?.namespaceURI, DAY = 864e5;

function element(parent, name, attributes = {}, text) {
  const found = name in { svg: 1, g: 1, path: 1, line: 1, circle: 1, rect: 1, text: 1 }
    ? document.createElementNS(SVG, name) : document.createElement(name);
  for (const key in attributes) found.setAttribute(key, attributes[key]);
  if (text !== undefined) found.textContent = text;
  return parent.appendChild(found);
}

// ---- Tables: a click or Enter on a heading sorts upwards, downwards, and as it was --------------------------

function valueOf(cell) {
  const text = (cell.dataset.order ?? cell.textContent).trim();
  const number = text.replace(/[,\s]/g, "").replace(/\u2212/g, "-").match(/^[-+]?[\d.]+(e[-+]?\d+)?/i);
  return /^\d{4}-\d\d-\d\d/.test(text) ? Date.parse(text.slice(0, 10)) : number ? parseFloat(number[0]) : text;
}

function compare(a, b) {
  const rank = (value) => (typeof value === "number" ? 0 : value === "" || value === "-" ? 2 : 1);
  return rank(a) - rank(b) || (typeof a === "number" ? a - b : a.localeCompare(b));
}

function sort(table, column, heading) {
  const state = heading.getAttribute("aria-sort");
  const next = { none: "ascending", ascending: "descending", descending: "none" }[state];
  table.querySelectorAll("th[aria-sort]").forEach((it) => it.setAttribute("aria-sort", "none"));
  heading.setAttribute("aria-sort", next);
  const rows = table.rowsAsWritten.map((row) => [valueOf(row.cells[column]), row]);
  const empty = ([value]) => value === "" || value === "-";
  if (next !== "none") {
    const sign = next === "ascending" ? 1 : -1;  // what has no value stays below
    rows.sort((a, b) => empty(a) - empty(b) || sign * compare(a[0], b[0]));
  }
  table.tBodies[0].append(...rows.map(([, row]) => row));
}

for (const table of document.querySelectorAll("table")) {
  table.rowsAsWritten = [...table.tBodies[0].rows];
  if (table.rowsAsWritten.length < 2) continue;
  [...table.tHead.rows[0].cells].forEach((heading, column) => {
    heading.setAttribute("aria-sort", "none");
    const button = document.createElement("button"), name = heading.textContent.trim();
    button.type = "button";
    button.append(...heading.childNodes);
    if (!name) button.textContent = "name";
    heading.append(button);
    button.addEventListener("click", () => sort(table, column, heading));
  });
}

// ---- Tables that are wider than their place say so ------------------------------------------------------------

const observer = new ResizeObserver((entries) => entries.forEach(({ target }) => {
  const hidden = target.scrollWidth - target.clientWidth > 2;
  target.nextElementSibling.hidden = !hidden;
}));
for (const part of document.querySelectorAll(".table > .scroll")) {
  const note = document.createElement("p");
  note.className = "more";
  note.hidden = true;
  note.textContent = "More columns to the right: scroll sideways.";
  part.after(note);
  observer.observe(part);
}

// ---- Figures --------------------------------------------------------------------------------------------------

const bits = (text) => new Int16Array(Uint8Array.from(atob(text), (it) => it.charCodeAt(0)).buffer);
const scaled = ([unit, text, middle]) =>
  Array.from(bits(text), (it) => (it === -32768 ? NaN : middle + it * unit));
const day = (number) => new Date(number * DAY).toISOString().slice(0, 10);

function unpack(chart) {
  return {
    title: chart.title,
    form: chart.form,
    shade: chart.shade,
    shaded: chart.shaded,
    x: Array.from(bits(chart.x)),
    bands: chart.bands.map((it) => ({ ...it, low: scaled(it.low), high: scaled(it.high) })),
    lines: chart.lines.map((it) => ({ ...it, values: scaled(it.values) })),
  };
}

function steps(low, high, count) {  // round numbers between two bounds
  const raw = (high - low) / count || 1, power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 2.5, 5, 10].map((it) => it * power).find((it) => it >= raw * 0.999);
  const found = [];
  for (let it = Math.ceil(low / step); it * step <= high + step * 1e-9; it++) found.push(it * step);
  return found;
}

function number(value, form) {  // in a format of Python such as "+.2f" or ".6g"
  if (!Number.isFinite(value)) return "\u2013";
  const [, sign, digits, kind] = form.match(/^(\+?)\.(\d+)([fg])$/);
  const shown = kind === "f"
    ? { minimumFractionDigits: digits, maximumFractionDigits: digits }
    : { maximumSignificantDigits: Math.min(digits, 5) };  // steps of 16 bits hold no more
  return value.toLocaleString("en", { ...shown, signDisplay: sign ? "exceptZero" : "auto", useGrouping: false });
}

function figure(place, named) {
  const charts = new Map(named), names = [...charts.keys()], holder = document.createElement("div");
  holder.className = "chart";
  const controls = element(holder, "div", { class: "controls" });
  let chart = unpack(charts.get(names[0])), first = 0, last = chart.x.length - 1, at = null, begun = null;
  const written = place.querySelector("svg").getAttribute("aria-label");
  let spoken = written;
  if (names.length > 1) {
    const label = element(controls, "label", {}, "Show ");
    const choice = element(label, "select");
    names.forEach((name) => element(choice, "option", { value: name }, name));
    const heading = place.parentElement.querySelector("h3"), title = heading.textContent;
    const caption = place.parentElement.querySelector("figcaption[data-first]"), { length } = chart.x;
    choice.addEventListener("change", () => {
      const other = choice.value !== names[0];
      chart = unpack(charts.get(choice.value));
      if (caption) {
        const of = (count, name) => `${count} forecasts, series ${name}`;
        heading.textContent = title.replace(of(length, names[0]), () => of(chart.x.length, choice.value));
        caption.hidden = other;  // its numbers are of the first, and so are those of the label
      }
      spoken = !other ? written : caption ? heading.textContent : `${choice.value}. ${written}`;
      [first, last, at] = [0, chart.x.length - 1, null];
      draw();
    });
  }
  const zoom = (low, high) => {
    const top = chart.x.length - 1, span = Math.min(Math.max(Math.round(high - low), 5), top);
    first = Math.min(Math.max(Math.round(low), 0), top - span);
    last = first + span;
    draw();
  };
  const turn = (factor) => {
    const middle = at ?? (first + last) / 2, half = (last - first) * factor / 2;
    zoom(middle - half, middle + half);
  };
  const buttons = {
    "+": ["Zoom in", () => turn(0.5)], "\u2212": ["Zoom out", () => turn(2)],
    "\u2190": ["Earlier", () => zoom(first - (last - first) / 2, last - (last - first) / 2)],
    "\u2192": ["Later", () => zoom(first + (last - first) / 2, last + (last - first) / 2)],
    all: ["Show all dates", () => zoom(0, chart.x.length - 1)],
  };
  for (const text in buttons) {
    const button = element(controls, "button", { type: "button", "aria-label": buttons[text][0] }, text);
    button.addEventListener("click", buttons[text][1]);
  }
  // The legend is that of the figure in the page: of what this one has.
  const legend = place.parentElement.querySelector(".legend");
  if (legend) {
    const drawn = [...chart.lines, ...chart.bands], labels = drawn.map((it) => it.label).concat(chart.shade);
    const written = [...legend.children].map((it) => it.textContent);
    [...legend.children].forEach((it) => { it.hidden = !labels.includes(it.textContent); });
    for (const it of drawn.filter(({ label }) => !written.includes(label))) {
      const item = element(legend, "li");
      item.style.setProperty("--key", `var(--${it.color})`);
      element(item, "span", { class: `key ${it.shape}` });
      item.append(it.label);
    }
  }
  const readout = element(holder, "p", { class: "readout", role: "status" });
  const drawn = element(holder, "div");
  let width, scaleX, scaleY, svg, cursor;

  function read(index) {
    at = index === null ? null : Math.min(Math.max(index, first), last);
    cursor.replaceChildren();
    if (at === null) {
      readout.textContent = "Point at the figure, or focus it and use the arrow keys, for values; drag to zoom.";
      return;
    }
    const x = scaleX(chart.x[at]);
    element(cursor, "line", { x1: x, x2: x, y1: 8, y2: 272, stroke: "var(--ink)", "stroke-width": 1 });
    const said = [];
    for (const line of chart.lines) {
      said.push(`${line.label} ${number(line.values[at], chart.form)}`);
      if (Number.isFinite(line.values[at])) {
        const spot = { cx: x, cy: scaleY(line.values[at]), r: 4, fill: `var(--${line.color})` };
        element(cursor, "circle", { ...spot, stroke: "var(--page)", "stroke-width": 1.5 });
      }
    }
    for (const band of [...chart.bands].reverse())
      said.push(`${band.label} ${number(band.low[at], chart.form)} to ${number(band.high[at], chart.form)}`);
    readout.textContent = `${day(chart.x[at])} (${chart.title}): ${said.join("; ")}`;
  }

  function axes(low, high) {
    for (const value of steps(low, high, 5)) {
      const y = scaleY(value);
      element(svg, "line", { x1: 46, x2: width - 8, y1: y, y2: y, stroke: value ? "var(--grid)" : "var(--muted)" });
      const label = value.toLocaleString("en", { maximumFractionDigits: 6, useGrouping: false });
      element(svg, "text", { x: 40, y: y + 4, "text-anchor": "end" }, label);
    }
    const count = Math.max(2, Math.floor(width / 130));
    for (let k = 0; k <= count; k++) {
      const index = Math.round(first + (last - first) * k / count), x = scaleX(chart.x[index]);
      const anchor = k === 0 ? "start" : k === count ? "end" : "middle";
      element(svg, "line", { x1: x, x2: x, y1: 272, y2: 277, stroke: "var(--muted)" });
      element(svg, "text", { x, y: 291, "text-anchor": anchor }, day(chart.x[index]));
    }
  }

  function path(values, back) {
    let text = "", pen = "M";
    for (let k = first; k <= last; k++) {
      if (!Number.isFinite(values[k])) { pen = "M"; continue; }
      text += `${pen}${scaleX(chart.x[k]).toFixed(1)} ${scaleY(values[k]).toFixed(1)}`;
      pen = "L";
    }
    if (back) {
      for (let k = last; k >= first; k--) text += `L${scaleX(chart.x[k]).toFixed(1)} ${scaleY(back[k]).toFixed(1)}`;
    }
    return text;
  }

  function marks() {
    for (const [from, to] of chart.shaded) {
      const a = Math.max(from, first), b = Math.min(to, last);
      if (a > b) continue;
      const x = scaleX(chart.x[a]), wide = Math.max(1, scaleX(chart.x[b]) - x);
      element(svg, "rect", { x, width: wide, y: 8, height: 264, fill: "var(--orange)", "fill-opacity": 0.18 });
    }
    let below = 0;
    for (const band of chart.bands) {
      const opacity = (band.opacity - below) / (1 - below);
      below = band.opacity;
      element(svg, "path", { d: path(band.low, band.high), fill: `var(--${band.color})`, "fill-opacity": opacity });
    }
    const dashes = { dotted: "2 3", dashed: "6 4", dashdot: "6 3 2 3" };
    for (const line of chart.lines) {
      const color = `var(--${line.color})`;
      if (line.shape !== "dot") {
        const style = { fill: "none", stroke: color, "stroke-width": 1.6 };
        if (dashes[line.shape]) style["stroke-dasharray"] = dashes[line.shape];
        element(svg, "path", { d: path(line.values), ...style });
        continue;
      }
      const r = width < 500 ? 1.8 : 2.6;
      for (let k = first; k <= last; k++) {
        if (Number.isFinite(line.values[k]))
          element(svg, "circle", { cx: scaleX(chart.x[k]), cy: scaleY(line.values[k]), r, fill: color });
      }
    }
  }

  function draw() {
    width = Math.max(280, drawn.clientWidth || place.clientWidth);
    const shown = [...chart.lines.map((it) => it.values), ...chart.bands.flatMap((it) => [it.low, it.high])]
      .flatMap((it) => it.slice(first, last + 1)).filter(Number.isFinite);
    const room = (Math.max(...shown) - Math.min(...shown)) * 0.04 || 1;
    const low = Math.min(...shown) - room, high = Math.max(...shown) + room;
    const [start, end] = [chart.x[first], chart.x[last]];
    scaleX = (value) => 50 + (width - 62) * (end > start ? (value - start) / (end - start) : 0.5);
    scaleY = (value) => 272 - 264 * (value - low) / (high - low);
    drawn.replaceChildren();
    svg = element(drawn, "svg", { viewBox: `0 0 ${width} 300`, role: "img", tabindex: 0, "aria-label": spoken });
    axes(low, high);
    marks();
    cursor = element(svg, "g");
    listen();
    read(at);
  }

  function listen() {
    const nearest = (event) => {
      const box = svg.getBoundingClientRect(), x = (event.clientX - box.left) * width / box.width;
      let best = first;
      for (let k = first; k <= last; k++)
        if (Math.abs(scaleX(chart.x[k]) - x) < Math.abs(scaleX(chart.x[best]) - x)) best = k;
      return best;
    };
    svg.addEventListener("pointermove", (event) => {
      read(nearest(event));
      if (begun === null) return;
      const [a, b] = [scaleX(chart.x[begun]), scaleX(chart.x[at])].sort((p, q) => p - q);
      element(cursor, "rect", { x: a, width: b - a, y: 8, height: 264, fill: "var(--blue)", "fill-opacity": 0.15 });
    });
    svg.addEventListener("pointerdown", (event) => {
      begun = event.pointerType === "mouse" ? nearest(event) : null;
      read(nearest(event));
    });
    svg.addEventListener("pointerup", () => {
      const from = begun;
      begun = null;
      if (from !== null && Math.abs(at - from) > 2) zoom(Math.min(from, at), Math.max(from, at));
    });
    svg.addEventListener("pointerleave", () => { begun = null; });
    svg.addEventListener("dblclick", () => zoom(0, chart.x.length - 1));
    svg.addEventListener("keydown", (event) => {
      const move = { ArrowLeft: -1, ArrowRight: 1, PageUp: -20, PageDown: 20 }[event.key];
      if (!move) return;
      event.preventDefault();
      read((at ?? (move > 0 ? first - 1 : last + 1)) + move);
    });
  }

  place.replaceChildren(holder);
  draw();
  let before = holder.clientWidth;
  new ResizeObserver(() => {
    if (holder.clientWidth && holder.clientWidth !== before) { before = holder.clientWidth; draw(); }
  }).observe(holder);
}

for (const data of document.querySelectorAll("script[type='application/json']"))
  figure(data.previousElementSibling, JSON.parse(data.textContent));

// ---- The age of the forecast ----------------------------------------------------------------------------------

for (const place of document.querySelectorAll("[data-day]")) {
  const days = Math.floor((Date.now() - Date.parse(place.dataset.day)) / DAY);
  if (days > 3) place.textContent = `That day was ${days.toLocaleString("en")} days ago, seen from today.`;
}
