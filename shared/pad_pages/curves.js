// One chart of curves over steps, hours or tokens: the one module of report.html and of the page of runs.
// Text from the data goes into a canvas or textContent, never into HTML.
const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const HEIGHT = 220;
const FAINT = 0.3;
const FEW_POINTS = 40; // a curve of fewer has dots
const MOST_ROWS = 20; // of the table
const NEAR = 12; // pixels between the pointer and a mark
const charts = new Set();

export function short(value) {
  if (value === null || value === undefined) return "–";
  const size = Math.abs(value);
  if (size >= 1e6) return `${+(value / 1e6).toPrecision(3)}M`;
  if (size >= 1e4) return `${+(value / 1e3).toPrecision(3)}k`;
  return size && size < 1e-3 ? value.toExponential(1) : `${+value.toPrecision(4)}`;
}

export function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

// A table that may be wider than its place, and that the keyboard can scroll.
export function wide(name, table) {
  const place = make("div", { className: "wide", tabIndex: 0, role: "group" }, table);
  place.setAttribute("aria-label", name);
  return place;
}

// Means of up to `count` known values that end at each; a value that is not known has none.
export function average(values, count) {
  const recent = [];
  return values.map((value) => {
    if (value === null || value === undefined) return value;
    recent.push(value);
    if (recent.length > count) recent.shift();
    return recent.reduce((sum, each) => sum + each, 0) / recent.length;
  });
}

const known = (value) => value !== null && value !== undefined;

function axis(extra) {
  return { stroke: colour("--muted"), grid: { stroke: colour("--line"), width: 1 }, ticks: { show: false }, ...extra };
}

/* Draws into a place of the page: the curves, a line that reads them out, and their table.

   `show` takes { unit, window, series: [{ name, x, values, every, colour, dashed }], marks: [{ series, x, text }] }.
   A window of more than one step draws means over it, and the values faint; each value stands for `every` steps.
   Dragging zooms, as + and − do; a double click or Escape resets; the arrow keys read the values. */
export class Chart {
  constructor(place, title) {
    this.title = title;
    this.plot = make("div", { className: "drawn", tabIndex: 0, role: "group" });
    this.plot.setAttribute("aria-label", `${title}: curves. Arrow keys read values, plus and minus zoom, Escape resets.`);
    this.note = make("p", { className: "note", role: "status" });
    this.table = make("details", { className: "numbers" }, make("summary", { textContent: "Table" }));
    place.replaceChildren(this.plot, this.note, this.table);
    this.plot.addEventListener("keydown", (event) => this.key(event));
    this.table.addEventListener("toggle", () => this.fill());
    this.sized = new ResizeObserver(() => this.chart?.setSize({ width: this.plot.clientWidth, height: HEIGHT }));
    this.sized.observe(this.plot);
    charts.add(this);
  }

  close() {
    charts.delete(this);
    this.sized.disconnect();
    this.chart?.destroy();
  }

  show(shown) {
    const zoom = this.zoomed();
    const sameCurves = this.shown && JSON.stringify(looks(this.shown)) === JSON.stringify(looks(shown));
    const sameAxis = this.shown?.unit === shown.unit;
    this.shown = shown;
    this.averaged = shown.series.map((each) => (shown.window > 1 ? average(each.values, Math.max(1, Math.round(shown.window / each.every))) : each.values));
    this.data = joined(shown.series, shown.window > 1 ? this.averaged : null);
    if (sameCurves) this.chart.setData(this.data, !zoom);
    else this.draw();
    if (zoom && sameAxis) this.chart.setScale("x", zoom);
    this.settle();
    this.fill();
  }

  // The part that is zoomed to; null for all of it.
  zoomed() {
    if (!this.chart || !this.data[0].length) return null;
    const [{ min, max }, xs] = [this.chart.scales.x, this.data[0]];
    return min > xs[0] || max < xs.at(-1) ? { min, max } : null;
  }

  draw() {
    this.chart?.destroy();
    const { series, unit, window } = this.shown;
    const drawn = series.flatMap((each, k) => {
      const line = { label: each.name, stroke: colour(each.colour), dash: each.dashed ? [6, 4] : undefined, spanGaps: true };
      const few = each.values.filter(known).length < FEW_POINTS;
      const main = { ...line, width: 1.5, points: { show: few && window <= 1 }, value: (_, value) => short(known(value) ? value : this.last(k)) };
      return window > 1 ? [{ ...line, class: "raw", width: 1, alpha: FAINT, points: { show: few } }, main] : [main];
    });
    this.chart = new uPlot({
      width: this.plot.clientWidth,
      height: HEIGHT,
      scales: { x: { time: false } },
      legend: { live: true },
      cursor: { drag: { x: true, y: false }, hover: { skip: [null, undefined] } },
      hooks: { setLegend: [() => this.settle()], setCursor: [(chart) => this.point(chart)], draw: [(chart) => this.mark(chart)] },
      series: [{ label: unit, value: (_, value) => short(value) }, ...drawn],
      axes: [axis({ size: 32, values: (_, ticks) => ticks.map(short) }), axis({ size: 56, values: (_, ticks) => ticks.map(short) })],
    }, this.data, this.plot);
    const canvas = this.chart.root.querySelector("canvas");
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", this.title);
  }

  // The last values stand in the legend while nobody points at the chart.
  settle() {
    if (this.chart && this.chart.cursor.idx == null && this.chart.legend.idx !== this.data[0].length - 1 && this.data[0].length) {
      this.chart.setLegend({ idx: this.data[0].length - 1 });
    }
  }

