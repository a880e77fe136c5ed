// The runs below a folder: their list, their curves over each other, and what differs between them.
// Texts go into textContent, never into HTML.
import { Chart, make, short } from "./curves.js";
import { showFindings, showSamples, showSettings } from "./samples.js";

const $ = (id) => document.getElementById(id);
const EVERY = 1_000; // milliseconds between two looks
const SILENT = 15_000; // until a request is given up
const SHOWN_AT_FIRST = 6; // runs: as many as there are colours
const COLOURS = 6;
const UNITS = { step: "step", hours: "hours", teacher_tokens: "teacher tokens" };

const chosen = new Map(); // id → whether the run is shown; every run that was ever listed
const whole = new Map(); // id → { version, ...document } of the runs that are shown
const colours = new Map(); // id → number, which stays while the page is open
const rows = new Map(); // id → the row of the list
const figures = new Map(); // curve → { figure, chart, plot, drawn }
let listed = [];

// ---- Asking

async function ask(path) {
  const reply = await fetch(path, { cache: "no-store", signal: AbortSignal.timeout(SILENT) });
  if (!reply.ok) throw new Error(`status ${reply.status}`);
  return reply.json();
}

async function look() {
  try {
    const { folder, runs } = await ask("api/runs");
    $("folder").textContent = `below ${folder}`;
    if (document.title !== `Runs below ${folder}`) document.title = `Runs below ${folder}`;
    listed = runs;
    for (const run of runs) {
      if (!chosen.has(run.id)) chosen.set(run.id, shown().length < SHOWN_AT_FIRST && !run.problem);
      if (!colours.has(run.id)) colours.set(run.id, colours.size);
    }
    list();
    await fetchShown();
    $("page").classList.remove("old");
    say(runs.length ? `${runs.length} run${runs.length > 1 ? "s" : ""}, ${shown().length} shown.` : "No run is here yet. A run appears with its first step.");
  } catch (error) {
    $("page").classList.add("old");
    say(`The server does not answer (${error instanceof TypeError ? "no connection" : error.message}). Trying again.`);
  }
}

// A status that is said again is read out again.
function say(text) {
  if ($("state").textContent !== text) $("state").textContent = text;
}

async function fetchShown() {
  let changed = false;
  for (const id of whole.keys()) {
    if (!shown().some((run) => run.id === id)) changed = whole.delete(id);
  }
  for (const { id, version } of shown()) {
    if (whole.get(id)?.version === version) continue;
    whole.set(id, { version, ...(await ask(`api/runs/${id}`)) });
    changed = true;
  }
  if (changed) showAll();
}

const shown = () => listed.filter((run) => chosen.get(run.id) && !run.problem);

async function watch() {
  for (;;) {
    if (!document.hidden) await look();
    await new Promise((done) => setTimeout(done, EVERY));
  }
}

// ---- The list

const looks = (id) => ({ colour: `--series-${colours.get(id) % COLOURS}`, dashed: colours.get(id) % (2 * COLOURS) >= COLOURS });

