"use strict";
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

const source = document.getElementById("curve-data");
if (source) {
  const data = JSON.parse(source.textContent);
  const boxes = [...document.querySelectorAll("input[data-arm]")];
  const shown = () => new Set(boxes.filter((b) => b.checked).map((b) => Number(b.dataset.arm)));
  const update = () => {
    const on = shown();
    for (const g of document.querySelectorAll("g[data-arm]")) g.classList.toggle("off", !on.has(Number(g.dataset.arm)));
  };
  boxes.forEach((b) => b.addEventListener("change", update));
  for (const button of document.querySelectorAll("button[data-all]")) {
    button.addEventListener("click", () => {
      boxes.forEach((b) => { b.checked = button.dataset.all === "on"; });
      update();
    });
  }
  update(); // a reloaded page keeps its ticks

  const LINES = 12;
  const [left, right] = data.frame;
  document.querySelectorAll(".plot").forEach((plot, index) => {
    const panel = data.panels[index];
    const svg = plot.querySelector("svg");
    const cursor = svg.querySelector(".cursor");
    const output = plot.querySelector("output");
    const epochs = [...new Set(panel.series.flatMap((s) => s.epochs))].sort((a, b) => a - b);
    const toX = (epoch) => left + (epoch - panel.span[0]) / (panel.span[1] - panel.span[0] || 1) * (right - left);
    let at = epochs.length - 1;
    const line = (text, colour) => {
      const row = document.createElement("div");
      if (colour) row.append(Object.assign(document.createElement("i"), { className: colour }));
      row.append(text);
      output.append(row);
    };
    const show = () => {
      const x = toX(epochs[at]);
      const on = shown();
      cursor.setAttribute("x1", x);
      cursor.setAttribute("x2", x);
      cursor.style.visibility = "visible";
      output.replaceChildren();
      line(`epoch ${epochs[at]}`);
      const rows = panel.series.filter((s) => on.has(s.arm)).map((s) => [s, s.epochs.indexOf(epochs[at])])
        .filter(([s, i]) => i >= 0 && s.mean[i] !== null);
      for (const [s, i] of rows.slice(0, LINES)) {
        const [mean, low, high] = [s.mean[i], s.low[i], s.high[i]].map((v) => v?.toPrecision(4));
        const band = low === undefined ? "" : ` [${low}, ${high}]`;
        const group = svg.querySelector(`g[data-arm="${s.arm}"] .mean`);
        line(`${data.arms[s.arm]} ${mean}${panel.unit}${band}, n = ${s.n}`, group.classList[1]);
      }
      if (rows.length > LINES) line(`and ${rows.length - LINES} more`);
      output.classList.add("open");
      const box = plot.getBoundingClientRect(); // a plot on the right opens to the left
      output.style[box.left + box.right > window.innerWidth * 1.1 ? "right" : "left"] = "0";
    };
    const hide = () => {
      cursor.style.visibility = "hidden";
      output.classList.remove("open");
    };
    plot.addEventListener("pointermove", (event) => {
      const box = svg.getBoundingClientRect();
      const x = (event.clientX - box.left) / box.width * data.width;
      at = epochs.reduce((best, e, i) => (Math.abs(toX(e) - x) < Math.abs(toX(epochs[best]) - x) ? i : best), 0);
      show();
    });
    plot.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (event.key === "Escape") hide();
      if (!step) return;
      event.preventDefault();
      if (output.classList.contains("open")) at = Math.min(Math.max(at + step, 0), epochs.length - 1);
      show();
    });
    plot.addEventListener("pointerleave", hide);
    plot.addEventListener("blur", hide);
  });
}
