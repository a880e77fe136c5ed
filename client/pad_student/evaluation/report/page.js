// Draws the curves. Text from the data goes into a canvas or textContent, never into HTML.
const plots = JSON.parse(document.getElementById("data").textContent);
const places = document.querySelectorAll(".plot");
const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const HEIGHT = 220;
const SIDES = { teacher: "--teacher", student: "--after" }; // the colours of the bars below
let drawn = [];

function short(value) {
  if (value === null || value === undefined) return "–";
  const size = Math.abs(value);
  if (size >= 1e6) return `${+(value / 1e6).toPrecision(3)}M`;
  if (size >= 1e4) return `${+(value / 1e3).toPrecision(3)}k`;
  return size && size < 1e-3 ? value.toExponential(1) : `${+value.toPrecision(4)}`;
}

function axis(extra) {
  return { stroke: colour("--muted"), grid: { stroke: colour("--line"), width: 1 }, ticks: { show: false }, ...extra };
}

function draw(place, plot) {
  const series = plot.series.map((each, k) => ({
    label: each.name,
    stroke: colour(SIDES[each.name] ?? `--series-${k % 6}`),
    width: 1.5,
    dash: k >= 6 ? [6, 4] : undefined,
    points: { show: plot.steps.length < 40 },
    value: (_, value) => short(value),
  }));
  const options = {
    width: place.clientWidth,
    height: HEIGHT,
    scales: { x: { time: false } },
    legend: { live: true },
    cursor: { drag: { x: true, y: false } },
    series: [{ label: "step", value: (_, value) => short(value) }, ...series],
    axes: [axis({ size: 32 }), axis({ size: 56, values: (_, ticks) => ticks.map(short) })],
  };
  const chart = new uPlot(options, [plot.steps, ...plot.series.map((each) => each.values)], place);
  chart.root.querySelector("canvas").setAttribute("aria-label", plot.title);
  return chart;
}

function drawAll() {
  drawn.forEach((chart) => chart.destroy());
  drawn = plots.map((plot, k) => draw(places[k], plot));
}

drawAll();
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
addEventListener("resize", () => {
  drawn.forEach((chart, k) => chart.setSize({ width: places[k].clientWidth, height: HEIGHT }));
});
