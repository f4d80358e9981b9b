"use strict";
/* What every report does in the browser: themes, plots, sortable tables, texts to copy. It stores nothing and loads nothing. */
const fedrobust = (() => {
  const root = document.documentElement;
  const data = JSON.parse(document.getElementById("embedded").textContent);
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const plots = new Map();
  const sorter = new Intl.Collator("en", { numeric: true });
  let library = null;

  const theme = () => root.dataset.theme || (dark.matches ? "dark" : "light");

  function nameTheme() {
    document.getElementById("theme").textContent = theme() === "dark" ? "Light colours" : "Dark colours";
    for (const [id, figure] of plots) plot(id, figure);
    document.dispatchEvent(new CustomEvent("fedrobust:theme", { detail: theme() }));
  }

  function colours() {
    const style = getComputedStyle(root);
    const names = ["ink", "muted", "line", "grid", "surface", "paper", "accent", "bad", "good", "blue", "vermilion", "green"];
    return Object.fromEntries(names.map((name) => [name, style.getPropertyValue(`--${name}`).trim()]));
  }

  /* plotly.js is embedded deflated; the page's policy lists the hash of its text, so it may run as a script. */
  function plotly() {
    library ??= (async () => {
      const packed = document.getElementById("plotly");
      if (!packed) throw new Error("this page holds no plotly.js");
      if (!("DecompressionStream" in window)) throw new Error("this browser is too old (it has no DecompressionStream)");
      const bytes = Uint8Array.from(atob(packed.textContent), (letter) => letter.charCodeAt(0));
      const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
      const script = document.createElement("script");
      script.textContent = await new Response(stream).text();
      document.head.append(script);
      if (!window.Plotly) throw new Error("this browser did not run the plots' script");
      return window.Plotly;
    })();
    return library;
  }

  function unplottable(error) {
    root.classList.add("no-plots");
    const place = document.getElementById("no-plots");
    place.textContent = `The plots cannot be drawn: ${error.message}. Every table of this page can be read without them.`;
    place.hidden = false;
    for (const details of document.querySelectorAll("figure.plotted details")) details.open = true;
  }

  const isObject = (value) => value !== null && typeof value === "object" && !Array.isArray(value);

  /* The second's values over the first's, both left as they are. */
  function over(first, second) {
    const made = { ...first };
    for (const [key, value] of Object.entries(second)) {
      made[key] = isObject(value) && isObject(made[key]) ? over(made[key], value) : value;
    }
    return made;
  }

  function put(target, path, value) {
    const keys = path.split(".");
    const last = keys.pop();
    for (const key of keys) target = target[key] ??= {};
    target[last] = value;
  }

  /* `meta: {colours: {"marker.color": "ink"}}` of a trace names colours that change with the theme. */
  function tinted(part, palette) {
    const made = structuredClone(part);
    for (const [path, name] of Object.entries(made.meta?.colours ?? {})) put(made, path, palette[name]);
    return made;
  }

  function hasLegend(figure) {
    const listed = (figure.data ?? []).filter((trace) => trace.type !== "heatmap" && trace.showlegend !== false);
    return figure.layout?.showlegend ?? (listed.length > 1 || listed.some((trace) => trace.showlegend));
  }

  function themed(figure) {
    const palette = colours();
    const axis = {
      gridcolor: palette.grid, linecolor: palette.line, zerolinecolor: palette.line, tickcolor: palette.line,
      automargin: true, title: { font: { color: palette.muted }, standoff: 8 },
    };
    const base = {
      font: { family: getComputedStyle(document.body).fontFamily, size: 12, color: palette.ink },
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", autosize: true, dragmode: false,
      // The camera button stands in the upper margin, beside the legend; without one it needs room of its own.
      margin: { l: 8, r: 8, t: hasLegend(figure) ? 8 : 36, b: 8 }, height: 320,
      hoverlabel: { bgcolor: palette.surface, bordercolor: palette.line, font: { color: palette.ink }, align: "left" },
      legend: { orientation: "h", x: 0, xanchor: "left", y: 1.02, yanchor: "bottom", bgcolor: "rgba(0,0,0,0)" },
      xaxis: axis, yaxis: axis,
    };
    for (const key of Object.keys(figure.layout ?? {})) if (/^[xy]axis\d+$/.test(key)) base[key] = axis;
    const layout = tinted(over(base, figure.layout ?? {}), palette);
    return { data: (figure.data ?? []).map((trace) => tinted(trace, palette)), layout };
  }

  /* Draws a figure, or draws it again. Returns a promise that is fulfilled once it is drawn. */
  async function plot(id, figure) {
    plots.set(id, figure);
    const place = document.getElementById(id);
    try {
      const library = await plotly();
      if (plots.get(id) !== figure) return;
      const { data: traces, layout } = themed(figure);
      const settings = {
        responsive: true, displaylogo: false, displayModeBar: "hover", modeBarButtons: [["toImage"]], scrollZoom: false,
        showTips: false,
      };
      await library.react(place, traces, layout, settings);
      // Hundreds of marks and ticks are no use to a screen reader; the caption and the table are read instead.
      for (const drawing of place.querySelectorAll("svg.main-svg")) drawing.setAttribute("aria-hidden", "true");
      place.dataset.drawn = theme();
    } catch (error) {
      unplottable(error);
    }
  }

  function plotAll() {
    const drawn = [];
    for (const place of document.querySelectorAll("[data-plot]")) {
      const figure = data.plots[place.id];
      const choices = figure.choices;
      const select = document.querySelector(`select[data-choice-of="${CSS.escape(place.id)}"]`);
      if (choices && select) {
        select.hidden = false;
        select.addEventListener("change", () => plot(place.id, choices[select.value]));
      }
      drawn.push(plot(place.id, choices ? choices[select?.value ?? Object.keys(choices)[0]] : figure));
    }
    return Promise.all(drawn);
  }

  /* Numbers by their value, texts in natural order; missing values come last either way. */
  function compare(first, second, sign) {
    if (first === "" || second === "") return (first === "") - (second === "");
    const [a, b] = [Number(first), Number(second)];
    return sign * (Number.isNaN(a) || Number.isNaN(b) ? sorter.compare(first, second) : a - b);
  }

  const valueOf = (row, column) => {
    const cell = row.cells[column];
    return cell.dataset.value ?? cell.textContent.trim();
  };

  function sortBy(table, column, heads) {
    const descending = heads[column].ariaSort === "ascending";
    for (const head of heads) head.removeAttribute("aria-sort");
    heads[column].setAttribute("aria-sort", descending ? "descending" : "ascending");
    const body = table.tBodies[0];
    const rows = [...body.rows];
    rows.sort((a, b) => compare(valueOf(a, column), valueOf(b, column), descending ? -1 : 1));
    body.append(...rows);
  }

  /* Gives the headings of a table buttons that sort it. */
  function sortable(table) {
    const heads = [...table.tHead.rows[table.tHead.rows.length - 1].cells];
    heads.forEach((head, column) => {
      if (head.querySelector("button")) return;
      const button = document.createElement("button");
      button.type = "button";
      button.append(...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => sortBy(table, column, heads));
    });
  }

  async function copy(button) {
    const text = document.getElementById(button.dataset.copy).textContent;
    const before = button.textContent;
    try {
      await navigator.clipboard.writeText(text);
      button.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(document.getElementById(button.dataset.copy));
      button.textContent = "Selected: press Ctrl+C";
    }
    setTimeout(() => { button.textContent = before; }, 2000);
  }

  document.getElementById("theme").addEventListener("click", () => {
    root.dataset.theme = theme() === "dark" ? "light" : "dark";
    nameTheme();
  });
  dark.addEventListener("change", nameTheme);
  document.getElementById("theme").hidden = false;
  nameTheme();
  document.querySelectorAll("table[data-sortable]").forEach(sortable);
  for (const button of document.querySelectorAll("button[data-copy]")) {
    button.hidden = false;
    button.addEventListener("click", () => copy(button));
  }
  const ready = plotAll();
  return { data, plot, sortable, theme, colours, plotly, ready };
})();
