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

// The last known value stands in the legend while nobody points at the chart.
function lastKnown(values) {
  return values.findLast((value) => value !== null);
}

function draw(place, plot) {
  const last = plot.steps.length - 1;
  const series = plot.series.map((each, k) => ({
    label: each.name,
    stroke: colour(SIDES[each.name] ?? `--series-${k % 6}`),
    width: 1.5,
    dash: k >= 6 ? [6, 4] : undefined,
    spanGaps: true,
    points: { show: each.values.filter((value) => value !== null).length < 40 },
    value: (_, value, __, at) => short(at === last ? lastKnown(each.values) : value),
  }));
  const options = {
    width: place.clientWidth,
    height: HEIGHT,
    scales: { x: { time: false } },
    legend: { live: true },
    hooks: { setLegend: [(chart) => chart.legend.idx ?? chart.setLegend({ idx: last })] },
    cursor: { drag: { x: true, y: false } },
    series: [{ label: "step", value: (_, value) => short(value) }, ...series],
    axes: [axis({ size: 32 }), axis({ size: 56, values: (_, ticks) => ticks.map(short) })],
  };
  const chart = new uPlot(options, [plot.steps, ...plot.series.map((each) => each.values)], place);
  chart.setLegend({ idx: last });
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
