// Draws the curves of one run.
import { Chart } from "./curves.js";

const SIDES = { teacher: "--teacher", student: "--after" }; // the colours of the bars below
const plots = JSON.parse(document.getElementById("data").textContent);
const places = document.querySelectorAll(".plot");

plots.forEach(({ title, steps, series, marks }, k) => {
  const curves = series.map(({ name, values }, at) => ({
    name, values, x: steps, every: 1, colour: SIDES[name] ?? `--series-${at % 6}`, dashed: at >= 6,
  }));
  new Chart(places[k], title).show({ unit: "step", window: 1, series: curves, marks });
});
