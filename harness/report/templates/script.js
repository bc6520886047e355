"use strict";
// What only works with this script is hidden until it runs.
for (const part of document.querySelectorAll("[data-script]")) part.hidden = false;

// Sorting: the baseline stays on top, rows without a value go last.
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  const body = table.tBodies[0];
  heads.forEach((head, column) => head.firstElementChild.addEventListener("click", () => {
    const up = head.getAttribute("aria-sort") === "descending";
    heads.forEach((h) => h.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", up ? "ascending" : "descending");
    const key = (row) => {
      const cell = row.cells[column];
      if (!cell || cell.colSpan > 1) return null;
      if (cell.dataset.sort === undefined) return cell.textContent;
      return cell.dataset.sort === "" ? null : Number(cell.dataset.sort);
    };
    const order = (a, b) => {
      const [x, y] = [key(a), key(b)];
      if (x === null || y === null) return (x === null) - (y === null);
      const sign = up ? 1 : -1;
      return typeof x === "string" ? -sign * x.localeCompare(y) : sign * (x - y);
    };
    body.append(...[...body.rows].filter((r) => !r.classList.contains("reference")).sort(order));
  }));
}

// Filtering: rows whose name has every word, and whose verdict is ticked if any is.
const sift = document.getElementById("arm-filter");
if (sift) {
  const rows = [...document.querySelectorAll("#arms tbody tr[data-kind]")];
  const kinds = [...sift.querySelectorAll("[name=kind]")];
  const filter = () => {
    const words = sift.elements.arm.value.toLowerCase().split(/\s+/).filter(Boolean);
    const on = kinds.filter((box) => box.checked).map((box) => box.value);
    for (const row of rows) {
      const name = row.cells[0].textContent.toLowerCase();
      row.hidden = !words.every((word) => name.includes(word)) || (on.length > 0 && !on.includes(row.dataset.kind));
    }
    const shown = rows.filter((row) => !row.hidden).length;
    sift.querySelector("output").textContent = `${shown} of ${rows.length} arm${rows.length === 1 ? "" : "s"}`;
    sift.querySelector("[type=reset]").disabled = shown === rows.length && !words.length && !on.length;
  };
  sift.addEventListener("input", filter);
  sift.addEventListener("reset", () => setTimeout(filter)); // the fields are emptied after the event
  sift.addEventListener("submit", (event) => event.preventDefault());
  for (const link of document.querySelectorAll("a[data-only]")) {
    link.addEventListener("click", () => {
      sift.elements.arm.value = "";
      for (const box of kinds) box.checked = box.value === link.dataset.only;
      filter();
    });
  }
  filter(); // a reloaded page keeps its fields
}

// A link into something folded or filtered away shows it.
const reveal = () => {
  const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (!target) return;
  for (let part = target; part; part = part.parentElement) if (part.tagName === "DETAILS") part.open = true;
  if (sift && target.hidden) sift.reset();
  setTimeout(() => target.scrollIntoView({ block: target.tagName === "TR" ? "center" : "start" }));
};
addEventListener("hashchange", reveal);
for (const link of document.querySelectorAll("a[href^='#']")) {
  link.addEventListener("click", () => { if (link.hash === location.hash) reveal(); });
}
if (location.hash) reveal();
addEventListener("beforeprint", () => { for (const fold of document.querySelectorAll("details")) fold.open = true; });

// Two drawings of one figure: a button shows the other.
for (const button of document.querySelectorAll("button[data-swap]")) {
  button.addEventListener("click", () => {
    button.setAttribute("aria-pressed", String(button.getAttribute("aria-pressed") !== "true"));
    for (const part of document.querySelectorAll(`[data-swapped="${button.dataset.swap}"]`)) part.hidden = !part.hidden;
  });
}