  last(k) {
    return this.chart?.cursor.idx == null ? this.averaged[k].findLast(known) : null;
  }

  // Marks stand on the curves: { x, y, text }.
  marks() {
    return this.shown.marks.flatMap(({ series, x, text }) => {
      const { x: xs } = this.shown.series[series];
      const at = xs.findLastIndex((each, k) => known(each) && each <= x && known(this.averaged[series][k]));
      return at < 0 ? [] : [{ x, y: this.averaged[series][at], text: `${this.shown.series[series].name}, ${this.shown.unit} ${short(x)}: ${text}` }];
    });
  }

  mark(chart) {
    const { ctx, bbox } = chart;
    const size = 6 * devicePixelRatio;
    ctx.save();
    ctx.beginPath();
    ctx.rect(bbox.left, bbox.top, bbox.width, bbox.height);
    ctx.clip();
    ctx.fillStyle = colour("--warn");
    for (const { x, y } of this.marks()) {
      const [left, top] = [chart.valToPos(x, "x", true), chart.valToPos(y, "y", true)];
      ctx.beginPath();
      ctx.moveTo(left, top - size);
      ctx.lineTo(left + size, top + size);
      ctx.lineTo(left - size, top + size);
      ctx.fill();
    }
    ctx.restore();
  }

  point(chart) {
    const { left, top } = chart.cursor;
    const near = ({ x, y }) => Math.hypot(chart.valToPos(x, "x") - left, chart.valToPos(y, "y") - top) < NEAR;
    const found = left >= 0 && this.shown.marks.length ? this.marks().find(near) : null;
    if (found || this.pointed) this.note.textContent = found?.text ?? "";
    this.pointed = Boolean(found);
  }

  key(event) {
    const xs = this.data[0];
    const chart = this.chart;
    const { min, max } = chart.scales.x;
    const at = chart.cursor.idx ?? xs.length - 1;
    const moves = { ArrowLeft: -1, ArrowRight: 1, Home: -xs.length, End: xs.length };
    const zooms = { "+": 0.5, "=": 0.5, "-": 2 };
    if (event.ctrlKey || event.metaKey || event.altKey || !xs.length) return;
    if (event.key in moves) this.read(Math.min(xs.length - 1, Math.max(0, at + moves[event.key])));
    else if (event.key in zooms) {
      const half = ((max - min) / 2) * zooms[event.key];
      const middle = Math.min(max, Math.max(min, xs[at]));
      chart.setScale("x", { min: Math.max(xs[0], middle - half), max: Math.min(xs.at(-1), middle + half) });
    } else if (event.key === "Escape") chart.setScale("x", { min: xs[0], max: xs.at(-1) });
    else return;
    event.preventDefault();
  }

  read(index) {
    const { series, unit } = this.shown;
    const x = this.data[0][index];
    this.chart.setCursor({ left: this.chart.valToPos(x, "x"), top: 0 });
    this.note.textContent = [`${unit} ${short(x)}`, ...series.map((each, k) => `${each.name} ${short(upTo(each.x, this.averaged[k], x))}`)].join("; ");
  }

  fill() {
    this.table.querySelector(".wide")?.remove();
    if (!this.table.open || !this.shown) return;
    const { series, unit, window } = this.shown;
    const xs = this.data[0];
    const rows = Math.min(MOST_ROWS, xs.length);
    const shownXs = Array.from({ length: rows }, (_, k) => xs[rows > 1 ? Math.floor((k * (xs.length - 1)) / (rows - 1)) : 0]);
    const header = make("tr", {}, ...[unit, ...series.map((each) => each.name)].map((text) => make("th", { scope: "col", textContent: text })));
    const body = shownXs.map((x) => make("tr", {}, make("th", { scope: "row", textContent: short(x) }),
      ...series.map((each, k) => make("td", { textContent: short(upTo(each.x, this.averaged[k], x)) }))));
    const caption = `${window > 1 ? `Means of ${window} steps; the` : "The"} last one up to each ${unit}`;
    this.table.append(wide(`${this.title}: table`, make("table", {}, make("caption", { textContent: caption }), make("thead", {}, header), make("tbody", {}, ...body))));
  }
}

function upTo(xs, values, x) {
  const at = xs.findLastIndex((each, k) => known(each) && each <= x && known(values[k]));
  return at < 0 ? null : values[at];
}

function looks({ series, unit, window }) {
  return [unit, window > 1, series.map(({ name, colour, dashed }) => [name, colour, dashed]), series.map(({ values }) => values.filter(known).length < FEW_POINTS)];
}

// All curves over one axis, as uPlot wants them: the x of each, and a gap for curves that have no point there.
function joined(series, averaged) {
  const tables = series.map(({ x, values }, k) => {
    const kept = x.map((_, at) => at).filter((at) => known(x[at]));
    const columns = averaged ? [values, averaged[k]] : [values];
    return [kept.map((at) => x[at]), ...columns.map((column) => kept.map((at) => column[at]))];
  });
  return tables.length > 1 ? uPlot.join(tables) : tables[0];
}

matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  for (const chart of charts) {
    if (!chart.chart) continue;
    const zoom = chart.zoomed();
    chart.draw();
    if (zoom) chart.chart.setScale("x", zoom);
    chart.settle();
  }
});