function age(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  if (seconds < 90) return `${Math.round(seconds)} s ago`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min ago`;
  return seconds < 172800 ? `${Math.round(seconds / 3600)} h ago` : `${Math.round(seconds / 86400)} days ago`;
}

function row(run) {
  const box = make("input", { type: "checkbox" });
  box.addEventListener("change", () => { chosen.set(run.id, box.checked); look(); });
  const swatch = make("span", { className: looks(run.id).dashed ? "swatch dashed" : "swatch" });
  swatch.style.borderColor = `var(${looks(run.id).colour})`;
  const name = make("bdi", { textContent: run.name });
  const cells = Array.from({ length: 6 }, () => make("td"));
  return { box, cells, element: make("tr", {}, make("th", { scope: "row" }, make("label", {}, box, swatch, name)), ...cells) };
}

function list() {
  for (const run of listed) {
    if (!rows.has(run.id)) rows.set(run.id, row(run));
    const { box, cells } = rows.get(run.id);
    box.checked = Boolean(chosen.get(run.id)) && !run.problem;
    box.disabled = Boolean(run.problem);
    const texts = run.problem ? [run.problem, age(run.age), "", "", "", ""] : [
      `${run.steps}${run.max_steps ? ` of ${run.max_steps}` : ""}`,
      age(run.age),
      run.started ?? "–",
      run.model ?? "–",
      run.teacher_tokens == null ? "–" : run.teacher_tokens.toLocaleString("en"),
      `${run.warnings}`,
    ];
    cells.forEach((cell, k) => { if (cell.textContent !== texts[k]) cell.textContent = texts[k]; });
    cells[0].className = run.problem ? "problem" : "";
  }
  const order = listed.map((run) => rows.get(run.id).element);
  if (order.some((element, k) => $("runs").children[k] !== element) || $("runs").children.length > order.length) $("runs").replaceChildren(...order);
  $("runs-caption").textContent = listed.length ? "The newest first; each has its colour in every chart." : "";
}

function choose(all) {
  for (const run of listed) chosen.set(run.id, all && !run.problem);
  look();
}

$("all").addEventListener("click", () => choose(true));
$("none").addEventListener("click", () => choose(false));

// ---- The curves

const axis = () => document.querySelector("input[name=axis]:checked").value;

function showAll() {
  const runs = shown().filter((run) => whole.has(run.id)).map((run) => ({ ...run, ...whole.get(run.id) }));
  curves(runs);
  showFindings($("findings"), $("findings-list"), runs);
  showSettings($("settings"), $("settings-table"), runs);
  showSamples($("samples"), $("samples-list"), runs);
}

function curves(runs) {
  const over = axis();
  const lacking = runs.filter((run) => !run.x[over]);
  $("lacking").textContent = lacking.length ? `Without ${UNITS[over]}, which these runs did not record: ${lacking.map((run) => run.name).join(", ")}.` : "";
  const drawn = runs.filter((run) => run.x[over]);
  const plots = new Map();
  for (const run of drawn) {
    for (const figure of run.figures) {
      if (!plots.has(figure.name)) plots.set(figure.name, { ...figure, series: [], marks: [] });
      const plot = plots.get(figure.name);
      for (const { curve, x, text } of run.warned) {
        if (curve === figure.name && x[over] != null) plot.marks.push({ series: plot.series.length, x: x[over], text });
      }
      plot.series.push({ name: run.name, x: run.x[over], values: figure.values, every: run.every, ...looks(run.id) });
    }
  }
  const order = [...plots.values()].sort((a, b) => a.place - b.place || (a.name < b.name ? -1 : 1));
  for (const [name, { figure, chart }] of figures) {
    if (plots.has(name)) continue;
    seen.unobserve(figure);
    chart.close();
    figure.remove();
    figures.delete(name);
  }
  order.forEach((plot, k) => {
    if (!figures.has(plot.name)) figures.set(plot.name, place(plot));
    const each = figures.get(plot.name);
    const window = plot.name.startsWith("eval_") ? 1 : Number($("window").value); // an evaluation is a mean already
    each.plot = { unit: UNITS[over], window, series: plot.series, marks: plot.marks };
    each.drawn = false;
    if ($("charts").children[k] !== each.figure) $("charts").insertBefore(each.figure, $("charts").children[k] ?? null);
    if (each.seen) draw(each);
  });
}

function place(plot) {
  const title = make("h3", { textContent: plot.title });
  if (plot.unit) title.append(" ", make("small", { textContent: plot.unit }));
  const drawing = make("div", { className: "plot" });
  const figure = make("figure", {}, title, drawing, make("figcaption", { textContent: plot.meaning }));
  figure.dataset.curve = plot.name;
  seen.observe(figure);
  return { figure, chart: new Chart(drawing, plot.title), plot: null, drawn: false, seen: false };
}

// A chart is drawn while it is on the screen, or near it: a page of many charts stays quick.
const seen = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) {
    const each = figures.get(target.dataset.curve);
    if (!each) continue;
    each.seen = isIntersecting;
    if (isIntersecting) draw(each);
  }
}, { rootMargin: "300px" });

function draw(each) {
  if (each.drawn || !each.plot) return;
  each.drawn = true;
  each.chart.show(each.plot);
}

$("choices").addEventListener("change", showAll);
$("choices").addEventListener("submit", (event) => event.preventDefault());

watch();
