// What is said of the runs that are shown: findings, settings that differ, and samples before and after.
import { make } from "./curves.js";

// A part of the page is built again only if its content has changed: an opened sample stays open, a selection stays.
const built = new WeakMap();

function rebuild(place, content, build) {
  const text = JSON.stringify(content);
  if (built.get(place) === text) return;
  built.set(place, text);
  build();
}

export function showFindings(section, place, runs) {
  const content = runs.map(({ id, name, findings }) => ({ id, name, findings }));
  section.hidden = !content.length;
  rebuild(place, content, () => {
    const open = opened(place);
    place.replaceChildren(...content.map(({ id, name, findings }, k) => {
      const items = findings.map(({ text, warns }) => make("li", { className: warns ? "warns" : "" }, ...(warns ? [make("b", { textContent: "Check:" }), " "] : []), text));
      const warned = findings.filter((each) => each.warns).length;
      const title = make("summary", {}, make("bdi", { textContent: name }), warned ? `: ${warned} to check` : "");
      return keep(make("details", {}, title, make("ul", { className: "findings" }, ...items)), id, open, k < 2);
    }));
  });
}

export function showSettings(section, table, runs) {
  const names = [...new Set(runs.flatMap((run) => Object.keys(run.settings)))].sort();
  const differing = names.filter((name) => new Set(runs.map((run) => run.settings[name])).size > 1);
  section.hidden = runs.length < 2;
  const content = [runs.map((run) => run.name), differing.map((name) => [name, ...runs.map((run) => run.settings[name] ?? "–")])];
  rebuild(table, content, () => {
    const heads = ["Setting", ...content[0]].map((text) => make("th", { scope: "col", textContent: text }));
    const lines = content[1].map(([name, ...values]) => make("tr", {}, make("th", { scope: "row", textContent: name }),
      ...values.map((textContent) => make("td", { textContent, dir: "auto" }))));
    const caption = lines.length ? "" : "All settings of these runs are the same.";
    table.replaceChildren(make("caption", { textContent: caption }), make("thead", {}, make("tr", {}, ...heads)), make("tbody", {}, ...lines));
  });
}

export function showSamples(section, place, runs) {
  const content = runs.filter((run) => run.answered.length).map(({ id, name, answered }) => ({ id, name, answered }));
  section.hidden = !content.length;
  rebuild(place, content, () => {
    const open = opened(place);
    place.replaceChildren(...content.flatMap(({ id, name, answered }, at) => [
      make("h3", {}, make("bdi", { textContent: name })),
      ...answered.map((each, k) => keep(prompt(each), `${id} ${each.id}`, open, at === 0 && k === 0)),
    ]));
  });
}

function prompt({ prompt, lacks, before, after }) {
  const title = make("summary", {}, make("span", { className: "text", dir: "auto", textContent: prompt }));
  const missing = lacks ? [make("p", { className: "absent", textContent: lacks })] : [];
  return make("details", {}, title, ...missing, make("div", { className: "sides" }, side("Before", before), side("After", after)));
}

function side(heading, samples) {
  const items = samples.map(({ parts }) => make("li", {}, make("div", { className: "text", dir: "auto" },
    ...parts.map(([text, isNew]) => (isNew ? make("mark", { textContent: text }) : text)))));
  return make("div", {}, make("h4", { textContent: heading }), make("ol", {}, ...items));
}

const opened = (place) => new Map([...place.querySelectorAll("details")].map((each) => [each.dataset.key, each.open]));

function keep(details, key, open, atFirst) {
  details.dataset.key = key;
  details.open = open.get(key) ?? atFirst;
  return details;
}
