"use strict";
/* A suite's page: choose the metric of the map and of the differences, open a cell's runs, show and hide columns. */
(() => {
  const { rows, metrics, differences } = fedrobust.data.suite;
  const find = (id) => document.getElementById(id);
  const signed = (text) => (Number(text) ? text.replace("-", "−") : text.replace("-", ""));
  const write = (value, digits) => (value == null ? "–" : signed(value.toFixed(digits)));
  const probability = (p) => (p != null && p < 0.0005 ? "< 0.001" : write(p, 3));
  const range = (low, high, digits) => (low == null ? "" : `${write(low, digits)} to ${write(high, digits)}`);
  const listen = (id, event, act) => find(id)?.addEventListener(event, act);

  /* ---- the map ---- */
  const cells = [...document.querySelectorAll("#heat button")];
  let shown = null;

  function paint() {
    const key = find("map-metric").value;
    const { digits, better, limits, sense, name } = (shown = { key, ...metrics[key] });
    for (const button of cells) {
      const row = rows[button.dataset.row];
      const found = row.metrics[key];
      const cell = button.parentElement;
      cell.classList.toggle("none", !found);
      cell.classList.toggle("mid", found?.[3] > 0.63 && found[3] <= 0.77);
      cell.classList.toggle("deep", found?.[3] > 0.77);
      cell.classList.toggle("best", found?.[4] === 1);
      if (found) cell.style.setProperty("--t", found[3]);
      button.textContent = write(found?.[0], digits);
      button.title = found ? range(found[1], found[2], digits) : "";
      button.setAttribute("aria-label", `${row.name}: ${found ? write(found[0], digits) : "no value"}`);
    }
    const [low, high] = (limits ?? [null, null]).map((value) => write(value, digits));
    const ends = better === "higher" ? [high, low] : [low, high];
    const words = better ? ["best", "worst"] : ["smallest", "largest"];
    find("scale-best").textContent = limits ? `${words[0]} ${ends[0]}` : "";
    find("scale-worst").textContent = limits ? `${ends[1]} ${words[1]}` : "";
    find("map-sense").textContent = sense;
    document.querySelector("#heat caption").textContent = name;
  }

  function narrow() {
    const wanted = [...document.querySelectorAll("select[data-axis]")].filter((select) => select.value);
    for (const row of document.querySelectorAll("#heat tbody tr")) {
      row.hidden = wanted.some((select) => row.getAttribute(`data-axis-${select.dataset.axis}`) !== select.value);
    }
    rove(cells.find((button) => !button.closest("tr").hidden));
  }

  /* One cell takes part in the tab order; arrow keys move it. */
  function rove(chosen) {
    for (const button of cells) button.tabIndex = button === chosen ? 0 : -1;
  }

  function step(event) {
    const moves = { ArrowRight: [0, 1], ArrowLeft: [0, -1], ArrowDown: [1, 0], ArrowUp: [-1, 0] };
    const move = moves[event.key];
    if (!move || !event.target.matches("button")) return;
    event.preventDefault();
    const lines = [...document.querySelectorAll("#heat tbody tr:not([hidden])")];
    let line = lines.indexOf(event.target.closest("tr"));
    let column = event.target.parentElement.cellIndex;
    do {
      line += move[0];
      column += move[1];
      if (!lines[line]?.cells[column] || column < 1) return;
    } while (!lines[line].cells[column].querySelector("button"));
    const next = lines[line].cells[column].querySelector("button");
    rove(next);
    next.focus();
  }

  const element = (name, text) => Object.assign(document.createElement(name), { textContent: text });

  function runOf(run) {
    if (!run.href) return element("span", run.error ? `failed: ${run.error}` : "not run");
    const link = Object.assign(element("a", "report"), { href: run.href });
    link.setAttribute("aria-label", `report of seed ${run.seed}`);
    return link;
  }

  function open(button) {
    const row = rows[button.dataset.row];
    const found = row.metrics[shown.key];
    rove(button);
    find("cell-title").textContent = row.name;
    const interval = found && range(found[1], found[2], shown.digits);
    find("cell-value").textContent =
      `${shown.name}: ${write(found?.[0], shown.digits)}${interval ? `, 95 % interval ${interval}` : ""}`;
    find("cell-metric").textContent = shown.name;
    find("cell-caveats").replaceChildren(...row.caveats.map((caveat) => element("li", caveat)));
    find("cell-runs").replaceChildren(...row.runs.map((run) => {
      const line = document.createElement("tr");
      const place = row.seeds.indexOf(run.seed);
      const value = element("td", write(place < 0 ? null : found?.[5][place], shown.digits));
      value.className = "n";
      const last = document.createElement("td");
      last.append(runOf(run));
      line.append(element("th", run.seed), value, last);
      return line;
    }));
    find("cell").showModal();
  }

  if (cells.length) {
    find("heat").addEventListener("keydown", step);
    for (const button of cells) button.addEventListener("click", () => open(button));
    listen("map-metric", "change", paint);
    for (const select of document.querySelectorAll("select[data-axis]")) select.addEventListener("change", narrow);
    listen("cell-close", "click", () => find("cell").close());
    listen("cell", "click", (event) => { if (event.target === find("cell")) find("cell").close(); });
    paint();
    narrow();
  }

  /* ---- the differences ---- */
  const pairs = [...document.querySelectorAll("#forest tbody tr")];

  function part(kind, found, worse, style) {
    const made = document.createElement("span");
    const clear = found[1] != null && found[1] * found[2] > 0;
    made.className = `${kind}${worse ? " worse" : ""}${clear ? " clear" : ""}`;
    Object.assign(made.style, style);
    return made;
  }

  function draw() {
    const key = find("difference-metric").value;
    const { digits, better, side } = metrics[key];
    const { low, high, zero, values } = differences[key];
    const at = (value) => `${(100 * (value - low)) / (high - low)}%`;
    for (const line of pairs) {
      const found = values[line.dataset.pair];
      const [, , track, ...texts] = line.cells;
      track.style.setProperty("--zero", at(0));
      track.replaceChildren();
      if (found) {
        const worse = better !== null && (better === "higher" ? found[0] < 0 : found[0] > 0);
        if (found[1] != null) {
          const width = `${(100 * (found[2] - found[1])) / (high - low)}%`;
          track.append(part("whisker", found, worse, { left: at(found[1]), width }));
        }
        track.append(part("point", found, worse, { left: at(found[0]) }));
      }
      const [difference, interval, p, held, seeds] = texts;
      track.dataset.value = difference.dataset.value = found?.[0] ?? "";
      difference.textContent = write(found?.[0], digits);
      interval.textContent = found ? range(found[1], found[2], digits) || "–" : "–";
      p.textContent = probability(found?.[3]);
      p.dataset.value = found?.[3] ?? "";
      held.textContent = probability(found?.[4]);
      held.dataset.value = found?.[4] ?? "";
      seeds.textContent = found?.[5] ?? "–";
    }
    find("forest-low").textContent = write(low, digits);
    find("forest-high").textContent = write(high, digits);
    find("forest-zero").style.left = `${100 * zero}%`;
    find("forest-low").hidden = zero < 0.3;
    find("forest-high").hidden = zero > 0.7;
    find("difference-sense").textContent = side;
  }

  function pick() {
    const wanted = find("difference-condition")?.value;
    for (const line of pairs) line.hidden = Boolean(wanted) && line.cells[0].textContent !== wanted;
  }

  if (pairs.length) {
    listen("difference-metric", "change", draw);
    listen("difference-condition", "change", pick);
    draw();
    pick();
  }

  /* ---- all metrics ---- */
  const table = find("all-metrics");

  function toggle(box) {
    const column = [...table.tHead.rows[0].cells].findIndex((head) => head.dataset.metric === box.dataset.column);
    for (const line of table.rows) line.cells[column].hidden = !box.checked;
  }

  function filter() {
    const words = find("all-filter").value.toLowerCase().split(/\s+/).filter(Boolean);
    const named = [...table.tHead.rows[0].cells].findIndex((head) => "metric" in head.dataset);
    let kept = 0;
    for (const line of table.tBodies[0].rows) {
      const text = [...line.cells].slice(0, named).map((cell) => cell.textContent.toLowerCase()).join(" ");
      line.hidden = !words.every((word) => text.includes(word));
      kept += !line.hidden;
    }
    find("all-count").textContent = words.length ? `${kept} of ${table.tBodies[0].rows.length} rows` : "";
  }

  for (const box of document.querySelectorAll("input[data-column]")) box.addEventListener("change", () => toggle(box));
  listen("all-filter", "input", filter);
  for (const part of document.querySelectorAll(".scripted")) part.hidden = false;

  /* ---- labels of the cost plot: each where it overlaps least ---- */
  const SIDES = ["top center", "bottom center", "middle right", "middle left", "top right", "bottom right", "top left", "bottom left"];

  function box(x, y, width, side) {
    const [vertical, horizontal] = side.split(" ");
    const gap = vertical === "middle" ? 9 : 4;
    const left = { left: x - width - gap, center: x - width / 2, right: x + gap }[horizontal];
    const top = { top: y - 22, middle: y - 8, bottom: y + 8 }[vertical];
    return { left, top, right: left + width, bottom: top + 15 };
  }

  const common = (a, b) =>
    Math.max(0, Math.min(a.right, b.right) - Math.max(a.left, b.left)) *
    Math.max(0, Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top));

  /* Each label in turn goes where it overlaps least with the others, the points and the margins; two passes. */
  function place(plot) {
    const { xaxis, yaxis, font } = plot._fullLayout;
    const frame = { left: 0, right: xaxis._length, top: 0, bottom: yaxis._length };
    const pen = document.createElement("canvas").getContext("2d");
    pen.font = `${font.size}px ${font.family}`;
    const traces = plot.data.map((trace, index) => ({ trace, index })).filter(({ trace }) => trace.meta?.labels);
    const points = traces.flatMap(({ trace, index }) => trace.text.map((text, number) => ({
      index, number, width: pen.measureText(text).width, x: xaxis.d2p(trace.x[number]), y: yaxis.d2p(trace.y[number]),
    })));
    const dots = points.map(({ x, y }) => ({ left: x - 6, right: x + 6, top: y - 6, bottom: y + 6 }));
    const cost = (point, side) => {
      const own = box(point.x, point.y, point.width, side);
      const others = points.filter((other) => other !== point && other.own).map((other) => other.own);
      const covered = [...dots, ...others].reduce((sum, other) => sum + common(own, other), 0);
      return covered + 3 * (15 * point.width - common(own, frame)) + SIDES.indexOf(side);
    };
    for (const point of [...points, ...points]) {
      point.side = SIDES.reduce((best, side) => (cost(point, side) < cost(point, best) ? side : best));
      point.own = box(point.x, point.y, point.width, point.side);
    }
    for (const { trace, index } of traces) {
      const sides = points.filter((point) => point.index === index).map(({ side }) => side);
      if (sides.join() !== trace.textposition.join()) Plotly.restyle(plot, { textposition: [sides] }, [index]);
    }
  }

  fedrobust.ready.then(() => {
    const plot = find("cost");
    if (!plot?.on) return;
    plot.on("plotly_afterplot", () => place(plot));
    place(plot);
  });
})();