// Learning curves: the first drawing is part of the page; other arms and axes are drawn from its numbers.
const source = document.getElementById("curve-data");
if (source) {
  const data = JSON.parse(source.textContent);
  const boxes = [...document.querySelectorAll("input[data-arm]")];
  const isOn = () => new Set(boxes.filter((b) => b.checked).map((b) => Number(b.dataset.arm)));
  const [left, right] = data.x;
  const [bottom, top] = data.y;
  const LINES = 12;

  const namespace = document.querySelector(".plot svg").namespaceURI;
  const make = (name, attributes, text) => {
    const element = document.createElementNS(namespace, name);
    for (const [key, value] of Object.entries(attributes)) if (value !== null) element.setAttribute(key, value);
    if (text !== undefined) element.textContent = text;
    return element;
  };
  const padded = (low, high) => {
    const pad = (high - low) * 0.05 || Math.abs(low) * 0.05 || 1;
    return [low - pad, high + pad];
  };
  const ticks = (low, high, count) => {
    if (!(low < high)) return [low];
    const power = 10 ** Math.floor(Math.log10((high - low) / count));
    const step = power * [1, 2, 5, 10].find((m) => m * power >= 0.7 * (high - low) / count);
    const found = [];
    for (let i = Math.ceil(low / step - 1e-9); i <= Math.floor(high / step + 1e-9); i++) found.push(i * step);
    return found;
  };
  const logTicks = (low, high) => {
    if (high < 3 * low) return ticks(low, high, 5);
    const found = [];
    for (let e = Math.floor(Math.log10(low)); 10 ** e <= high; e++) {
      found.push(...[1, 2, 5].map((m) => m * 10 ** e).filter((v) => v >= low && v <= high));
    }
    return found.length > 9 ? found.filter((v) => Number.isInteger(Math.round(Math.log10(v) * 1e6) / 1e6)) : found;
  };
  const label = (v) => String(Number(v.toPrecision(3))).replace("-", "−");
  const smooth = (values) => {
    let [sum, weight] = [0, 0];
    return values.map((v) => {
      if (v === null) return null;
      sum = data.smoothing * sum + v;
      weight = data.smoothing * weight + 1;
      return sum / weight;
    });
  };

  const plots = [...document.querySelectorAll(".plot")].map((element, i) => (
    { element, svg: element.querySelector("svg"), series: data.panels[i].series, unit: data.panels[i].unit, log: false, smooth: false }
  ));
  const fit = (plot) => {
    const on = isOn();
    plot.shown = plot.series.filter((s) => on.has(s.arm));
    const all = plot.shown.flatMap((s) => data.epochs[s.at]);
    plot.across = all.length ? [Math.min(...all), Math.max(...all)] : [0, 1];
    const late = plot.shown.flatMap((s) => data.epochs[s.at].flatMap((epoch, i) => (
      epoch < data.late * plot.across[1] || s.mean[i] === null ? []
        : s.half[i] === null ? [s.mean[i]] : [s.mean[i], s.mean[i] - s.half[i], s.mean[i] + s.half[i]]
    ))).filter((v) => !plot.log || v > 0);
    const ends = late.length ? [Math.min(...late), Math.max(...late)] : [plot.log ? 0.1 : 0, 1];
    plot.up = plot.log ? padded(...ends.map(Math.log10)).map((v) => 10 ** v) : padded(...ends);
  };
  const toX = (plot, epoch) => left + (epoch - plot.across[0]) / (plot.across[1] - plot.across[0] || 1) * (right - left);
  const toY = (plot, value) => {
    if (plot.log && value <= 0) return 2 * bottom; // below the frame, which cuts it
    const [v, low, high] = plot.log ? [value, ...plot.up].map(Math.log10) : [value, ...plot.up];
    return bottom + (v - low) / (high - low) * (top - bottom);
  };
  const path = (points) => `M${points.map(([x, y]) => `${x.toFixed(1)} ${y.toFixed(1)}`).join("L")}`;
  const draw = (plot) => {
    fit(plot);
    const parts = [];
    for (const v of plot.log ? logTicks(...plot.up) : ticks(...plot.up, 5)) {
      const y = toY(plot, v);
      parts.push(make("line", { class: "grid", x1: left, x2: right, y1: y, y2: y }));
      parts.push(make("text", { class: "tick", "text-anchor": "end", x: left - 6, y: y + 4 }, label(v)));
    }
    for (const v of ticks(...plot.across, 6)) {
      parts.push(make("text", { class: "tick", "text-anchor": "middle", x: toX(plot, v), y: bottom + 18 }, label(v)));
    }
    plot.svg.querySelector(".frame").replaceChildren(...parts);
    plot.svg.querySelector(".lines").replaceChildren(...[...plot.shown].reverse().map((s) => {
      const group = make("g", { "data-arm": s.arm });
      const at = (values) => data.epochs[s.at].map((e, i) => [toX(plot, e), values[i]]).filter(([, v]) => v !== null)
        .map(([x, v]) => [x, toY(plot, v)]);
      const edge = (sign) => at(s.mean.map((m, i) => (m === null || s.half[i] === null ? null : m + sign * s.half[i])));
      const band = [...edge(-1), ...edge(1).reverse()];
      if (band.length > 2) group.append(make("path", { class: `band ${s.class}`, d: `${path(band)}z` }));
      const line = at(plot.smooth ? smooth(s.mean) : s.mean);
      if (line.length) group.append(make("path", { class: `mean ${s.class}`, d: path(line), "stroke-dasharray": s.dash }));
      return group;
    }));
  };

  boxes.forEach((b) => b.addEventListener("change", () => plots.forEach(draw)));
  for (const button of document.querySelectorAll("button[data-all]")) {
    button.addEventListener("click", () => {
      boxes.forEach((b) => { b.checked = button.dataset.all === "on"; });
      plots.forEach(draw);
    });
  }
  const changed = boxes.some((b) => b.checked !== b.defaultChecked); // a reloaded page keeps its ticks
  plots.forEach(changed ? draw : fit);

  for (const plot of plots) {
    const { element, svg } = plot;
    for (const button of element.querySelectorAll("button[data-set]")) {
      button.addEventListener("click", () => {
        plot[button.dataset.set] = !plot[button.dataset.set];
        button.setAttribute("aria-pressed", String(plot[button.dataset.set]));
        draw(plot);
      });
    }
    const cursor = svg.querySelector(".cursor");
    const output = element.querySelector("output");
    const epochs = [...new Set(plot.series.flatMap((s) => data.epochs[s.at]))].sort((a, b) => a - b);
    let at = epochs.length - 1;
    const line = (text, colour) => {
      const row = document.createElement("div");
      if (colour) row.append(Object.assign(document.createElement("i"), { className: colour }));
      row.append(text);
      output.append(row);
    };
    const show = () => {
      const x = Math.min(toX(plot, epochs[at]), right);
      cursor.setAttribute("x1", x);
      cursor.setAttribute("x2", x);
      cursor.style.visibility = "visible";
      output.replaceChildren();
      line(`epoch ${epochs[at]}`);
      const rows = plot.shown.map((s) => [s, data.epochs[s.at].indexOf(epochs[at])])
        .filter(([s, i]) => i >= 0 && s.mean[i] !== null);
      for (const [s, i] of rows.slice(0, LINES)) {
        const [mean, half] = [s.mean[i], s.half[i]];
        const band = half === null ? "" : ` [${(mean - half).toPrecision(4)}, ${(mean + half).toPrecision(4)}]`;
        line(`${data.arms[s.arm]} ${mean.toPrecision(4)}${plot.unit}${band}, n = ${s.n}`, s.class);
      }
      if (rows.length > LINES) line(`and ${rows.length - LINES} more`);
      output.classList.add("open");
      const box = element.getBoundingClientRect(); // a plot on the right opens to the left
      output.style[box.left + box.right > window.innerWidth * 1.1 ? "right" : "left"] = "0";
    };
    const hide = () => {
      cursor.style.visibility = "hidden";
      output.classList.remove("open");
    };
    svg.addEventListener("pointermove", (event) => {
      const box = svg.getBoundingClientRect();
      const x = (event.clientX - box.left) / box.width * data.size[0];
      at = epochs.reduce((best, e, i) => (Math.abs(toX(plot, e) - x) < Math.abs(toX(plot, epochs[best]) - x) ? i : best), 0);
      show();
    });
    element.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (event.key === "Escape") hide();
      if (!step) return;
      event.preventDefault();
      if (output.classList.contains("open")) at = Math.min(Math.max(at + step, 0), epochs.length - 1);
      show();
    });
    element.addEventListener("pointerleave", hide);
    element.addEventListener("blur", hide);
  }
}
